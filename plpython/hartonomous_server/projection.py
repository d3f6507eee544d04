"""The linear chart: token embeddings on the four directions in which they spread most.

position = scale · basis · (row - mean), in float64. The rows are never normalised, so that the map can be inverted: a
displacement Δ of the position is the displacement basisᵀ · Δ / scale of the row.
"""

import numpy

AXES = 4
EXTENT = 0.8  # the farthest token's largest coordinate: what is left of [-1, 1] is room to move
LARGEST = 1e15  # weights from here on would overflow float32 sums of squares


def usable(rows):
    """Which rows are finite, and small enough to be squared and summed."""
    return (numpy.abs(rows) < LARGEST).all(axis=1)


class Moments:
    """Mean and covariance of rows that come in blocks, in the order of their coming.

    Products are float32, summed in float64 over blocks. They are taken about the mean of the first block, so that
    little is lost when the mean is large beside the spread.
    """

    def __init__(self, dim):
        self.count = 0
        self.about = None
        self.sum = numpy.zeros(dim)
        self.products = numpy.zeros((dim, dim))

    def add(self, rows):
        good = usable(rows)
        if not good.all():
            rows = rows[good]
        if not len(rows):
            return
        if self.about is None:
            self.about = rows.mean(axis=0, dtype=numpy.float64).astype(numpy.float32)
        shifted = rows - self.about
        self.count += len(rows)
        self.sum += shifted.sum(axis=0, dtype=numpy.float64)
        self.products += shifted.T @ shifted

    def mean(self):
        """The mean row; zeros when there was none."""
        return self.about + self.sum / self.count if self.count else numpy.zeros(len(self.sum))

    def covariance(self):
        if not self.count:
            return self.products
        shift = self.sum / self.count
        return self.products / self.count - numpy.outer(shift, shift)


def directions(covariance):
    """The basis, (4, dim): orthonormal rows, widest spread first, the largest element of each positive.

    Rows of zeros stand for the directions that an embedding of fewer than four dimensions lacks.
    """
    dim = len(covariance)
    basis = numpy.zeros((AXES, dim))
    vectors = numpy.linalg.eigh(covariance)[1][:, ::-1][:, :AXES].T
    largest = numpy.abs(vectors).argmax(axis=1)
    signs = numpy.sign(vectors[numpy.arange(len(vectors)), largest])
    basis[: len(vectors)] = vectors * signs[:, None]
    return basis


def coordinates(rows, mean, basis):
    """Rows on the basis, before scaling; those that are not usable at 0."""
    good = usable(rows)
    with numpy.errstate(invalid="ignore", over="ignore"):
        # multiply and sum: a matrix product's last bits could depend on how many rows go in at once
        points = numpy.where(good[:, None], rows, 0).astype(numpy.float64) - mean
    points = numpy.stack([numpy.einsum("ij,j->i", points, axis) for axis in basis], axis=1)
    points[~good] = 0
    return points


def scale_for(points):
    """The one factor that puts all points into the cube with room to move."""
    largest = float(numpy.abs(points).max(initial=0))
    return EXTENT / largest if largest > 0 else 1.0
