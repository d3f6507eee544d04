"""Rows of a model's embedding, read from its tiles and written back."""

from .database import rows
from .dtype import SIZES, decode, encode
from .errors import DATA_CORRUPTED, INVALID_PARAMETER_VALUE, HartError
from .modeldir import TILE
from .tensors import EMBEDDING


class Embedding:
    """The embedding of a model. With `change` the tiles that are read are locked, to be written."""

    def __init__(self, plpy, GD, model_id, change=False):
        self.plpy, self.GD, self.model_id, self.change = plpy, GD, model_id, change
        found = rows(
            plpy,
            GD,
            "SELECT t.tensor_id, t.dtype, t.shape[1] AS n_rows, t.shape[2] AS dim"
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
        self.held = {}  # tile number → its bytes
        self.changed = set()

    def read(self, ids):
        """Rows as float32, (len(ids), dim); ids ascend."""
        self.write_before(ids[0] * self.row_bytes // TILE)
        self.load(sorted({tile for token in ids for tile in self.tiles_of(token)} - self.held.keys()))
        data = b"".join(self.held[tile][begin:end] for token in ids for tile, begin, end in self.parts_of(token))
        return decode(data, self.dtype).reshape(len(ids), self.dim)

    def replace(self, ids, values):
        """Change rows that were read last; values are those of the dtype."""
        data = encode(values, self.dtype)
        at = 0
        for token in ids:
            for tile, begin, end in self.parts_of(token):
                self.held[tile][begin:end] = data[at : at + end - begin]
                self.changed.add(tile)
                at += end - begin

    def write_before(self, tile):
        """Write and forget the tiles before this one, which no later row needs."""
        done = sorted(number for number in self.held if tile is None or number < tile)
        changed = [number for number in done if number in self.changed]
        if changed:
            self.run(
                "UPDATE hart.tiles_{} t SET payload = n.payload FROM unnest($3, $4) AS n (tile_no, payload)"
                " WHERE t.model_id = $1 AND t.tensor_id = $2 AND t.tile_no = n.tile_no",
                ["int[]", "bytea[]"],
                [changed, [bytes(self.held[number]) for number in changed]],
            )
        for number in done:
            del self.held[number]
        self.changed.difference_update(done)

    def flush(self):
        """Write all that is left."""
        self.write_before(None)

    def load(self, tiles):
        """Read tiles. Those to be changed are locked in order: others who change them wait, and see what we wrote."""
        if not tiles:
            return
        found = self.run(
            "SELECT t.tile_no, t.payload FROM hart.tiles_{} t"
            " WHERE t.model_id = $1 AND t.tensor_id = $2 AND t.tile_no = ANY ($3) ORDER BY t.tile_no"
            + self.change
            * " FOR UPDATE",
            ["int[]"],
            [tiles],
        )
        for row in found:
            self.held[row["tile_no"]] = bytearray(row["payload"])
        total = self.n_rows * self.row_bytes
        for tile in tiles:
            if len(self.held.get(tile, b"")) != min(TILE, total - tile * TILE):
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
        begin = token * self.row_bytes
        return range(begin // TILE, (begin + self.row_bytes - 1) // TILE + 1)

    def parts_of(self, token):
        """Where a row lies: (tile, begin, end) of each part."""
        begin, end = token * self.row_bytes, (token + 1) * self.row_bytes
        for tile in self.tiles_of(token):
            yield tile, max(begin - tile * TILE, 0), min(end - tile * TILE, TILE)

    def check_ids(self, ids):
        """Ids are rows of the embedding."""
        for token in ids:
            if not 0 <= token < self.n_rows:
                raise HartError(
                    f"token id {token} is out of range",
                    INVALID_PARAMETER_VALUE,
                    hint=f"The model's token ids are 0 to {self.n_rows - 1}.",
                )
