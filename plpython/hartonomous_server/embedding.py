"""Rows of a model's embedding, read from its tiles and written back."""

from .database import rows, scalar
from .dtype import SIZES, decode, encode
from .errors import (
    DATA_CORRUPTED,
    FEATURE_NOT_SUPPORTED,
    INVALID_PARAMETER_VALUE,
    SERIALIZATION_FAILURE,
    HartError,
    quoted,
)
from .tensors import EMBEDDING
from .tile_encoding import PLAIN, QUANTIZED, TILE_BYTES


class Embedding:
    """The embedding of a model. With `change` the tiles that are read are locked, to be written."""

    def __init__(self, plpy, GD, model_id, change=False):
        self.plpy, self.GD, self.model_id, self.change = plpy, GD, model_id, change
        found = rows(
            plpy,
            GD,
            "SELECT t.tensor_id, t.dtype, t.encoding, t.shape[1] AS n_rows, t.shape[2] AS dim"
            " FROM hart.tensors t WHERE t.model_id = $1 AND t.name = $2",
            ["int", "text"],
            [model_id, EMBEDDING],
        )
        if not len(found):
            raise HartError(
                f"model number {model_id} has no embedding",
                INVALID_PARAMETER_VALUE,
                hint="SELECT model_id, name FROM hart.models lists the models.",
            )
        self.tensor_id, self.dtype = found[0]["tensor_id"], found[0]["dtype"]
        self.n_rows, self.dim = found[0]["n_rows"], found[0]["dim"]
        self.row_bytes = self.dim * SIZES[self.dtype]
        self.encoding = found[0]["encoding"]
        if change and self.encoding == QUANTIZED:
            raise HartError(
                "tokens of a quantized model cannot be moved",
                FEATURE_NOT_SUPPORTED,
                hint="Move them in the model that it was made of, and quantize that again.",
            )
        if change and self.encoding != PLAIN:
            sql = "SELECT hart.lock_encoding($1, $2) AS value"
            self.encoding = scalar(plpy, GD, sql, ["int", "int"], [model_id, self.tensor_id])
        self.held = {}  # tile number → its weights, as bytes of the checkpoint
        self.changed = set()

    @property
    def tile(self):
        """Bytes of the checkpoint that a full tile holds."""
        return TILE_BYTES[self.encoding]

    def read(self, ids):
        """Rows as float32, (len(ids), dim); ids ascend."""
        self.write_before(ids[0] * self.row_bytes)
        self.load(sorted({tile for token in ids for tile in self.tiles_of(token)} - self.held.keys()))
        data = b"".join(self.held[tile][begin:end] for token in ids for tile, begin, end in self.parts_of(token))
        return decode(data, self.dtype).reshape(len(ids), self.dim)

    def replace(self, ids, values):
        """Change rows that were read last; values are those of the dtype."""
        data = encode(values, self.dtype)
        for index, token in enumerate(ids):
            self.put(token * self.row_bytes, data[index * self.row_bytes : (index + 1) * self.row_bytes])

    def put(self, offset, data):
        """Change bytes of the tensor that lie in tiles that are held."""
        at = 0
        for tile, begin, end in self.parts(offset, len(data)):
            self.held[tile][begin:end] = data[at : at + end - begin]
            self.changed.add(tile)
            at += end - begin

    def write_before(self, offset):
        """Write and forget the tiles that end before an offset in the tensor; no later row needs them."""
        if not self.fits(self.done(offset)[1]):
            self.make_plain()
        done, changed = self.done(offset)
        if changed:
            self.run(
                "UPDATE hart.tiles_{} t SET payload = hart.pack_tile(n.weights, $5, $6)"
                " FROM unnest($3, $4) AS n (tile_no, weights)"
                " WHERE t.model_id = $1 AND t.tensor_id = $2 AND t.tile_no = n.tile_no",
                ["int[]", "bytea[]", "text", "text"],
                [changed, [bytes(self.held[number]) for number in changed], self.dtype, self.encoding],
            )
        for number in done:
            del self.held[number]
        self.changed.difference_update(done)

    def done(self, offset):
        """The tiles that are held and end before an offset, and which of them were changed."""
        done = sorted(number for number in self.held if offset is None or (number + 1) * self.tile <= offset)
        return done, [number for number in done if number in self.changed]

    def fits(self, changed):
        """Whether the changed tiles have room for what they hold now."""
        return self.encoding == PLAIN or all(
            scalar(
                self.plpy,
                self.GD,
                "SELECT hart.fits_encoding($1, $2, $3) AS value",
                ["text", "text", "bytea"],
                [self.dtype, self.encoding, bytes(self.held[number])],
            )
            for number in changed
        )

    def make_plain(self):
        """Store the tensor plain from now on, and enter the changes that are not written yet into its new tiles."""
        self.plpy.notice(
            f"tensor {quoted(EMBEDDING)} of model number {self.model_id} is stored plain from now on",
            detail=f"Its new weights do not fit the encoding {self.encoding}.",
        )
        changes = {number * self.tile: self.held[number] for number in self.changed}
        sql = "SELECT hart.make_plain($1, $2)"
        rows(self.plpy, self.GD, sql, ["int", "int"], [self.model_id, self.tensor_id])
        self.encoding = PLAIN
        self.held, self.changed = {}, set()
        self.load(sorted({tile for at, data in changes.items() for tile, *_ in self.parts(at, len(data))}))
        for at, data in changes.items():
            self.put(at, data)

    def flush(self):
        """Write all that is left."""
        self.write_before(None)

    def load(self, tiles):
        """Read tiles. Those to be changed are locked in order: others who change them wait, and see what we wrote."""
        if not tiles:
            return
        found = self.run(
            "SELECT t.tile_no, hart.unpack_tile(t.payload, e.dtype, e.encoding) AS weights, e.encoding"
            " FROM hart.tiles_{} t, hart.tensors e WHERE e.model_id = $1 AND e.tensor_id = $2"
            " AND t.model_id = $1 AND t.tensor_id = $2 AND t.tile_no = ANY ($3) ORDER BY t.tile_no"
            + self.change
            * " FOR UPDATE OF t",
            ["int[]"],
            [tiles],
        )
        for row in found:
            if row["encoding"] != self.encoding:
                raise HartError(
                    f"the embedding of model number {self.model_id} was stored anew meanwhile",
                    SERIALIZATION_FAILURE,
                    hint="Run the statement again.",
                )
            self.held[row["tile_no"]] = bytearray(row["weights"])
        total = self.n_rows * self.row_bytes
        for tile in tiles:
            if len(self.held.get(tile, b"")) != min(self.tile, total - tile * self.tile):
                raise HartError(
                    f"tile {tile} of the embedding of model number {self.model_id} is missing, damaged or hidden",
                    DATA_CORRUPTED,
                    hint="Restore the model's tiles, or drop the model and ingest it again.",
                )

    def run(self, sql, types, args):
        """A statement on the model's tiles, whose first arguments are model and tensor."""
        return rows(
            self.plpy,
            self.GD,
            sql.format(self.model_id),
            ["int", "int", *types],
            [self.model_id, self.tensor_id, *args],
        )

    def tiles_of(self, token):
        """The numbers of the tiles that a row lies in."""
        return [tile for tile, _, _ in self.parts_of(token)]

    def parts_of(self, token):
        """Where a row lies: (tile, begin, end) of each part."""
        return self.parts(token * self.row_bytes, self.row_bytes)

    def parts(self, begin, size):
        """Where bytes of the tensor lie: (tile, begin, end) of each part."""
        end = begin + size
        for tile in range(begin // self.tile, (end - 1) // self.tile + 1):
            yield tile, max(begin - tile * self.tile, 0), min(end - tile * self.tile, self.tile)

    def check_ids(self, ids):
        """Ids are rows of the embedding."""
        for token in ids:
            if not 0 <= token < self.n_rows:
                raise HartError(
                    f"token id {token} is out of range",
                    INVALID_PARAMETER_VALUE,
                    hint=f"The model's token ids are 0 to {self.n_rows - 1}.",
                )
