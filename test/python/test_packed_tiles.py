"""Packed tensors: whatever is ingested is exported again, and sessions that change one at the same time lose nothing."""
import hashlib
import threading
import time

import numpy as np
import psycopg
import pytest

import models

M = models.Model("packed", dim=24, hidden=100, layers=1, heads=2, kv_heads=1, head_dim=12, vocab=300, dtypes="BF16", tied=True)
HEAD = "model.embed_tokens.weight"      # of 7200 weights, in two tiles
MODEL = "packing"


def exponents(rng, n, values):
    """Random signs and mantissas beside exponents drawn from these."""
    return (rng.integers(0, 0x10000, n) & 0x807F | rng.choice(values, n) << 7).astype("<u2")


def drawn(rng, n):
    """Weights of one of many kinds: trained ones, a few exponents, more than fit, odd values among others, noise, zeros."""
    kind = rng.integers(6)
    if kind == 0:
        return models.encode(rng.normal(0, 10.0 ** rng.integers(-30, 30), n).astype(np.float32), "BF16")
    if kind == 1:
        return exponents(rng, n, rng.choice(256, rng.integers(1, 18), replace=False))
    if kind == 2:
        bits = exponents(rng, n, np.arange(100, 116))
        odd = rng.choice(n, min(n, int(rng.integers(1, 60))), replace=False)
        bits[odd] = rng.choice([0x0000, 0x8000, 0x0001, 0x807F, 0x7F80, 0xFF80, 0x7FC0, 0x7F81, 0xFFFF, 0x7F7F], len(odd))
        return bits
    if kind == 3:
        return rng.integers(0, 0x10000, n).astype("<u2")
    if kind == 4:
        return np.full(n, rng.choice([0, 0x8000, 0x3F80]), "<u2")
    # packs but for its very end
    bits = exponents(rng, n, np.arange(100, 104))
    bits[-200:] = rng.integers(0, 0x10000, min(n, 200))
    return bits


def rewritten(folder, rng):
    """A checkpoint with other weights; its path."""
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    header = raw[:8 + int.from_bytes(raw[:8], "little")]
    path.write_bytes(header + b"".join(drawn(rng, int(np.prod(shape))).tobytes() for _, shape in models.tensor_shapes(M)))
    return path


@pytest.mark.parametrize("seed", range(6))
def test_export_gives_back_what_was_ingested(conn, folder, seed):
    models.write_model(folder / "in", M, seed)
    path = rewritten(folder / "in", np.random.default_rng(seed))
    conn.execute("CALL hart.ingest_model(%s, 'fuzzed')", [str(folder / "in")])
    try:
        conn.execute("CALL hart.export_model('fuzzed', %s)", [str(folder / "out")])
        assert hashlib.sha256((folder / "out" / path.name).read_bytes()).digest() == hashlib.sha256(path.read_bytes()).digest()
        assert not [text for severity, text, _ in conn.said if "were changed" in text]
        # and again from plain tiles
        conn.execute("SELECT hart.make_plain(model_id, tensor_id) FROM hart.tensors JOIN hart.models USING (model_id) WHERE models.name = 'fuzzed'")
        conn.execute("CALL hart.export_model('fuzzed', %s)", [str(folder / "plain")])
        assert (folder / "plain" / path.name).read_bytes() == path.read_bytes()
    finally:
        conn.execute("CALL hart.drop_model('fuzzed')")


def test_fuzzing_meets_every_encoding(conn, folder):
    """The seeds above make packed tensors and plain ones."""
    rngs = [np.random.default_rng(seed) for seed in range(6)]
    sizes = [int(np.prod(shape)) for _, shape in models.tensor_shapes(M)]
    fits = {conn.one("SELECT hart.fits_encoding('BF16', 'bf12', %s)", drawn(rng, n).tobytes()) for rng in rngs for n in sizes if n > 1024}
    assert fits == {True, False}


@pytest.fixture
def packed(db, conn, folder):
    """A packed model of our own."""
    models.write_model(folder / "m", M, 1)
    conn.execute("CALL hart.ingest_model(%s, %s)", [str(folder / "m"), MODEL])
    assert encoding(conn) == "bf12"
    yield MODEL
    conn.rollback()
    conn.execute("CALL hart.drop_model(%s)", [MODEL])


def encoding(session):
    return session.one("SELECT encoding FROM hart.tensors AS t JOIN hart.models AS m USING (model_id) WHERE m.name = %s AND t.name = %s", MODEL, HEAD)


def edit(session, row, value):
    return session.execute("UPDATE hart.weights SET value = %s WHERE model = %s AND tensor = %s AND row = %s AND col = 0", [value, MODEL, HEAD, row]).rowcount


def scatter(session, first=0, last=299):
    """A change that no packed tile has room for; in columns from 1 on."""
    return session.execute("UPDATE hart.weights SET value = power(2::float8, (row + col) %% 90 - 45) WHERE model = %s AND tensor = %s AND col > 0 AND row BETWEEN %s AND %s",
                           [MODEL, HEAD, first, last]).rowcount


def values(session, row):
    return [float(np.float32(value)) for value, in session.all("SELECT value FROM hart.weights WHERE model = %s AND tensor = %s AND row = %s ORDER BY col", MODEL, HEAD, row)]


SCATTERED = [[2.0 ** ((row + col) % 90 - 45) for col in range(1, 24)] for row in range(300)]


def wait_for_lock(conn, pid):
    deadline = time.monotonic() + 30
    while not conn.all("SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'", pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def meanwhile(db, conn, mode, change):
    """Run a change in a second session while the first is about to commit; what the second got."""
    outcome = []
    with db.connect() as other:
        other.execute(f"BEGIN ISOLATION LEVEL {mode}")
        assert len(values(other, 0)) == 24

        def run():
            try:
                outcome.append(change(other))
                other.execute("COMMIT")
            except psycopg.Error as error:
                outcome.append(error.sqlstate)

        thread = threading.Thread(target=run)
        thread.start()
        wait_for_lock(conn, other.pid)
        conn.execute("COMMIT")
        thread.join()
    return outcome[0]


def test_an_edit_waits_for_the_conversion(db, conn, packed):
    conn.execute("BEGIN")
    scatter(conn)
    assert meanwhile(db, conn, "READ COMMITTED", lambda other: edit(other, 250, 0.5)) == 1
    assert encoding(conn) == "plain"
    assert values(conn, 250) == [0.5, *SCATTERED[250]] and values(conn, 7)[1:] == SCATTERED[7]


def test_the_conversion_waits_for_an_edit(db, conn, packed):
    conn.execute("BEGIN")
    assert edit(conn, 250, 0.5) == 1
    assert meanwhile(db, conn, "READ COMMITTED", scatter) == 300 * 23
    assert encoding(conn) == "plain"
    assert values(conn, 250) == [0.5, *SCATTERED[250]] and values(conn, 7)[1:] == SCATTERED[7]


@pytest.mark.parametrize("mode", ["REPEATABLE READ", "SERIALIZABLE"])
def test_stricter_isolation(db, conn, packed, mode):
    conn.execute("BEGIN")
    scatter(conn)
    assert meanwhile(db, conn, mode, lambda other: edit(other, 250, 0.5)) == "40001"
    assert values(conn, 250)[1:] == SCATTERED[250] and values(conn, 250)[0] != 0.5


def test_two_conversions(db, conn, packed):
    """Each holds what the other needs: one ends in an error, nothing of it is left, and the other is whole."""
    conn.execute("BEGIN")
    edit(conn, 10, 0.5)
    outcome = []
    with db.connect() as other:
        other.execute("BEGIN")
        edit(other, 250, 0.5)

        def run():
            try:
                outcome.append(scatter(other, 200, 299))
                other.execute("COMMIT")
            except psycopg.Error as error:
                outcome.append(error.sqlstate)
                other.rollback()

        thread = threading.Thread(target=run)
        thread.start()
        wait_for_lock(conn, other.pid)
        try:
            mine = scatter(conn, 0, 99)
            conn.execute("COMMIT")
        except psycopg.Error as error:
            mine = error.sqlstate
            conn.rollback()
        thread.join()
    assert sorted([mine == "40P01", outcome[0] == "40P01"]) == [False, True]
    assert encoding(conn) == "plain"
    assert (values(conn, 10)[1:] == SCATTERED[10]) == (values(conn, 10)[0] == 0.5) == (mine != "40P01")
    assert (values(conn, 250)[1:] == SCATTERED[250]) == (values(conn, 250)[0] == 0.5) == (outcome[0] != "40P01")


def test_steady_snapshot(db, conn, packed):
    """Who looked before sees the packed tensor, who looks afterwards the plain one."""
    ask = "SELECT hart.logits(ARRAY[5, 6, 7], %s)"
    before, row = conn.one(ask, MODEL), values(conn, 20)
    with db.connect() as other:
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        assert other.one(ask, MODEL) == before
        conn.execute("BEGIN")
        scatter(conn)
        conn.execute("UPDATE hart.weights SET value = 0 WHERE model = %s AND tensor = %s AND abs(value) > 1", [MODEL, HEAD])
        assert conn.one(ask, MODEL) != before
        assert other.one(ask, MODEL) == before
        conn.execute("COMMIT")
        assert other.one(ask, MODEL) == before and values(other, 20) == row
        conn.execute(f"VACUUM hart.tiles_{conn.one('SELECT model_id FROM hart.models WHERE name = %s', MODEL)}")
        assert other.one(ask, MODEL) == before
        other.rollback()
        assert other.one(ask, MODEL) == conn.one(ask, MODEL) != before


def test_said_once(conn, packed):
    conn.execute("BEGIN")
    conn.said.clear()
    scatter(conn)
    assert [text for severity, text, _ in conn.said if severity == "NOTICE"] == [f'tensor "{HEAD}" of model "{MODEL}" is stored plain from now on']
    conn.said.clear()
    scatter(conn)
    assert conn.said == []
    conn.rollback()
    assert encoding(conn) == "bf12"
