"""hart.softmax: rows of logits to rows of probabilities."""

import math

import numpy

from .errors import INVALID_PARAMETER_VALUE, HartError
from .report import reported


@reported
def softmax(plpy, x, temperature):
    """hart.softmax(matrix, temperature)"""
    return row_softmax(x, temperature)


def row_softmax(x, temperature=1.0):
    """exp(x / temperature) of each row, divided by its sum.

    -inf is probability 0. A row that holds NaN or +inf, or nothing but -inf, has no softmax: it is NaN throughout.
    """
    if not (temperature > 0 and math.isfinite(temperature)):
        raise HartError(
            f"temperature must be a finite number above 0, not {temperature:g}",
            INVALID_PARAMETER_VALUE,
            hint="Use 1 for the plain softmax, less to favour the largest elements, more to even them out.",
        )
    if x.size == 0:
        return x
    with numpy.errstate(invalid="ignore"):
        # The largest element is subtracted first: it becomes 0, and nothing overflows.
        shifted = x.astype(numpy.float64) - x.max(axis=1, keepdims=True)
        weights = numpy.exp(shifted / temperature)
        return (weights / weights.sum(axis=1, keepdims=True)).astype(numpy.float32)
