"""Chart 0 of a model: made at the ingest; moving tokens in it; following weights that were changed otherwise."""

import json

import numpy

from .database import plan, rows
from .dtype import decode
from .embedding import Embedding
from .errors import INVALID_PARAMETER_VALUE, NULL_VALUE_NOT_ALLOWED, OBJECT_NOT_READY, OUT_OF_RANGE, HartError
from .files import changed, identity, open_regular, read_exactly
from .projection import EXTENT, Moments, coordinates, directions, scale_for, usable
from .report import reported
from .rounding import TOLERANCE, round_rows
from .tensors import EMBEDDING

BLOCK_BYTES = 8 << 20  # of float32 rows taken at once
MOVED_AT_ONCE = 512  # tokens
REPROJECTING = "hartonomous_reprojecting"  # in GD while positions follow embeddings, so that those stay
EXACT = 1e-5  # how far the embedding's projection may be from the position it was moved to


# At the ingest -----------------------------------------------------------------------------------


def make_linear_chart(plpy, GD, model, model_id):
    """Chart 0 of a model that is being ingested, of the embedding in its checkpoint."""
    shard, tensor = next((s, t) for s in model.shards for t in s.tensors if t.name == EMBEDDING)
    n_rows, dim = tensor.shape
    moments = Moments(dim)
    for block in blocks(shard, tensor):
        moments.add(block)
    mean, basis = moments.mean(), directions(moments.covariance())
    points = numpy.concatenate([coordinates(block, mean, basis) for block in blocks(shard, tensor)])
    if moments.count < n_rows:
        plpy.warning(
            f"{n_rows - moments.count} of {n_rows} rows of the embedding hold NaN, infinity or numbers beyond 1e15",
            detail="Their tokens have the position 0, 0, 0, 0 in chart 0, and no neighbours.",
        )
    scale = scale_for(points)
    leaf = rows(plpy, GD, "SELECT hart.begin_chart($1, 0) AS leaf", ["int"], [model_id])[0]["leaf"]
    fill(plpy, leaf, model_id, 0, points * scale)
    finish(
        plpy,
        GD,
        model_id,
        0,
        scale,
        mean.tolist(),
        basis.tolist(),
        {"method": "pca", "rows": moments.count, "extent": EXTENT},
    )


def blocks(shard, tensor):
    """The rows of a two-dimensional tensor in its file as float32, some at a time."""
    row_bytes = tensor.size // max(tensor.shape[0], 1)
    at_once = max(1, BLOCK_BYTES // (4 * max(tensor.shape[1], 1)))
    with open_regular(shard.path) as file:
        file.seek(tensor.offset)
        for first in range(0, tensor.shape[0], at_once):
            n = min(at_once, tensor.shape[0] - first)
            yield decode(read_exactly(file, n * row_bytes, shard.path), tensor.dtype).reshape(n, tensor.shape[1])
        if identity(file) != shard.identity:
            raise changed(shard.path)


def fill(plpy, leaf, model_id, chart, points):
    """Write the positions of the tokens that there are; points: (embedding rows, 4)."""
    insert = plpy.prepare(
        f"INSERT INTO {leaf} SELECT t.model_id, $2, t.token_id, t.atom_id, hart.point(ARRAY[p.x, p.y, p.z, p.w])"
        " FROM unnest($4, $5, $6, $7) WITH ORDINALITY AS p (x, y, z, w, n)"
        " JOIN hart.tokens t ON t.model_id = $1 AND t.token_id = $3 + p.n - 1",
        ["int", "int", "int"] + 4 * ["float8[]"],
    )
    for first in range(0, len(points), 8192):
        axes = points[first : first + 8192].T.tolist()
        plpy.execute(insert, [model_id, chart, first, *axes])


def finish(plpy, GD, model_id, chart, scale, mean, basis, parameters, seed=None):
    rows(
        plpy,
        GD,
        "SELECT hart.finish_chart($1, $2, $3, $4, $5, $6, $7)",
        ["int", "int", "float8", "float8[]", "float8[]", "jsonb", "bigint"],
        [model_id, chart, scale, mean, basis, json.dumps(parameters), seed],
    )


# Moving ------------------------------------------------------------------------------------------


class LinearChart:
    """Chart 0 as it is stored, and the embedding under it."""

    def __init__(self, plpy, GD, model_id, change):
        found = rows(
            plpy,
            GD,
            "SELECT mean, (SELECT array_agg(v) FROM unnest(basis) AS v) AS basis, scale"
            " FROM hart.charts WHERE model_id = $1 AND chart = 0",
            ["int"],
            [model_id],
        )
        if not len(found):
            raise HartError(
                f"model number {model_id} has no linear chart that this role may read",
                OBJECT_NOT_READY,
                hint=f"Its owner can GRANT SELECT ON hart.tiles_{model_id} to you;"
                " drop and ingest the model again if the chart was deleted.",
            )
        self.embedding = Embedding(plpy, GD, model_id, change)
        self.mean = numpy.array(found[0]["mean"])
        self.basis = numpy.array(found[0]["basis"]).reshape(4, -1)
        self.scale = found[0]["scale"]

    def positions(self, embedded):
        """Where rows lie."""
        return coordinates(embedded, self.mean, self.basis) * self.scale

    def move(self, ids, targets):
        """Move the rows of ascending ids so that they lie at the targets, (len(ids), 4)."""
        for first in range(0, len(ids), MOVED_AT_ONCE):
            self.move_some(ids[first : first + MOVED_AT_ONCE], targets[first : first + MOVED_AT_ONCE])
        self.embedding.flush()

    def move_some(self, ids, targets):
        embedded = self.embedding.read(ids)
        shift = targets - self.positions(embedded)
        # Rows that lie there already stay as they are.
        moving = numpy.flatnonzero(numpy.abs(shift).max(axis=1) > TOLERANCE)
        if not len(moving):
            return
        ids = [ids[i] for i in moving]
        self.check(ids, embedded[moving], shift[moving])
        values = self.rounded(ids, embedded[moving].astype(numpy.float64) + shift[moving] / self.scale @ self.basis)
        left = numpy.abs(self.positions(values) - targets[moving]).max(axis=1)
        if left.max() > EXACT:
            worst = left.argmax()
            raise HartError(
                f"token {ids[worst]} cannot be put there: "
                f"its embedding of {self.embedding.dim} {self.embedding.dtype} numbers is too coarse",
                OUT_OF_RANGE,
                detail=f"The nearest one found is off by {left[worst]:.1e}; positions are kept within {EXACT:.0e}.",
                hint="Choose another position nearby, or convert the checkpoint to F32.",
            )
        self.embedding.replace(ids, values)

    def check(self, ids, embedded, shift):
        """The rows can be moved, and the axes exist along which they are to be."""
        bad = numpy.flatnonzero(~usable(embedded))
        if len(bad):
            raise HartError(
                f"token {ids[bad[0]]} cannot be moved: its embedding holds NaN, infinity or numbers beyond 1e15",
                INVALID_PARAMETER_VALUE,
                hint="Give its weights finite values first.",
            )
        missing = ~self.basis.any(axis=1)
        if (numpy.abs(shift[:, missing]) > TOLERANCE).any():
            raise HartError(
                f"an embedding of {self.embedding.dim} dimensions cannot move along {missing.sum()} of the four axes",
                INVALID_PARAMETER_VALUE,
                hint="Leave the coordinates of those axes at 0.",
            )

    def rounded(self, ids, ideal):
        """Numbers of the embedding's dtype near the ideal ones that lie where those do."""
        with numpy.errstate(over="ignore", invalid="ignore"):
            values = round_rows(ideal, self.scale * self.basis.T, self.embedding.dtype)[0]
        bad = numpy.flatnonzero(~usable(values))
        if len(bad):
            raise HartError(
                f"token {ids[bad[0]]} cannot move so far: its weights would leave the range of {self.embedding.dtype}",
                OUT_OF_RANGE,
                hint="Choose a position nearer to where it is.",
            )
        return values


@reported
def move(plpy, GD):
    """The trigger move_tokens: embeddings follow the positions in the transition table `moved`."""
    if GD.get(REPROJECTING):
        return
    for model in plpy.execute("SELECT DISTINCT model_id FROM moved ORDER BY model_id"):
        model_id = model["model_id"]
        chart = LinearChart(plpy, GD, model_id, change=True)
        # the plan of a transition table belongs to its trigger, so it is made anew each time
        found = plpy.execute(
            plpy.prepare(
                "SELECT token_id, hart.coordinates(position) AS at FROM moved WHERE model_id = $1 ORDER BY token_id",
                ["int"],
            ),
            [model_id],
        )
        ids = [row["token_id"] for row in found]
        chart.move(ids, numpy.array([row["at"] for row in found]))


# Following ---------------------------------------------------------------------------------------


@reported
def reproject(plpy, GD, model_id, token_ids):
    """hart.reproject_tokens(model_id, token_ids): how many positions changed."""
    if model_id is None:
        raise HartError(
            "model number must not be null",
            NULL_VALUE_NOT_ALLOWED,
            hint="SELECT model_id, name FROM hart.models lists the models.",
        )
    chart = LinearChart(plpy, GD, model_id, change=False)
    if token_ids is None:
        ids = list(range(chart.embedding.n_rows))
    elif None in token_ids or any(isinstance(token, list) for token in token_ids):
        raise HartError(
            "token ids must not be null, nor an array of several dimensions",
            INVALID_PARAMETER_VALUE,
            hint="Pass ids such as hart.tokenize gives.",
        )
    else:
        ids = sorted(set(token_ids))
    chart.embedding.check_ids(ids[:1] + ids[-1:])
    lock = plan(
        plpy,
        GD,
        "SELECT token_id FROM hart.token_positions WHERE model_id = $1 AND chart = 0 AND token_id = ANY ($2)"
        " ORDER BY token_id FOR NO KEY UPDATE",
        ["int", "int[]"],
    )
    update = plan(
        plpy,
        GD,
        "UPDATE hart.token_positions t SET position = hart.point(ARRAY[p.x, p.y, p.z, p.w])"
        " FROM unnest($2, $3, $4, $5, $6) AS p (id, x, y, z, w)"
        " WHERE t.model_id = $1 AND t.chart = 0 AND t.token_id = p.id"
        " AND hart.coordinates(t.position) IS DISTINCT FROM ARRAY[p.x, p.y, p.z, p.w]",
        ["int", "int[]"] + 4 * ["float8[]"],
    )
    count, outside = 0, []
    GD[REPROJECTING] = True
    try:
        for first in range(0, len(ids), MOVED_AT_ONCE):
            some = ids[first : first + MOVED_AT_ONCE]
            # Positions before weights: others who change a part of these rows wait, or we see what they wrote.
            plpy.execute(lock, [model_id, some])
            chart.embedding.flush()
            at = chart.positions(chart.embedding.read(some))
            outside += [some[i] for i in numpy.flatnonzero(numpy.abs(at).max(axis=1) > 1)]
            count += plpy.execute(update, [model_id, some, *numpy.clip(at, -1, 1).T.tolist()]).nrows()
    finally:
        del GD[REPROJECTING]
    if outside:
        plpy.warning(
            f"embeddings outside [-1,1]^4: {len(outside)}, the first that of token {outside[0]}",
            detail="Positions of such embeddings are at the border, and do not tell where they are.",
        )
    return count
