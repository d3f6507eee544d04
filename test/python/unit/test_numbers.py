"""softmax and the decomposition of matrices."""

import numpy
import pytest
from hartonomous_server import svd
from hartonomous_server.softmax import row_softmax
from hartonomous_server.svd import decompose


def f32(*rows):
    return numpy.array(rows, dtype=numpy.float32)


def test_softmax():
    x = numpy.random.default_rng(0).normal(size=(7, 33)).astype(numpy.float32) * 5
    found = row_softmax(x, 0.7)
    wanted = numpy.exp(x.astype(float) / 0.7)
    assert found.dtype == numpy.float32
    assert numpy.allclose(found, wanted / wanted.sum(axis=1, keepdims=True), atol=1e-7)


def test_softmax_of_large_numbers():
    assert numpy.allclose(row_softmax(f32([3e38, 3e38]), 1e-3), 0.5)
    assert numpy.array_equal(row_softmax(f32([1e30, -1e30]), 1e-30), f32([1, 0]))
    assert numpy.allclose(row_softmax(f32([1, 2, 3]), 1e30), 1 / 3)


@pytest.mark.filterwarnings("error")
def test_softmax_of_no_number():
    inf, nan = float("inf"), float("nan")
    x = f32([0, -inf], [0, inf], [0, nan], [-inf, -inf], [1, 1])
    wanted = f32([1, 0], [nan, nan], [nan, nan], [nan, nan], [0.5, 0.5])
    assert numpy.array_equal(row_softmax(x), wanted, equal_nan=True)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_softmax_of_nothing(shape):
    assert row_softmax(numpy.zeros(shape, numpy.float32)).shape == shape


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), float("inf")])
def test_temperature(refused, temperature):
    with refused("22023", "temperature"):
        row_softmax(f32([1, 2]), temperature)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (1, 5), (5, 1)])
def test_decomposition(shape):
    a = numpy.random.default_rng(1).normal(size=shape).astype(numpy.float32)
    previous = 1.0
    for rank in range(1, min(shape) + 1):
        result = decompose(a, rank)
        u, s, v = result["u"], result["s"], result["v"]
        assert (u.shape, s.shape, v.shape) == ((shape[0], rank), (rank,), (shape[1], rank))
        assert numpy.allclose(u.T @ u, numpy.eye(rank), atol=1e-5) and numpy.allclose(
            v.T @ v, numpy.eye(rank), atol=1e-5
        )
        error = numpy.linalg.norm(a - (u * s) @ v.T) / numpy.linalg.norm(a)
        assert abs(error - result["relative_error"]) < 1e-5 and error < previous
        assert (v[numpy.abs(v).argmax(axis=0), range(rank)] > 0).all()
        previous = error
    assert result["relative_error"] < 1e-7


@pytest.mark.parametrize("shape", [(300, 40), (40, 300), (64, 64)])
def test_decomposition_like_numpy(shape, monkeypatch):
    """Also where rows come in several blocks, and where singular values are too small for squares."""
    monkeypatch.setattr(svd, "BLOCK", 7)
    rng = numpy.random.default_rng(2)
    full = min(shape)
    left, right = (numpy.linalg.qr(rng.normal(size=(size, full)))[0] for size in shape)
    a = ((left * numpy.geomspace(1, 1e-12, full)) @ right.T).astype(numpy.float32)
    u, s, vt = numpy.linalg.svd(a.astype(float), full_matrices=False)
    for rank in (1, 5, full):
        result = decompose(a, rank)
        assert numpy.allclose(result["s"], s[:rank], atol=1e-6)
        assert numpy.allclose(
            (result["u"] * result["s"]) @ result["v"].T, (u[:, :rank] * s[:rank]) @ vt[:rank], atol=1e-6
        )
        assert numpy.allclose(result["u"].T @ result["u"], numpy.eye(rank), atol=1e-5)
        assert abs(result["relative_error"] - numpy.linalg.norm(s[rank:]) / numpy.linalg.norm(s)) < 1e-6


def test_decomposition_of_zero():
    assert decompose(numpy.zeros((2, 3), numpy.float32), 1)["relative_error"] == 0


@pytest.mark.parametrize("rank", [0, -1, 3, 1 << 40])
def test_rank(refused, rank):
    with refused("22023", "rank"):
        decompose(f32([1, 2], [3, 4], [5, 6]), rank)


def test_decomposition_of_no_number(refused):
    with refused("22023"):
        decompose(f32([1, float("nan")]), 1)
