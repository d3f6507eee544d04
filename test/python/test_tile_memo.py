"""A session remembers where tiles lay, and never takes that on trust: whatever happened since, it runs the weights of its snapshot."""
import pytest

import models
from answers import GOLDENS, generate_ids

MODEL = "memo"
IDS = models.prompt_ids(models.BY_NAME["llama_f32"], 17)
GREEDY = GOLDENS["llama_f32"]["cases"][2]["greedy"]
EDIT = """UPDATE hart.tiles SET payload = overlay(payload PLACING '\\x00004842'::bytea FROM 1 FOR 4)
          WHERE tile_no = 0 AND (model_id, tensor_id) = (SELECT model_id, tensor_id FROM hart.tensors JOIN hart.model_registry USING (model_id)
                WHERE hart.model_registry.name = 'memo' AND hart.tensors.name = 'model.norm.weight')"""


def answer(session):
    return generate_ids(session, MODEL, IDS, len(GREEDY))


def memos(session):
    return session.one("SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'hart tile memo'")


@pytest.fixture
def tiles(db, folders):
    """A model that a test may change; the name of its table of tiles."""
    with db.connect() as session:
        session.execute("CALL hart.ingest_model(%s, %s)", [str(folders("llama_f32")), MODEL])
        yield "hart.tiles_" + str(session.one("SELECT model_id FROM hart.model_registry WHERE name = %s", MODEL))
        session.execute("CALL hart.drop_model(%s)", [MODEL])


@pytest.fixture
def reader(db, tiles):
    """A session that has run the model and remembers it."""
    with db.connect() as session:
        assert answer(session) == answer(session) == GREEDY
        assert memos(session) == 1
        yield session


def test_changes_of_others(db, tiles, reader):
    with db.connect() as writer:
        writer.execute("BEGIN")
        writer.execute(EDIT)
        assert answer(reader) == GREEDY
        edited = answer(writer)
        assert edited != GREEDY
        writer.execute("COMMIT")
    assert answer(reader) == edited
    assert answer(reader) == edited


@pytest.mark.parametrize("command", ["VACUUM", "VACUUM FREEZE", "VACUUM FULL", "CLUSTER {0} USING {1}_pkey", "ALTER TABLE {0} SET UNLOGGED", "REINDEX TABLE {0}"])
def test_after_maintenance(db, tiles, reader, command):
    with db.connect() as writer:
        writer.execute(EDIT)
        edited = answer(reader)
        writer.execute(command.format(tiles, tiles.removeprefix("hart.")) + ("" if "{0}" in command else " " + tiles))
        assert answer(reader) == answer(reader) == edited != GREEDY
        writer.execute(EDIT.replace("00004842", "0000803f"))
        assert answer(reader) == answer(writer)


def test_rolled_back(db, tiles, reader):
    reader.execute("BEGIN")
    reader.execute(EDIT)
    edited = answer(reader)
    assert edited != GREEDY
    reader.execute("ROLLBACK")
    assert answer(reader) == GREEDY
    reader.execute("VACUUM " + tiles)
    assert answer(reader) == answer(reader) == GREEDY


def test_older_snapshot(db, tiles, reader):
    reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    assert answer(reader) == GREEDY
    with db.connect() as writer:
        writer.execute(EDIT)
        writer.execute("VACUUM " + tiles)
        edited = answer(writer)
    assert answer(reader) == GREEDY
    reader.execute("COMMIT")
    assert answer(reader) == edited


def test_deleted_tile(db, tiles, reader, refused):
    with db.connect() as writer:
        writer.execute(f"CREATE TABLE kept AS SELECT * FROM {tiles} WHERE tensor_id = 1 AND tile_no = 0")
        writer.execute(f"DELETE FROM {tiles} WHERE tensor_id = 1 AND tile_no = 0")
        assert "missing" in str(refused(reader, "XX001", "SELECT hart.logits('{5,6,7}', 'memo')"))
        writer.execute("VACUUM " + tiles)
        assert "missing" in str(refused(reader, "XX001", "SELECT hart.logits('{5,6,7}', 'memo')"))
        writer.execute(f"INSERT INTO {tiles} SELECT * FROM kept")
        writer.execute("DROP TABLE kept")
    assert answer(reader) == GREEDY


def test_serializable(db, tiles, reader):
    reader.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
    assert answer(reader) == GREEDY
    reader.execute("COMMIT")


def test_evicted(server_db):
    """Other pages have taken the buffers, and other buffers the pages."""
    name = server_db.model("llama_f32")
    with server_db.connect() as session:
        assert generate_ids(session, name, IDS, len(GREEDY)) == GREEDY
        assert memos(session) == 1
        session.execute("CREATE EXTENSION IF NOT EXISTS pg_prewarm; CREATE TABLE filler AS SELECT repeat('x', 4000) FROM generate_series(1, 20000); SELECT pg_prewarm('filler')")
        assert generate_ids(session, name, IDS, len(GREEDY)) == GREEDY
        session.execute("DROP TABLE filler")


def test_few_memos_a_session(db, conn):
    for name in ("llama_f32", "llama_f16", "llama_bf16", "llama_bias", "llama_odd", "llama_wide"):
        conn.one("SELECT hart.logits('{5,6,7}', %s)", db.model(name))
    assert memos(conn) == 4
