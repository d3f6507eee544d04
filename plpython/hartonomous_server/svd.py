"""hart.decompose_tensor: the best low-rank approximation of a weight matrix."""

import numpy

from .database import scalar
from .errors import INVALID_PARAMETER_VALUE, NULL_VALUE_NOT_ALLOWED, HartError
from .report import reported


@reported
def decompose_tensor(plpy, GD, model, tensor, rank):
    """hart.decompose_tensor(model, tensor, rank)"""
    if tensor is None or rank is None:
        raise HartError(
            "tensor and rank must not be null", NULL_VALUE_NOT_ALLOWED, hint="Name a tensor of hart.tensors."
        )
    matrix = scalar(plpy, GD, "SELECT hart.tensor_matrix($1, $2) AS value", ["text", "text"], [model, tensor])
    return decompose(matrix, rank)


def decompose(matrix, rank):
    """u (rows × rank), s (1 × rank), v (columns × rank) and the relative Frobenius error of u · diag(s) · vᵀ."""
    largest = min(matrix.shape)
    if not 1 <= rank <= largest:
        raise HartError(
            f"rank {rank} is out of range",
            INVALID_PARAMETER_VALUE,
            hint=f"A matrix of {matrix.shape[0]} × {matrix.shape[1]} has ranks from 1 to {largest}.",
        )
    if not numpy.isfinite(matrix).all():
        raise HartError(
            "the tensor holds NaN or infinity and has no decomposition",
            INVALID_PARAMETER_VALUE,
            hint="Replace those weights, or name another tensor.",
        )
    u, s, vt = numpy.linalg.svd(matrix, full_matrices=False)
    u, v = fix_signs(u[:, :rank], vt[:rank].T)
    squares = s.astype(numpy.float64) ** 2
    total = squares.sum()
    error = float(numpy.sqrt(squares[rank:].sum() / total)) if total > 0 else 0.0
    return {"u": u, "s": s[:rank], "v": v, "relative_error": error}


def fix_signs(u, v):
    """A pair of vectors may change signs together; make the largest element of v positive, so results compare."""
    largest = numpy.abs(v).argmax(axis=0)
    signs = numpy.where(v[largest, numpy.arange(v.shape[1])] < 0, -1, 1).astype(v.dtype)
    return u * signs, v * signs
