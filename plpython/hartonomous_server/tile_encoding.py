"""How the numbers of a tensor lie in tiles: as in the checkpoint, or packed."""

from .database import scalar

PLAIN = "plain"
QUANTIZED = "q8"
TILE_BYTES = {PLAIN: 8064, "bf12": 10496, QUANTIZED: 31232}  # bytes of the checkpoint that a full tile holds
LOSSLESS = {"BF16": "bf12"}  # dtype → the encoding that is tried
FEWEST = 1024  # weights from which on packing certainly saves bytes


def choose_encoding(plpy, GD, reader, tensor, tiles_at_once):
    """The encoding in which a tensor takes the fewest bytes; all of it is read, since every tile must fit."""
    encoding = LOSSLESS.get(tensor.dtype)
    if encoding is None or tensor.elements < FEWEST or not allowed(plpy, GD):
        return PLAIN
    sql = "SELECT hart.fits_encoding($1, $2, $3) AS value"
    for data in reader.peek(tensor, tiles_at_once * TILE_BYTES[encoding]):
        if not scalar(plpy, GD, sql, ["text", "text", "bytea"], [tensor.dtype, encoding, data]):
            return PLAIN
    return encoding


def allowed(plpy, GD):
    """The setting hart.tile_encoding lets tensors be packed."""
    return scalar(plpy, GD, "SELECT pg_catalog.current_setting('hart.tile_encoding', true) AS value") != PLAIN
