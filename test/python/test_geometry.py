"""Positions of tokens against numpy, moved by several sessions, and learning charts through a stand-in for UMAP."""
import json
import os
import stat

import numpy as np
import psycopg
import pytest

import models
from background import Background, wait_for

EMBEDDING = "model.embed_tokens.weight"
MODELS = ["llama_bf16", "llama_f16", "qwen3_f32", "qwen2_untied", "llama_odd"]


def embedding(folder):
    """The embedding of a checkpoint as float64."""
    for path in sorted(folder.glob("*.safetensors")):
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
            if EMBEDDING in header:
                entry = header[EMBEDDING]
                begin, end = entry["data_offsets"]
                file.seek(8 + size + begin)
                data = file.read(end - begin)
    if entry["dtype"] == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"]).astype(float)
    return np.frombuffer(data, {"F16": "<f2", "F32": "<f4"}[entry["dtype"]]).reshape(entry["shape"]).astype(float)


def model_id(session, name):
    return session.one("SELECT model_id FROM hart.models WHERE name = %s", name)


def chart_of(session, number):
    """mean, basis, scale of chart 0."""
    ((mean, basis, scale),) = session.all("SELECT mean, basis, scale FROM hart.charts WHERE model_id = %s AND chart = 0", number)
    return np.array(mean), np.array(basis), scale


def positions(session, number, chart=0):
    """token id → position."""
    return {token: np.array(at) for token, at in session.all(
        "SELECT token_id, hart.coordinates(position) FROM hart.token_positions WHERE model_id = %s AND chart = %s", number, chart)}


def row(session, number, token):
    return np.array(session.one("SELECT hart.embedding_row(%s, %s)", number, token), np.float32).astype(float)   # as text they are rounded


@pytest.mark.parametrize("name", MODELS)
def test_linear_chart_against_numpy(db, conn, folders, name):
    number, rows = model_id(conn, db.model(name)), embedding(folders(name))
    mean, basis, scale = chart_of(conn, number)
    principal = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)[2][:4]
    assert np.allclose(mean, rows.mean(axis=0), atol=1e-6)
    assert np.allclose(np.abs(np.sum(basis * principal, axis=1)), 1, atol=1e-3)
    wanted = scale * (rows - mean) @ basis.T
    found = positions(conn, number)
    assert max(np.abs(at - wanted[token]).max() for token, at in found.items()) < 1e-12
    assert 0 < max(np.abs(at).max() for at in found.values()) <= 0.8 + 1e-12


@pytest.mark.parametrize("name", MODELS)
def test_nearest_against_numpy(db, conn, folders, name):
    number, rows = model_id(conn, db.model(name)), embedding(folders(name))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    rng = np.random.default_rng(0)
    for token in (3, 40, len(rows) - 1):
        vector = (rows[token] + 0.1 * rng.standard_normal(rows.shape[1])).astype(np.float32)
        cosines = unit @ (vector / np.linalg.norm(vector))
        found = conn.all("SELECT * FROM hart.nearest_rows(%s, %s::real[], 25)", number, vector.tolist())
        assert np.allclose([c for _, c in found], cosines[[t for t, _ in found]], atol=1e-6)
        assert np.allclose([c for _, c in found], np.sort(cosines)[::-1][:25], atol=1e-6)
        some = list(range(0, len(rows), 7))
        assert np.allclose(conn.one("SELECT hart.row_cosines(%s, %s::real[], %s)", number, vector.tolist(), some), cosines[some], atol=1e-6)


@pytest.mark.parametrize("name", ["llama_bf16", "llama_f16", "qwen3_f32"])
def test_moving_is_exact(db, conn, name):
    """Whatever the dtype, the embedding's projection is the position that was asked for, and only it changes."""
    number = model_id(conn, db.model(name))
    mean, basis, scale = chart_of(conn, number)
    rng = np.random.default_rng(1)
    conn.execute("BEGIN")
    for token in (5, 17, 96):
        before, at = row(conn, number, token), rng.uniform(-0.9, 0.9, 4)
        conn.execute("UPDATE hart.token_positions SET position = hart.point(%s) WHERE model_id = %s AND chart = 0 AND token_id = %s",
                     [at.tolist(), number, token])
        after = row(conn, number, token)
        assert np.abs(scale * basis @ (after - mean) - at).max() < 1e-5
        ideal = before + (at - scale * basis @ (before - mean)) / scale @ basis
        unit = {"B": 2.0**-7, "f": 2.0**-9, "q": 2.0**-22}["B" if "bf16" in name else name[6] if "f16" in name else "q"]
        assert (np.abs(after - ideal) <= 4.6 * unit * np.maximum(np.abs(ideal), 2.0**-14)).all()
    conn.rollback()
    assert np.abs(scale * basis @ (row(conn, number, 5) - mean) - positions(conn, number)[5]).max() < 1e-12


def test_embeddings_too_coarse(db, conn, refused):
    """20 or so numbers of 8 bits do not reach every position within 1e-5: said, not approximated."""
    number = model_id(conn, db.model("llama_odd"))
    codes = set()
    for token in range(3, 23):
        try:
            with conn.transaction():
                conn.execute("UPDATE hart.token_positions SET position = hart.point('{0.5,0.1,-0.3,0.2}') WHERE model_id = %s AND chart = 0 AND token_id = %s", [number, token])
                raise psycopg.Rollback
        except psycopg.Error as error:
            codes.add(error.sqlstate)
            assert "too coarse" in str(error) and error.diag.message_hint
    assert codes <= {"22003"}


def test_two_sessions_in_one_tile(db, folders):
    """Who moves a token of a tile that another session is changing waits, and keeps the other's change."""
    with db.connect() as first, db.connect() as third:
        first.execute("CALL hart.ingest_model(%s, 'shared')", [str(folders("llama_f32"))])
        number = model_id(first, "shared")
        mean, basis, scale = chart_of(first, number)
        move = "UPDATE hart.token_positions SET position = hart.point(%s) WHERE model_id = %s AND chart = 0 AND token_id = %s"
        first.execute("BEGIN")
        first.execute(move, [[0.1, 0.2, 0.3, 0.4], number, 5])
        second = Background(db.dsn, move, [-0.1, -0.2, -0.3, -0.4], number, 6)
        try:
            wait_for("lock", lambda: third.one("SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %s", second.session.pid))
            first.execute("COMMIT")
            assert second.join().error is None
        finally:
            second.close()
        for token, at in ((5, [0.1, 0.2, 0.3, 0.4]), (6, [-0.1, -0.2, -0.3, -0.4])):
            assert np.abs(scale * basis @ (row(third, number, token) - mean) - at).max() < 1e-5
        assert third.one("SELECT hart.reproject_tokens(%s)", number) <= 2
        first.execute("CALL hart.drop_model('shared')")


def test_weights_that_are_no_numbers(conn, folder):
    """A row of NaN does not stop the ingest; its token is at 0, is nobody's neighbour and cannot be moved."""
    m = models.Model("spoilt")
    models.write_model(folder / "spoilt", m, 1)
    path = folder / "spoilt" / "model.safetensors"
    data = bytearray(path.read_bytes())
    begin = 8 + int.from_bytes(data[:8], "little")
    assert next(models.tensor_shapes(m))[0] == EMBEDDING
    data[begin + 4 * m.dim * 9: begin + 4 * m.dim * 9 + 4] = b"\x00\x00\xc0\x7f"
    path.write_bytes(data)
    conn.execute("CALL hart.ingest_model(%s)", [str(folder / "spoilt")])
    try:
        assert any("1 of 131 rows" in warning for warning in conn.warnings)
        number = model_id(conn, "spoilt")
        found = positions(conn, number)
        assert not found[9].any() and all(np.isfinite(at).all() for at in found.values())
        assert 9 not in [t for t, _ in conn.all("SELECT * FROM hart.nearest_rows(%s, hart.embedding_row(%s, 8), 500)", number, number)]
        assert conn.one("SELECT hart.row_cosines(%s, hart.embedding_row(%s, 8), '{9}')", number, number) == [None]
        with pytest.raises(psycopg.Error, match="NaN"):
            conn.execute("UPDATE hart.token_positions SET position = hart.point('{0.1,0,0,0}') WHERE model_id = %s AND token_id = 9", [number])
    finally:
        conn.execute("CALL hart.drop_model('spoilt')")


def test_reading_needs_no_writing(db, conn):
    conn.execute("BEGIN READ ONLY")
    assert len(conn.all("SELECT * FROM hart.neighbors('the', 5, %s)", db.model("llama_bf16"))) == 5
    assert len(conn.all("SELECT * FROM hart.neighbors('the', 5, 'llama_bf16', exact => false)")) == 5
    assert len(conn.all("SELECT * FROM hart.why_near('the', 'th', 'llama_bf16')")) >= 10
    conn.execute("COMMIT")


# Learning ----------------------------------------------------------------------------------------

STANDIN = """#!/usr/bin/env python3
import json, os, struct, sys, time
if sys.argv[1] == "-c":
    sys.exit({missing})
with os.fdopen(int(sys.argv[2]), "rb") as file:
    task = json.loads(file.readline())
    n = task["points"] * task["neighbors"]
    ids = struct.unpack("<%di" % n, file.read(4 * n))
    distances = struct.unpack("<%df" % n, file.read(4 * n))
assert [ids[i * task["neighbors"]] for i in range(task["points"])] == list(range(task["points"]))
assert all(-1 <= i < task["points"] for i in ids) and all(0 <= d <= 2 for d in distances)
{act}
for seed in task["seeds"]:
    sys.stdout.buffer.write(struct.pack("<%df" % (4 * task["points"]), *(((i * 7919 + seed) % 1000) / 10 for i in range(4 * task["points"]))))
"""


@pytest.fixture
def python(folder):
    """python(act): an interpreter that does that in the place of UMAP."""
    def written(act="pass", missing=0):
        path = folder / "python"
        path.write_text(STANDIN.format(act=act, missing=missing))
        path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        return str(path)
    return written


@pytest.fixture
def learner(db, folders):
    """A session with a model of its own."""
    with db.connect() as session:
        session.execute("CALL hart.ingest_model(%s, 'learner')", [str(folders("llama_f16"))])
        session.execute("SET hart.model = 'learner'")
        yield session
        session.rollback()
        session.execute("RESET hart.geometry_python")
        session.execute("CALL hart.drop_model('learner')")


def charts(session):
    return session.all("SELECT chart, kind, seed FROM hart.charts WHERE model_id = hart.resolve_model() ORDER BY chart")


def test_learning(learner, python):
    learner.execute(f"SET hart.geometry_python = '{python()}'")
    learner.execute("CALL hart.learn_geometry(charts => 2, neighbors => 5, seed => 40)")
    assert charts(learner) == [(0, "linear", None), (1, "neighbourhood", 40), (2, "neighbourhood", 41)]
    number = model_id(learner, "learner")
    for chart in (1, 2):
        found = positions(learner, number, chart)
        assert found.keys() == positions(learner, number).keys()
        assert max(np.abs(at).max() for at in found.values()) == pytest.approx(0.8)
    exact = [t for t, in learner.all("SELECT token_id FROM hart.neighbors('the', 5, exact => true)")]
    ((method,),) = learner.all("SELECT DISTINCT method FROM hart.neighbors('the', 5)")
    assert method.startswith("charts 1, 2: ")
    # as many candidates as there are tokens: the answer is the exact one, whatever the layout
    assert [t for t, in learner.all("SELECT token_id FROM hart.neighbors('the', 50)")][:5] == exact
    learner.execute("CALL hart.learn_geometry(charts => 1, neighbors => 5)")
    assert charts(learner) == [(0, "linear", None), (1, "neighbourhood", 1)]


@pytest.mark.parametrize("act", ["sys.exit('no memory')", "sys.stdout.buffer.write(b'x'); sys.exit(0)", "os.kill(os.getpid(), 9)",
                                 "sys.stdout.buffer.write(struct.pack('<f', float('nan')) * 4 * task['points']); sys.exit(0)"])
def test_learning_that_fails(learner, python, act):
    learner.execute(f"SET hart.geometry_python = '{python()}'")
    learner.execute("CALL hart.learn_geometry(charts => 1, neighbors => 5)")
    learner.execute(f"SET hart.geometry_python = '{python(act)}'")
    with pytest.raises(psycopg.Error, match="UMAP failed") as caught:
        learner.execute("CALL hart.learn_geometry(charts => 1, neighbors => 5, seed => 7)")
    assert caught.value.sqlstate == "38000" and caught.value.diag.message_hint
    if "no memory" in act:
        assert caught.value.diag.message_detail == "no memory"
    assert charts(learner) == [(0, "linear", None), (1, "neighbourhood", 1)]


def test_learning_without_the_library(learner, python, folder):
    for interpreter, words in ((python(missing=1), "umap-learn is missing"), (str(folder / "nothing"), "cannot be run")):
        learner.execute(f"SET hart.geometry_python = '{interpreter}'")
        with pytest.raises(psycopg.Error, match=words) as caught:
            learner.execute("CALL hart.learn_geometry()")
        assert caught.value.sqlstate == "58P01" and caught.value.diag.message_hint
    for option in ("charts => 0", "charts => 9", "charts => NULL", "neighbors => 1", "neighbors => 300", "min_dist => 'NaN'", "min_dist => 2", "epochs => 0", "seed => -1"):
        with pytest.raises(psycopg.Error, match="out of range") as caught:
            learner.execute(f"CALL hart.learn_geometry({option})")
        assert caught.value.sqlstate == "22023" and caught.value.diag.message_hint


def test_cancelling_ends_the_child(db, learner, python, folder):
    note = folder / "pid"
    note.touch()
    note.chmod(0o666)
    act = f"open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    with db.connect() as session:
        session.execute(f"SET hart.geometry_python = '{python(act)}'")
        work = Background(session, "CALL hart.learn_geometry('learner', 1, 5)")
        child = int(wait_for("start of the child", note.read_text))
        learner.execute("SELECT pg_cancel_backend(%s)", [session.pid])
        assert isinstance(work.join().error, psycopg.errors.QueryCanceled)
    wait_for("end of the child", lambda: not os.path.exists(f"/proc/{child}"))
    assert charts(learner) == [(0, "linear", None)]


@pytest.mark.skipif(not os.environ.get("HART_TEST_UMAP_PYTHON"), reason="HART_TEST_UMAP_PYTHON names no Python with umap-learn")
def test_learning_with_umap(learner):
    learner.execute(f"SET hart.geometry_python = '{os.environ['HART_TEST_UMAP_PYTHON']}'")
    learner.execute("CALL hart.learn_geometry(charts => 1, neighbors => 5, epochs => 20)")
    first = positions(learner, model_id(learner, "learner"), 1)
    learner.execute("CALL hart.learn_geometry(charts => 1, neighbors => 5, epochs => 20)")
    again = positions(learner, model_id(learner, "learner"), 1)
    assert all((first[token] == again[token]).all() for token in first)
