"""hart.learn_geometry: neighbourhood charts of a model, laid out by UMAP in processes of their own."""

import json
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

import numpy

from .child import interpreter
from .database import rows, scalar
from .embedding import Embedding
from .errors import (
    EXTERNAL_ROUTINE_EXCEPTION,
    INVALID_PARAMETER_VALUE,
    OBJECT_IN_USE,
    OBJECT_NOT_READY,
    UNDEFINED_FILE,
    HartError,
    quoted,
)
from .positions import fill, finish
from .projection import AXES, EXTENT, scale_for, usable
from .report import reported

PROGRAM = Path(__file__).with_name("umap_layout.py")
MAX_CHARTS = 8
MAX_NEIGHBORS = 256
GRAPH_ROWS = 1024  # tokens a step of the graph: a second or two of work
READ_ROWS = 4096  # embeddings looked at together
LOG_BYTES = 16384  # of what the program said last
INTERVAL = 10.0  # seconds between two lines about the progress


@reported
def learn(plpy, GD, model, charts, neighbors, min_dist, epochs, seed):
    """CALL hart.learn_geometry(model, charts, neighbors, min_dist, epochs, seed)"""
    check_options(charts, neighbors, min_dist, epochs, seed)
    model_id = scalar(plpy, GD, "SELECT hart.resolve_model($1) AS value", ["text"], [model])
    rows(plpy, GD, "SELECT hart.check_may_chart($1, pg_catalog.quote_ident(current_user)::regrole)", ["int"], [model_id])
    if not scalar(
        plpy,
        GD,
        "SELECT pg_catalog.pg_try_advisory_xact_lock(hart.ingest_lock_class(), $1) AS value",
        ["int"],
        [model_id],
    ):
        raise HartError(
            "another session is making charts of this model", OBJECT_IN_USE, hint="Wait until it is done, or cancel it."
        )
    python = interpreter(plpy, GD)
    check_umap(python)
    start = time.monotonic()
    tokens, others = partition(plpy, GD, model_id)
    if len(tokens) <= neighbors:
        raise HartError(
            f"a model of {len(tokens)} usable tokens is too small for {neighbors} neighbors of each",
            INVALID_PARAMETER_VALUE,
            hint="Ask for fewer neighbors; such a model has its neighbors found by a pass over all tokens as fast.",
        )
    graph = neighbor_graph(plpy, GD, model_id, tokens, others, neighbors, start)
    task = {
        "points": len(tokens),
        "neighbors": neighbors,
        "axes": AXES,
        "seeds": list(range(seed, seed + charts)),
        "min_dist": min_dist,
        "epochs": epochs,
    }
    layouts = lay_out(plpy, python, task, graph)
    replace(plpy, GD, model_id, tokens, task, layouts)
    plpy.notice(f"{charts} neighbourhood charts of {len(tokens)} tokens in {time.monotonic() - start:.0f} s")


def check_options(charts, neighbors, min_dist, epochs, seed):
    """Every option is in its range."""
    for name, value, least, most in (
        ("charts", charts, 1, MAX_CHARTS),
        ("neighbors", neighbors, 2, MAX_NEIGHBORS),
        ("min_dist", min_dist, 0, 0.99),
        ("epochs", epochs, 1, 10_000),
        ("seed", seed, 0, 2**31 - 1 - MAX_CHARTS),
    ):
        if value is None and name == "epochs":
            continue  # UMAP chooses by the number of points
        if value is None or not least <= value <= most:
            raise HartError(
                f"{name} is {'null' if value is None else value}, out of range",
                INVALID_PARAMETER_VALUE,
                hint=f"Choose {name} from {least} to {most}.",
            )


def check_umap(python):
    """The interpreter has the library; asked before minutes of work, with nothing but a look at what is installed."""
    question = "import importlib.util, sys; sys.exit(importlib.util.find_spec('umap') is None)"
    try:
        missing = subprocess.run(
            [python, "-c", question], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
        ).returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HartError(
            f"Python {quoted(python)} cannot be run",
            UNDEFINED_FILE,
            detail=f"{error}.",
            hint="SET hart.geometry_python to an interpreter that the server's user may run.",
        ) from None
    if missing:
        raise HartError(
            f"the Python package umap-learn is missing for {quoted(python)}",
            UNDEFINED_FILE,
            detail="Neighbourhood charts are optional, and so is the library that they are made with.",
            hint="Make an environment on the server: python3 -m venv DIR && DIR/bin/pip install umap-learn;"
            " then ALTER SYSTEM SET hart.geometry_python = 'DIR/bin/python'.",
        )


def partition(plpy, GD, model_id):
    """Rows of the embedding that are tokens with a direction, and all others."""
    if (
        scalar(
            plpy, GD, "SELECT count(*) AS value FROM hart.charts WHERE model_id = $1 AND chart = 0", ["int"], [model_id]
        )
        != 1
    ):
        raise HartError("the model has no linear chart", OBJECT_NOT_READY, hint="Drop the model and ingest it again.")
    named = scalar(
        plpy,
        GD,
        "SELECT array_agg(token_id ORDER BY token_id) AS value FROM hart.tokens WHERE model_id = $1",
        ["int"],
        [model_id],
    )
    embedding = Embedding(plpy, GD, model_id)
    good = numpy.zeros(embedding.n_rows, bool)
    for first in range(0, embedding.n_rows, READ_ROWS):
        ids = range(first, min(first + READ_ROWS, embedding.n_rows))
        block = embedding.read(ids)
        good[first : first + len(ids)] = usable(block) & block.any(axis=1)
    token = numpy.zeros(embedding.n_rows, bool)
    token[numpy.array(named or [], int)] = True
    return numpy.flatnonzero(good & token), numpy.flatnonzero(~(good & token))


def neighbor_graph(plpy, GD, model_id, tokens, others, neighbors, start):
    """The nearest neighbours of each token, itself first, as numbers among the tokens; and their cosine distances."""
    number = numpy.full(len(tokens) + len(others), -1, numpy.int32)
    number[tokens] = numpy.arange(len(tokens))
    ids = numpy.empty((len(tokens), neighbors), numpy.int32)
    distances = numpy.zeros((len(tokens), neighbors), numpy.float32)
    ids[:, 0] = numpy.arange(len(tokens))
    said = time.monotonic()
    for first in range(0, len(tokens), GRAPH_ROWS):
        some = tokens[first : first + GRAPH_ROWS]
        found = scalar(
            plpy,
            GD,
            "SELECT hart.neighbor_graph($1, $2, $3, $4) AS value",
            ["int", "int[]", "int[]", "int"],
            [model_id, some.tolist(), others.tolist(), neighbors - 1],
        )
        nearest, cosines = numpy.frombuffer(found, "<i4").reshape(2, len(some), neighbors - 1)
        last = first + len(some)
        ids[first:last, 1:] = number[nearest]
        distances[first:last, 1:] = numpy.maximum(1 - cosines.view("<f4"), 0)
        if time.monotonic() - said >= INTERVAL:
            said = time.monotonic()
            left = (said - start) * (len(tokens) - last) / last
            plpy.notice(f"neighbours of {last} of {len(tokens)} tokens, {left:.0f} s left")
    return ids, distances


def lay_out(plpy, python, task, graph):
    """Run the program on the graph; layouts, (charts, points, axes). Whatever happens, the process ends here."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as log:
        given.write(json.dumps(task).encode() + b"\n")
        for array in graph:
            given.write(numpy.ascontiguousarray(array).tobytes())
        given.seek(0)
        # A session of its own, so that signals for this process go to this process; its input ends when we do.
        child = subprocess.Popen(
            [python, str(PROGRAM), str(given.fileno())],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=log,
            pass_fds=[given.fileno()],
            start_new_session=True,
        )
        try:
            watch(plpy, child, log)
        finally:
            child.kill()
            child.wait()
            child.stdin.close()
        shape = len(task["seeds"]), task["points"], task["axes"]
        output.seek(0)
        data = output.read()
        layouts = numpy.frombuffer(data, "<f4", len(data) // 4).astype(numpy.float64)
        if child.returncode != 0 or layouts.size != numpy.prod(shape) or not numpy.isfinite(layouts).all():
            raise HartError(
                "UMAP failed",
                EXTERNAL_ROUTINE_EXCEPTION,
                detail=last_line(log),
                hint="The detail is the last line of the program; its memory grows with the number of tokens.",
            )
        return layouts.reshape(shape)


def watch(plpy, child, log):
    """Wait for the end; pg_sleep acts on a request to cancel."""
    begun = said = time.monotonic()
    while child.poll() is None:
        plpy.execute("SELECT pg_catalog.pg_sleep(0.1)")
        if time.monotonic() - said >= INTERVAL:
            said = time.monotonic()
            plpy.notice(f"{stage(tail(log))}, {said - begun:.0f} s")


def stage(text):
    """How far the program is, by what it has said."""
    chart, percent = re.findall(r"chart \d+ of \d+", text), re.findall(r"(\d+)%\|", text.rpartition("chart ")[2])
    return (chart[-1] if chart else "loading UMAP") + (f", {percent[-1]} %" if percent else "")


def tail(log):
    """The end of what a program has said so far; the place where it writes stays."""
    size = os.fstat(log.fileno()).st_size
    return os.pread(log.fileno(), LOG_BYTES, max(0, size - LOG_BYTES)).decode("utf-8", "replace")


def last_line(log):
    lines = [line for line in re.split(r"[\r\n]+", tail(log)) if line.strip()]
    return lines[-1].strip() if lines else "It said nothing."


def replace(plpy, GD, model_id, tokens, task, layouts):
    """Put the new charts in the place of the old ones, in this transaction."""
    rows(plpy, GD, "SELECT hart.drop_neighbourhood_charts($1)", ["int"], [model_id])
    n_rows = scalar(
        plpy, GD, "SELECT vocab_size AS value FROM hart.model_registry WHERE model_id = $1", ["int"], [model_id]
    )
    for chart, (seed, layout) in enumerate(zip(task["seeds"], layouts), 1):
        layout = layout - layout.mean(axis=0)
        scale = scale_for(layout)
        points = numpy.zeros((n_rows, AXES))  # tokens without a direction are at 0
        points[tokens] = (layout * scale).astype(numpy.float32)  # which the index holds exactly
        leaf = scalar(plpy, GD, "SELECT hart.begin_chart($1, $2) AS value", ["int", "int"], [model_id, chart])
        fill(plpy, leaf, model_id, chart, points)
        made_with = {"method": "umap", "metric": "cosine", "extent": EXTENT} | {
            key: task[key] for key in ("neighbors", "min_dist", "epochs")
        }
        finish(plpy, GD, model_id, chart, scale, None, None, made_with, seed)
