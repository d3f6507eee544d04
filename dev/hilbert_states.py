#!/usr/bin/env python3
"""Write src_c/hilbert_states.h: the Hilbert curve of Skilling's transform as a machine that reads one bit of each axis a step.

The curve with a bit more an axis is 16 copies of the curve, each with its axes turned and mirrored. So the state between two
steps is which axis of the cube each axis of the copy is, and whether it runs backwards.
"""

import itertools

AXES = 4


def skilling(cell, bits):
    """Index of a cell: J. Skilling, "Programming the Hilbert curve", AIP Conference Proceedings 707, 381 (2004)."""
    x = list(cell)
    for q in (1 << b for b in range(bits - 1, 0, -1)):
        for i in range(AXES):
            if x[i] & q:
                x[0] ^= q - 1
            else:
                swap = (x[0] ^ x[i]) & (q - 1)
                x[0] ^= swap
                x[i] ^= swap
    for i in range(1, AXES):
        x[i] ^= x[i - 1]
    flip = 0
    for q in (1 << b for b in range(bits - 1, 0, -1)):
        if x[-1] & q:
            flip ^= q - 1
    index = 0
    for bit in range(bits - 1, -1, -1):
        for i in range(AXES):
            index = index << 1 | ((x[i] ^ flip) >> bit & 1)
    return index


def copy_in_corner(corner):
    """(digit, axes, mirrored) of the copy in a corner: axis a of the copy is axis axes[a] of the cube."""
    digit = skilling(corner, 1)
    wanted = {inner: skilling([2 * c + i for c, i in zip(corner, inner)], 2) - 16 * digit for inner in itertools.product((0, 1), repeat=AXES)}
    for axes in itertools.permutations(range(AXES)):
        for mirrored in itertools.product((0, 1), repeat=AXES):
            if all(skilling([inner[axes[a]] ^ mirrored[a] for a in range(AXES)], 1) == index for inner, index in wanted.items()):
                yield digit, axes, mirrored


def consistent_copies():
    """For each corner the copy that is right at every depth; the first level alone leaves several."""
    points = list(itertools.product(range(4), repeat=AXES))
    result = {}
    for corner in itertools.product((0, 1), repeat=AXES):
        fitting = []
        for digit, axes, mirrored in copy_in_corner(corner):
            if all(
                skilling([4 * c + p for c, p in zip(corner, point)], 3) - 256 * digit
                == skilling([point[axes[a]] ^ (3 * mirrored[a]) for a in range(AXES)], 2)
                for point in points
            ):
                fitting.append((digit, axes, mirrored))
        assert len(fitting) == 1, (corner, fitting)
        result[corner] = fitting[0]
    return result


def machine():
    """Rows of (digit, next state) by corner, one a state; the first state is the curve itself."""
    copies = consistent_copies()
    states = [(tuple(range(AXES)), (0,) * AXES)]
    rows = []
    while len(rows) < len(states):
        axes, mirrored = states[len(rows)]
        row = []
        for corner in itertools.product((0, 1), repeat=AXES):
            seen = tuple(corner[axes[a]] ^ mirrored[a] for a in range(AXES))
            digit, inner_axes, inner_mirrored = copies[seen]
            state = (
                tuple(axes[inner_axes[a]] for a in range(AXES)),
                tuple(mirrored[inner_axes[a]] ^ inner_mirrored[a] for a in range(AXES)),
            )
            if state not in states:
                states.append(state)
            row.append((digit, states.index(state)))
        rows.append(row)
    return rows


def table(name, comment, rows):
    """A C array, 16 numbers a state: 16 times the next state, plus what the step gives."""
    print(f"\n/* {comment} */\nstatic const uint16_t {name}[][16] = {{")
    for row in rows:
        numbers = [f"{16 * state + value}" for value, state in row]
        print("\t{" + ", ".join(numbers) + "},")
    print("};")


def main():
    """Print the header."""
    rows = machine()
    print(f"""/*
 * hilbert_states.h
 *		The Hilbert curve in four dimensions as a machine of {len(rows)} states.
 *
 * Written by dev/hilbert_states.py.  A step takes one bit of each axis, the first
 * axis highest, to four bits of the index, or back.  An entry is 16 times the
 * next state plus the result.  The first state is where every index begins.
 */""")
    table("index_steps", "By state and bits of the axes: bits of the index", rows)
    inverse = []
    for row in rows:
        back = [None] * 16
        for corner, (digit, state) in enumerate(row):
            back[digit] = (corner, state)
        inverse.append(back)
    table("cell_steps", "By state and bits of the index: bits of the axes", inverse)


if __name__ == "__main__":
    main()
