"""A model in 8 bits: its tiles and logits against numpy, the figures of hart.compare_models, transactions, interruptions, dumps."""
import shutil

import numpy as np
import psycopg
import pytest

import models
from background import Background, PeakMemory, wait_for
from quantized_twin import HEADER, TILE_BLOCKS, forward, round_weights, round_x, unpack_tile
from server import BINDIR, TOP, Session, run

# Rows of 5 and 17 blocks: within a group and beyond, cut by the ends of tiles.
SMALL = models.Model("eight", "qwen2", dim=320, hidden=1088, heads=5, kv_heads=1, head_dim=64, dtypes="BF16", bos=False)
IDS = models.prompt_ids(SMALL, 40)
BIG = "qwen_shape"


@pytest.fixture(scope="module")
def eight(db, scratch):
    """A model and its copy in 8 bits."""
    models.write_model(scratch / SMALL.name, SMALL, "eight")
    with db.connect() as session:
        session.execute("CALL hart.ingest_model(%s)", [str(scratch / SMALL.name)])
        session.execute("CALL hart.quantize_model('eight')")
        said = [message for severity, message, _ in session.said if severity == "NOTICE"]
        assert any("tensors in 8 bits" in m for m in said) and any("perplexity" in m and "instead of" in m for m in said), said
        yield "eight-q8"
        session.execute("CALL hart.drop_model('eight-q8')")
        session.execute("CALL hart.drop_model('eight')")


SHOWN = {}


def tensors(session, model):
    """name → (matrix as the database shows it, encoding); asked for once"""
    if model in SHOWN:
        return SHOWN[model]
    found = session.all("SELECT t.name, t.encoding, t.shape FROM hart.tensors t JOIN hart.models m USING (model_id) WHERE m.name = %s", model)
    shown = {}
    for name, encoding, shape in found:
        cols = shape[-1]
        rows = shape[0] if len(shape) == 2 else 1
        values = session.one("SELECT array_agg(value ORDER BY \"row\", col) FROM hart.weights WHERE model = %s AND tensor = %s", model, name)
        shown[name] = np.array(values, np.float32).reshape(rows, cols), encoding
    SHOWN[model] = shown
    return shown


def test_weights(conn, eight):
    """Every matrix is the source's, rounded as numpy rounds it, to the bit."""
    source, copy = tensors(conn, "eight"), tensors(conn, eight)
    assert source.keys() == copy.keys()
    assert {e for _, e in source.values()} == {"plain", "bf12"} and {e for _, e in copy.values()} == {"plain", "q8"}
    for name, (values, encoding) in copy.items():
        expected = round_weights(source[name][0]) if encoding == "q8" else source[name][0]
        assert np.array_equal(values, expected), name


def test_tiles(conn, eight):
    """The layout is the one that is written down."""
    name = "model.layers.1.mlp.down_proj.weight"
    row_blocks, total = 1088 // 64, 320 * 1088 // 64
    rows = conn.all("""SELECT tile_no, payload FROM hart.tiles JOIN hart.tensors USING (model_id, tensor_id) JOIN hart.models USING (model_id)
                       WHERE hart.models.name = %s AND hart.tensors.name = %s ORDER BY tile_no""", eight, name)
    assert [n for n, _ in rows] == list(range(-(-total // TILE_BLOCKS)))
    values = []
    for tile, payload in rows:
        n = min(TILE_BLOCKS, total - tile * TILE_BLOCKS)
        assert len(payload) == HEADER + 64 * n
        values.append(unpack_tile(payload, row_blocks, tile * TILE_BLOCKS % row_blocks, n))
    assert np.array_equal(np.concatenate(values), tensors(conn, eight)[name][0].ravel())


@pytest.mark.parametrize("kernel", ["portable", "auto"])
@pytest.mark.parametrize("n", [1, 3, 40])
def test_products(conn, eight, kernel, n):
    """y = x Wᵀ is that of the rounded numbers but for float32 sums."""
    conn.execute(f"SET hart.kernel = {kernel}")
    x = np.random.default_rng(n).standard_normal((n, 1088)) * 10.0 ** (np.arange(n)[:, None] % 20 - 10)
    x[0, :64] = 0
    x = x.astype(np.float32)
    w = tensors(conn, eight)["model.layers.1.mlp.down_proj.weight"][0].astype(np.float64)
    got = conn.one("SELECT ARRAY(SELECT hart.matrix_row(y, r) FROM generate_series(1, hart.n_rows(y)) AS r)"
                   " FROM hart.open_context(%s) AS ctx, hart.linear(ctx, 1, 'mlp.down_proj', %s::real[]::hart.matrix) AS y", eight, x.tolist())
    scale = np.abs(round_x(x)) @ np.abs(w).T
    assert (np.abs(np.array(got) - round_x(x) @ w.T) <= 1e-6 * scale).all()


@pytest.mark.parametrize("kernel", ["portable", "auto"])
def test_logits(conn, eight, kernel):
    """Logits are those of numpy with the same rounding: nearer than 8 bits are to 16. Not nearer still, as an activation that lies between
    two steps may be rounded either way after float32 and float64 sums."""
    conn.execute(f"SET hart.kernel = {kernel}")
    shown = tensors(conn, eight)
    weights, encodings = ({n: v[i] for n, v in shown.items()} for i in (0, 1))
    expected = forward(SMALL, weights, encodings, IDS)
    got = np.array(conn.one("SELECT hart.logits(%s::int[], %s)", IDS, eight))
    unrounded = np.array(conn.one("SELECT hart.logits(%s::int[], 'eight')", IDS))
    size = np.linalg.norm(expected[-1])
    assert np.linalg.norm(got - expected[-1]) < 1e-3 * size
    assert 3e-3 * size < np.linalg.norm(unrounded - expected[-1]) < 5e-2 * size


def test_same_answers(conn, eight):
    """Greedy ids do not depend on threads, batches or how often one asks."""
    statement = "SELECT hart.generate_tokens(%s::int[], 30, 'eight-q8', min_tokens => 30)"
    expected = conn.one(statement, IDS)
    for threads in (1, 2, 5):
        conn.execute(f"SET hart.threads = {threads}")
        assert conn.one(statement, IDS) == expected
    texts = [conn.one("SELECT hart.generate(%s, 12, 'eight-q8')", p) for p in ("the queen", "a", "and then in the")]
    many = conn.all("SELECT text FROM hart.generate_many(%s, 12, 'eight-q8')", ["the queen", "a", "and then in the"])
    assert [t for t, in many] == texts


def test_comparison(conn, eight):
    """The figures of hart.compare_models from the logits of both models."""
    text = "the queen and the king of the north, on a quiet evening at sea"
    ids = conn.one("SELECT hart.tokenize(%s, 'eight')", text)
    a, b = (np.array([conn.one("SELECT hart.logits(%s::int[], %s)", ids[:n], model) for n in range(1, len(ids))], np.float64) for model in ("eight", eight))
    log_a, log_b = (x - x.max(axis=1, keepdims=True) - np.log(np.exp(x - x.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True)) for x in (a, b))
    divergence = (np.exp(log_a) * (log_a - log_b)).sum(axis=1)
    at = np.arange(len(ids) - 1), np.array(ids[1:])
    expected = (len(ids) - 1, np.exp(-log_a[at].mean()), np.exp(-log_b[at].mean()), divergence.mean(), divergence.max(),
                (np.linalg.norm(b - a, axis=1) / np.linalg.norm(a, axis=1)).mean(), (a.argmax(axis=1) == b.argmax(axis=1)).mean())
    conn.execute("BEGIN READ ONLY")
    (got,) = conn.all("SELECT * FROM hart.compare_models('eight', %s, %s)", eight, text)
    conn.execute("COMMIT")
    assert got == pytest.approx(expected, rel=1e-3)
    assert 0 < got[3] < 0.01


def test_transactions(conn, eight, nothing_left):
    """Inside a transaction the copy is there at once, and goes with it; it is of the weights that the transaction sees."""
    conn.execute("BEGIN")
    conn.execute("UPDATE hart.weights SET value = 0 WHERE model = 'eight' AND tensor = 'model.layers.0.mlp.up_proj.weight' AND row = 5")
    conn.execute("CALL hart.quantize_model('eight', new_name => 'other')")
    assert conn.one("SELECT max(abs(value)) FROM hart.weights WHERE model = 'other' AND tensor = 'model.layers.0.mlp.up_proj.weight' AND row = 5") == 0
    assert conn.one("SELECT hart.logits('{5}', 'other')") != conn.one("SELECT hart.logits('{5}', 'eight-q8')")
    conn.execute("ROLLBACK")
    assert conn.all("SELECT 1 FROM hart.models WHERE name = 'other'") == []
    nothing_left(conn)
    conn.execute("BEGIN READ ONLY")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        conn.execute("CALL hart.quantize_model('eight', new_name => 'other')")
    conn.execute("ROLLBACK")
    nothing_left(conn)


def test_tokenizer(conn, scratch):
    """The demo model's tokenizer, byte-level pairs, comes along: rows, and the same tokens without a look at the source."""
    shutil.copytree(TOP / "demo" / "model", scratch / "demo", dirs_exist_ok=True)
    conn.execute("CALL hart.ingest_model(%s, 'pairs')", [str(scratch / "demo")])
    try:
        conn.execute("CALL hart.quantize_model('pairs')")
        expected = conn.one("SELECT hart.tokenize('CREATE TABLE naïve (id integer);', 'pairs')")
        for table in ("tokenizers", "merge_pairs", "stored_relations_merge", "tokens", "model_files"):
            counts = conn.all(f"SELECT count(*) FROM hart.{table} JOIN hart.models USING (model_id) WHERE hart.models.name IN ('pairs', 'pairs-q8') GROUP BY hart.models.name")
            assert len(counts) == 2 and counts[0] == counts[1], table
        conn.execute("CALL hart.drop_model('pairs')")
        assert conn.one("SELECT hart.tokenize('CREATE TABLE naïve (id integer);', 'pairs-q8')") == expected
        assert conn.one("SELECT hart.generate('The database', 5, 'pairs-q8')")
    finally:
        for name in ("pairs", "pairs-q8"):
            if conn.all("SELECT 1 FROM hart.models WHERE name = %s", name):
                conn.execute("CALL hart.drop_model(%s)", [name])


def test_statement_timeout(db, conn, nothing_left):
    db.model(BIG)
    conn.execute("SET statement_timeout = '200ms'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        conn.execute("CALL hart.quantize_model(%s, new_name => 'late')", [BIG])
    conn.execute("RESET statement_timeout")
    nothing_left(conn)


def test_killed(db, conn, nothing_left):
    """A session that dies leaves what the next one removes; meanwhile nobody can use it, and the name is free afterwards."""
    db.model(BIG)
    work = Background(db.dsn, "CALL hart.quantize_model(%s, new_name => 'killed')", BIG)
    try:
        wait_for("the beginning", lambda: conn.all("SELECT 1 FROM hart.ingest_progress WHERE name = 'killed'"))
        with pytest.raises(psycopg.errors.UndefinedObject):
            conn.execute("SELECT hart.logits('{5}', 'killed')")
        with pytest.raises(psycopg.Error) as caught:
            conn.execute("CALL hart.quantize_model(%s, new_name => 'killed')", [BIG])
        assert caught.value.sqlstate == "55006"
        conn.execute("SELECT pg_terminate_backend(%s)", [work.session.pid])
        work.join()
        assert work.error is not None
    finally:
        work.close()
    wait_for("its end", lambda: not conn.all("SELECT 1 FROM pg_stat_activity WHERE pid = %s", work.session.pid))
    conn.execute("SELECT hart.drop_dead_ingests()")
    nothing_left(conn)


def test_big(db, conn):
    """332 MB, whose embedding alone has 136 million weights: no more than some tiles of it are in memory."""
    db.model(BIG)
    work = Background(db.dsn, "CALL hart.quantize_model(%s, text => 'the queen')", BIG)
    try:
        with PeakMemory(work.session.pid) as memory:
            work.join()
        assert work.error is None
        stored = conn.one("SELECT pg_relation_size(tiles) FROM hart.models WHERE name = %s", BIG + "-q8")
        assert stored < 0.55 * 331.9e6
        assert conn.one("SELECT error FROM hart.compare_models(%s, %s, 'the queen of the sea')", BIG, BIG + "-q8") < 0.05
        assert memory.peak < 250
    finally:
        work.close()
        conn.execute("CALL hart.drop_model(%s)", [BIG + "-q8"])


def test_dump_and_restore(server, server_db, folder):
    """A copy in 8 bits is data of the user's like its source."""
    name, restored = SMALL.name, "restored_q8"
    models.write_model(folder / name, SMALL, "eight")
    e = server.environment
    where = ("-h", e["PGHOST"], "-p", e["PGPORT"], "-U", e["PGUSER"])
    with server_db.connect() as session:
        session.execute("CALL hart.ingest_model(%s)", [str(folder / name)])
        session.execute("CALL hart.quantize_model(%s)", [name])
        expected = session.one("SELECT hart.logits(%s::int[], 'eight-q8')", IDS)
        run(BINDIR / "pg_dump", *where, "-d", server_db.name, "-F", "custom", "-f", folder / "dump")
        session.execute(f"CREATE DATABASE {restored} TEMPLATE template0")
        try:
            run(BINDIR / "pg_restore", *where, "--exit-on-error", "-d", restored, folder / "dump")
            with Session.open(server.dsn(restored)) as copy:
                assert copy.all("SELECT quantization, quantized_from FROM hart.models WHERE name = 'eight-q8'") == [("q8", name)]
                assert copy.one("SELECT hart.logits(%s::int[], 'eight-q8')", IDS) == expected
                copy.execute("CALL hart.drop_model(%s)", [name])
                assert copy.one("SELECT hart.logits(%s::int[], 'eight-q8')", IDS) == expected
                copy.execute("CALL hart.drop_model('eight-q8')")
        finally:
            session.execute(f"DROP DATABASE IF EXISTS {restored} WITH (FORCE)")
            session.execute("CALL hart.drop_model('eight-q8')")
            session.execute("CALL hart.drop_model(%s)", [name])
