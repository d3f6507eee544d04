"""The database is the model: a statement runs the weights that its snapshot sees, whatever lies where in the table."""
import concurrent.futures

import psycopg
import pytest

import models
from answers import GOLDENS, generate_ids, logits

MODEL = "tx"
IDS = models.prompt_ids(models.BY_NAME["llama_f32"], 17)
GREEDY = GOLDENS["llama_f32"]["cases"][2]["greedy"]
# The first weight of the final norm becomes 50: one float32 in the middle of the database, every answer changes.
EDIT = """UPDATE hart.tiles SET payload = overlay(payload PLACING '\\x00004842'::bytea FROM 1 FOR 4)
          WHERE tile_no = 0 AND (model_id, tensor_id) = (SELECT model_id, tensor_id FROM hart.tensors JOIN hart.model_registry USING (model_id)
                WHERE hart.model_registry.name = 'tx' AND hart.tensors.name = 'model.norm.weight')"""


@pytest.fixture(scope="module")
def tiles(db, folders):
    """A model of our own to change; the name of its table of tiles."""
    with db.connect() as session:
        session.execute("CALL hart.ingest_model(%s, %s)", [str(folders("llama_f32")), MODEL])
        yield "hart.tiles_" + str(session.one("SELECT model_id FROM hart.model_registry WHERE name = %s", MODEL))
        session.execute("CALL hart.drop_model(%s)", [MODEL])


@pytest.fixture(scope="module")
def edited(tiles, db, folders, scratch):
    """Greedy ids of the edited model, from a checkpoint file with the same edit."""
    source, target = folders("llama_f32"), scratch / "edited"
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    with db.connect() as session:
        start = session.one("""SELECT file_offset FROM hart.tensors JOIN hart.model_registry r USING (model_id)
                               WHERE r.name = %s AND hart.tensors.name = 'model.norm.weight'""", MODEL)
        with open(target / "model.safetensors", "r+b") as f:
            f.seek(start)
            f.write(bytes.fromhex("00004842"))
        session.execute("CALL hart.ingest_model(%s)", [str(target)])
        new = generate_ids(session, "edited", IDS, len(GREEDY))
        session.execute("CALL hart.drop_model('edited')")
    assert new != GREEDY
    return new


@pytest.fixture
def answer(tiles):
    return lambda session: generate_ids(session, MODEL, IDS, len(GREEDY))


@pytest.fixture
def restored(conn, tiles, answer):
    """The model is as ingested before the test and must be afterwards."""
    assert answer(conn) == GREEDY
    before = logits(conn, MODEL, IDS)
    yield
    conn.rollback()
    assert logits(conn, MODEL, IDS) == before


def test_update_and_rollback(conn, restored, answer, edited):
    conn.execute("BEGIN")
    assert answer(conn) == GREEDY
    assert conn.execute(EDIT).rowcount == 1
    assert answer(conn) == edited
    conn.execute("ROLLBACK")
    assert answer(conn) == GREEDY


def test_savepoint(conn, restored, answer, edited):
    conn.execute("BEGIN; SAVEPOINT s")
    conn.execute(EDIT)
    assert answer(conn) == edited
    conn.execute("ROLLBACK TO s")
    assert answer(conn) == GREEDY
    conn.execute("ROLLBACK")


def test_update_and_generate_in_one_function(conn, restored, edited):
    """Inside a volatile function each statement sees what the one before it did."""
    conn.execute(f"""
        CREATE FUNCTION pg_temp.tune(ids int[], n int, OUT before int[], OUT after int[]) LANGUAGE plpgsql AS $$
        BEGIN
            before := hart.generate_tokens(ids, n, '{MODEL}');
            {EDIT};
            after := hart.generate_tokens(ids, n, '{MODEL}');
        END $$""")
    conn.execute("BEGIN")
    assert conn.all("SELECT * FROM pg_temp.tune(%s::int[], %s)", IDS, len(GREEDY)) == [(GREEDY, edited)]
    conn.execute("ROLLBACK")


def test_second_session_sees_commits_only(db, conn, restored, answer, edited, tiles):
    with db.connect() as other, db.connect() as steady:
        steady.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        assert answer(steady) == GREEDY
        conn.execute("BEGIN")
        conn.execute(f"CREATE TEMP TABLE kept AS SELECT * FROM {tiles}")
        conn.execute(EDIT)
        assert answer(conn) == edited
        assert answer(other) == GREEDY
        conn.execute("COMMIT")
        assert answer(other) == edited
        assert answer(steady) == GREEDY
        steady.execute("COMMIT")
        assert answer(steady) == edited
        conn.execute("UPDATE hart.tiles t SET payload = k.payload FROM kept k WHERE (t.model_id, t.tensor_id, t.tile_no) "
                     "= (k.model_id, k.tensor_id, k.tile_no) AND t.payload <> k.payload")
        assert answer(other) == GREEDY


def test_vacuum_full(conn, restored, answer, tiles):
    conn.execute(f"VACUUM FULL {tiles}")
    assert answer(conn) == GREEDY


def test_rewritten_in_random_order(conn, restored, answer, tiles):
    conn.execute(f"BEGIN; CREATE TEMP TABLE t AS SELECT * FROM {tiles}; DELETE FROM {tiles}")
    conn.execute("INSERT INTO hart.tiles SELECT * FROM t ORDER BY md5(tensor_id::text || tile_no)")
    assert answer(conn) == GREEDY
    conn.execute("COMMIT")
    assert answer(conn) == GREEDY
    conn.execute(f"VACUUM {tiles}")
    assert answer(conn) == GREEDY


def test_clustered_by_something_else(conn, restored, answer, tiles):
    conn.execute(f"CREATE INDEX by_hash ON {tiles} (md5(payload)); CLUSTER {tiles} USING by_hash; DROP INDEX hart.by_hash")
    assert answer(conn) == GREEDY


def test_many_dead_versions(conn, restored, answer, tiles):
    conn.execute("BEGIN")
    for _ in range(3):
        conn.execute(f"UPDATE {tiles} SET payload = payload")
    assert answer(conn) == GREEDY
    conn.execute("COMMIT")
    assert answer(conn) == GREEDY


def test_table_rewritten(conn, restored, answer, tiles):
    conn.execute(f"ALTER TABLE {tiles} SET (fillfactor = 50)")
    conn.execute(f"ALTER TABLE {tiles} SET UNLOGGED; ALTER TABLE {tiles} SET LOGGED")
    assert answer(conn) == GREEDY


@pytest.mark.parametrize("mode", ["READ ONLY", "ISOLATION LEVEL SERIALIZABLE", "ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE",
                                  "ISOLATION LEVEL REPEATABLE READ"])
def test_transaction_modes(conn, restored, answer, mode):
    conn.execute(f"BEGIN {mode}")
    assert answer(conn) == GREEDY
    assert conn.one("SELECT hart.generate('The database', 4, %s)", MODEL) is not None
    assert conn.all("SELECT name FROM hart.models WHERE name = %s", MODEL) == [(MODEL,)]
    conn.execute("COMMIT")


@pytest.mark.parametrize("plan", ["force_custom_plan", "force_generic_plan"])
def test_prepared_statements(conn, restored, plan):
    conn.execute(f"SET plan_cache_mode = {plan}")
    conn.execute("PREPARE g(int[], int, text) AS SELECT hart.generate_tokens($1, $2, $3)")
    for count in (24, 3, 24, 1, 24):
        assert conn.one(f"EXECUTE g('{{{','.join(map(str, IDS))}}}', {count}, '{MODEL}')") == GREEDY[:count]


def test_prepared_statement_survives_changes(conn, restored, edited):
    """A plan made before the model changed answers from the model as it is."""
    with conn.transaction():
        execute = f"EXECUTE g('{{{','.join(map(str, IDS))}}}')"
        conn.execute(f"PREPARE g(int[]) AS SELECT hart.generate_tokens($1, {len(GREEDY)}, '{MODEL}')")
        assert conn.one(execute) == GREEDY
        conn.execute(EDIT)
        assert conn.one(execute) == edited
        raise psycopg.Rollback


def test_many_rows_and_models_in_one_query(db, conn, restored):
    other = db.model("qwen2_tied")
    rows = conn.all("""SELECT n, m, hart.generate_tokens(ARRAY[3 + n, 5, 7], 3, m) FROM generate_series(1, 40) n, unnest(ARRAY[%s, %s]) m""",
                    MODEL, other)
    assert len(rows) == 80
    for n, name, ids in rows[::9]:
        assert generate_ids(conn, name, [3 + n, 5, 7], 3) == ids
    assert conn.warnings == []


def test_cursor_and_limit(conn, restored):
    """Contexts of a query that is not read to its end are freed."""
    with conn.transaction():
        conn.execute(f"DECLARE c CURSOR FOR SELECT hart.generate_tokens(ARRAY[3 + n], 2, '{MODEL}') FROM generate_series(1, 20) n")
        assert len(conn.all("FETCH 3 FROM c")) == 3
        conn.execute("CLOSE c")
        assert len(conn.all(f"SELECT hart.generate_tokens(ARRAY[3 + n], 2, '{MODEL}') FROM generate_series(1, 20) n LIMIT 2")) == 2
    assert conn.warnings == []


def test_errors_leave_no_pins(conn, restored, refused):
    for _ in range(30):
        refused(conn, "22023", "SELECT hart.generate_tokens(ARRAY[5, -1], 3, %s)", MODEL)
        conn.execute(f"""DO $$ BEGIN PERFORM hart.generate_tokens(ARRAY[5, 100000], 3, '{MODEL}'); EXCEPTION WHEN OTHERS THEN NULL; END $$""")
    assert conn.warnings == []


def test_sessions_at_once(db, tiles):
    def several(_):
        with db.connect() as session:
            return [generate_ids(session, MODEL, IDS, len(GREEDY)) for _ in range(5)]
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for answers in pool.map(several, range(3)):
            assert answers == [GREEDY] * 5


@pytest.mark.parametrize("reader", ["SELECT hart.generate_tokens(ARRAY[5, 6], 3, 'tx')", "SELECT hart.tensor_matrix('tx', 'model.embed_tokens.weight')",
                                    "CALL hart.export_model('tx', %s)"], ids=["generate", "tensor", "export"])
@pytest.mark.parametrize("damage", [
    "DELETE FROM {t} WHERE {one}", "UPDATE {t} SET payload = substr(payload, 2) WHERE {one}", "UPDATE {t} SET payload = payload || '\\x00' WHERE {one}",
    "UPDATE {t} SET payload = '' WHERE {one}", "UPDATE {t} SET tile_no = 100 WHERE {one}", "UPDATE {t} SET tensor_id = 1000 WHERE {one}", "DELETE FROM {t}"])
def test_damaged_tiles_are_reported(conn, restored, tiles, refused, folder, damage, reader):
    conn.execute("BEGIN")
    conn.execute(damage.format(t=tiles, one="(tensor_id, tile_no) = (1, 1)"))
    refused(conn, "XX001", reader, *([str(folder / "out")] if "%s" in reader else []))
    assert not list(folder.rglob("*.safetensors"))


def test_compressed_and_outlying_tiles(conn, restored, answer, tiles, refused):
    """Compressed tiles are the same weights. Those that moved out of the table are reported."""
    conn.execute("BEGIN")
    conn.execute(f"UPDATE {tiles} SET payload = decode(repeat('00', length(payload)), 'hex') WHERE (tensor_id, tile_no) = (3, 0)")
    expected = answer(conn)
    assert expected != GREEDY
    conn.execute(f"ALTER TABLE {tiles} ALTER payload SET STORAGE EXTENDED; UPDATE {tiles} SET payload = payload || '' WHERE (tensor_id, tile_no) = (3, 0)")
    assert conn.one(f"SELECT pg_column_size(payload) FROM {tiles} WHERE (tensor_id, tile_no) = (3, 0)") < 4000
    assert answer(conn) == expected
    conn.execute(f"ALTER TABLE {tiles} ALTER payload SET STORAGE EXTERNAL; ALTER TABLE {tiles} SET (toast_tuple_target = 128); UPDATE {tiles} SET payload = payload || ''")
    refused(conn, "XX001", "SELECT hart.generate_tokens(ARRAY[5, 6], 3, %s)", MODEL)


def test_drop_waits_for_readers(db, conn, restored, answer):
    """A model in use is not taken away under a transaction that has read it."""
    with db.connect() as other:
        conn.execute("BEGIN")
        answer(conn)
        other.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("CALL hart.drop_model(%s)", [MODEL])
        conn.execute("COMMIT")


def test_another_model_under_the_same_name(db, conn, folders):
    """What a session remembers of a model is not taken for the next one of that name."""
    with db.connect() as other:
        answers = []
        for source in ("llama_f32", "qwen3_f32", "qwen2_tied"):
            other.execute("CALL hart.ingest_model(%s, 'again')", [str(folders(source))])
            conn.execute("SELECT hart.tokenize('the', 'again')")
            case = GOLDENS[source]["cases"][2]
            answers.append(generate_ids(conn, "again", models.prompt_ids(models.BY_NAME[source], case["length"]), 24) == case["greedy"])
            assert conn.one("SELECT hart.generate(%s, 12, 'again')", GOLDENS[source]["text"]["prompt"]) == GOLDENS[source]["text"]["text"]
            other.execute("CALL hart.drop_model('again')")
        assert all(answers)
