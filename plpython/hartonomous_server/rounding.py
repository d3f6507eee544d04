"""Rounding that keeps a projection: rows of a coarse dtype whose four coordinates are exactly those wanted.

Plain rounding to BF16 moves a token's position by about 1e-3. So a row's elements are rounded one after the other, those with the largest
influence on the position first, each to its lower or its upper neighbour, whichever brings the error of the position so far nearer to zero
(error diffusion, as in sigma-delta modulation). What the smallest elements leave over is removed by changing up to four elements by a unit.
"""

import numpy

from .dtype import below_and_above

TOLERANCE = 1e-6  # of the position
FINE = 48  # elements of least influence that the search may change
LIMITS = (1.5, 4.5)  # units that an element may be off; the second for short rows, which have less choice
GOOD_ENOUGH = 4e-6  # to try no second limit
MAX_STEPS = 40
KEYS = numpy.array([1, 1_000_003, 998_244_353, 1_000_000_007], dtype=numpy.int64)


def round_rows(ideal, influence, dtype):
    """Values of the dtype near `ideal` (rows, dim), and what is left of influenceᵀ · (values - ideal), (rows, 4)."""
    below, above = below_and_above(ideal, dtype)
    values = numpy.where(ideal - below <= above - ideal, below, above)
    error = (values - ideal) @ influence
    coarse = numpy.flatnonzero(numpy.abs(error).max(axis=1, initial=0) > TOLERANCE)
    if len(coarse):
        order = numpy.argsort(-(above - below)[coarse] * numpy.abs(influence).max(axis=1), axis=1, kind="stable")
        values[coarse] = diffuse(ideal[coarse], below[coarse], above[coarse], influence, order)
        error[coarse] = (values[coarse] - ideal[coarse]) @ influence
        for row, fine in zip(coarse, order[:, -FINE:]):
            if numpy.abs(error[row]).max() > TOLERANCE:
                units = (above - below)[row, fine]
                for limit in LIMITS:
                    values[row, fine] = refine(values[row, fine], ideal[row, fine], units, influence[fine], error[row], dtype, limit)
                    error[row] = (values[row] - ideal[row]) @ influence
                    if numpy.abs(error[row]).max() < GOOD_ENOUGH:
                        break
    return values, error


def diffuse(ideal, below, above, influence, order):
    """Round each row in the order of its own, carrying the error of its position along."""
    rows = numpy.arange(len(ideal))
    error = numpy.zeros((len(ideal), influence.shape[1]))
    values = numpy.empty_like(ideal)
    for column in order.T:
        weight = influence[column]
        low, high = below[rows, column], above[rows, column]
        down = error + weight * (low - ideal[rows, column])[:, None]
        up = error + weight * (high - ideal[rows, column])[:, None]
        rise = (up**2).sum(axis=1) < (down**2).sum(axis=1)
        error = numpy.where(rise[:, None], up, down)
        values[rows, column] = numpy.where(rise, high, low)
    return values


def refine(values, ideal, units, influence, error, dtype, limit):
    """Change a few elements by whole units until the error is within tolerance, or cannot be made smaller."""
    values = values.copy()
    for _ in range(MAX_STEPS):
        left = numpy.abs(error).max()
        if left <= TOLERANCE:
            break
        element, change = choices(values, ideal, units, limit, dtype)
        effect = influence[element] * change[:, None]
        best = best_pair(element, effect, error)
        if best is None:
            best = best_four(element, effect, error)
        if best is None:
            break
        moved = values.copy()
        for choice in best:
            moved[element[choice]] += change[choice]
        new_error = error + (moved - values) @ influence
        if (numpy.abs(moved - ideal) > 2 * limit * units).any() or (new_error**2).sum() >= (error**2).sum():
            break
        values, error = moved, new_error
    return values


def choices(values, ideal, units, limit, dtype):
    """Every change of one element by 1 to 4 units that the dtype holds and that leaves it near its ideal; and no change."""
    steps = numpy.array([-4, -3, -2, -1, 1, 2, 3, 4])
    changed = values[:, None] + steps * units[:, None]
    allowed = numpy.abs(changed - ideal[:, None]) <= limit * units[:, None]
    # above a power of two the units are twice as large
    allowed &= below_and_above(changed, dtype)[0] == changed
    element, step = numpy.nonzero(allowed)
    return numpy.append(element, 0), numpy.append(steps[step] * units[element], 0.0)


def best_pair(element, effect, error):
    """The two changes, one of which may be none, after which least is left; None when all make it worse."""
    first = error + effect
    total = (first**2).sum(axis=1)[:, None] + (effect**2).sum(axis=1) + 2 * first @ effect.T
    total[element[:, None] == element] = numpy.inf
    total[:, -1] = (first**2).sum(axis=1)
    pair = numpy.unravel_index(total.argmin(), total.shape)
    # beyond this the sums of squares above have no digits left
    return pair if total[pair] < 0.25 * (error**2).sum() else None


def best_four(element, effect, error):
    """Four changes, found as two pairs whose sums meet in the same small cell of space."""
    left, right = numpy.triu_indices(len(element), 1)
    apart = element[left] != element[right]
    left, right = left[apart], right[apart]
    pairs = effect[left] + effect[right]
    wanted = -error - pairs
    best, best_left = None, (error**2).sum()
    for cell in TOLERANCE * numpy.array([1.0, 2.0, 4.0, 8.0]):
        for shift in (0.0, 0.5):
            have = (numpy.floor(pairs / cell + shift).astype(numpy.int64) * KEYS).sum(axis=1)
            want = (numpy.floor(wanted / cell + shift).astype(numpy.int64) * KEYS).sum(axis=1)
            _, i, j = numpy.intersect1d(have, want, return_indices=True)
            for a, b in zip(i, j):
                four = (left[a], right[a], left[b], right[b])
                if len({element[n] for n in four}) < 4:
                    continue
                rest = ((error + effect[list(four)].sum(axis=0)) ** 2).sum()
                if rest < best_left:
                    best, best_left = four, rest
        if best is not None:
            return best
    return None
