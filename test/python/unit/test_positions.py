"""The linear chart and rounding that keeps a projection."""

import numpy
import pytest
from hartonomous_server.dtype import below_and_above, decode, encode
from hartonomous_server.projection import AXES, EXTENT, Moments, coordinates, directions, scale_for
from hartonomous_server.rounding import TOLERANCE, round_rows

DTYPES = ["F32", "F16", "BF16"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_neighbours_of_a_value(dtype):
    rng = numpy.random.default_rng(1)
    values = rng.standard_normal(20000) * numpy.exp(3 * rng.standard_normal(20000))
    values = values.clip(-6e4, 6e4)
    values[:6] = [0.0, -0.0, 1.0, -1.0, 2.0**-20, -(2.0**-20)]
    below, above = below_and_above(values, dtype)
    assert (below <= values).all() and (above > values).all()
    for held in (below, above):
        assert numpy.array_equal(decode(encode(held, dtype), dtype).astype(float), held)
        again, next_above = below_and_above(held, dtype)
        assert numpy.array_equal(again, held) and (next_above > held).all()
    # nothing lies between the two
    middle = (below + above) / 2
    assert numpy.array_equal(below_and_above(middle, dtype)[0], below)


def parts(dim, rows=48, seed=0):
    rng = numpy.random.default_rng(seed)
    basis = numpy.linalg.qr(rng.standard_normal((dim, AXES)))[0].T
    scale = EXTENT / 0.09
    ideal = 0.02 * rng.standard_normal((rows, dim)) + 0.3 * rng.standard_normal((rows, AXES)) / scale @ basis
    return ideal, scale * basis.T


@pytest.mark.parametrize(
    ("dtype", "dim", "within"),
    [("F32", 8, 1e-7), ("F32", 896, 1e-7), ("F16", 64, TOLERANCE), ("BF16", 64, 1e-5), ("BF16", 256, TOLERANCE), ("BF16", 896, TOLERANCE)],
)
def test_rounding_keeps_the_projection(dtype, dim, within):
    ideal, influence = parts(dim)
    values, error = round_rows(ideal, influence, dtype)
    below, above = below_and_above(ideal, dtype)
    assert numpy.abs((values - ideal) @ influence).max() < within
    assert numpy.allclose((values - ideal) @ influence, error, atol=1e-12)
    assert numpy.array_equal(below_and_above(values, dtype)[0], values)
    assert (numpy.abs(values - ideal) <= (1.51 if dim > 64 else 9) * (above - below)).all()
    if dtype == "BF16":  # what plain rounding leaves
        plain = numpy.where(ideal - below < above - ideal, below, above)
        assert numpy.abs((plain - ideal) @ influence).max() > 1e-4


def test_rounding_does_not_depend_on_other_rows():
    ideal, influence = parts(100, seed=3)
    together = round_rows(ideal, influence, "BF16")[0]
    alone = numpy.concatenate([round_rows(row[None], influence, "BF16")[0] for row in ideal])
    assert numpy.array_equal(together, alone)


def blocks_of(rows, size):
    moments = Moments(rows.shape[1])
    for first in range(0, len(rows), size):
        moments.add(rows[first : first + size])
    return moments


def test_directions_are_the_principal_ones():
    rng = numpy.random.default_rng(2)
    rows = (rng.standard_normal((700, 30)) * numpy.linspace(3, 0.1, 30) + 5).astype(numpy.float32)
    moments = blocks_of(rows, 64)
    basis = directions(moments.covariance())
    centred = rows - rows.astype(float).mean(axis=0)
    principal = numpy.linalg.svd(centred, full_matrices=False)[2][:AXES]
    assert numpy.allclose(moments.mean(), rows.astype(float).mean(axis=0), atol=1e-6)
    assert numpy.allclose(numpy.abs(basis @ principal.T), numpy.eye(AXES), atol=1e-4)
    assert numpy.allclose(basis @ basis.T, numpy.eye(AXES), atol=1e-12)
    points = coordinates(rows, moments.mean(), basis)
    assert numpy.abs(points * scale_for(points)).max() == pytest.approx(EXTENT)
    assert numpy.array_equal(points[5:6], coordinates(rows[5:6], moments.mean(), basis))


@pytest.mark.parametrize("bad", [numpy.nan, numpy.inf, 3e38])
def test_rows_that_are_no_numbers(bad):
    rows = numpy.random.default_rng(4).standard_normal((50, 6)).astype(numpy.float32)
    spoilt = rows.copy()
    spoilt[7, 2] = bad
    moments, without = blocks_of(spoilt, 16), blocks_of(numpy.delete(rows, 7, axis=0), 50)
    assert moments.count == 49
    assert numpy.allclose(moments.covariance(), without.covariance(), atol=1e-5)
    points = coordinates(spoilt, moments.mean(), directions(moments.covariance()))
    assert not points[7].any() and numpy.isfinite(points).all()


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_fewer_than_four_dimensions(dim):
    rows = numpy.random.default_rng(5).standard_normal((20, dim)).astype(numpy.float32)
    moments = blocks_of(rows, 7)
    basis = directions(moments.covariance())
    assert basis.shape == (AXES, dim) and not basis[dim:].any()
    assert numpy.allclose(basis[:dim] @ basis[:dim].T, numpy.eye(dim))


def test_rows_without_spread():
    for rows in (numpy.ones((9, 8), numpy.float32), numpy.full((9, 8), numpy.nan, numpy.float32)):
        moments = blocks_of(rows, 4)
        points = coordinates(rows, moments.mean(), directions(moments.covariance()))
        assert not points.any() and scale_for(points) == 1
