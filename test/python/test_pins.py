"""Pins of a run: VACUUM waits for them and is woken when they go, and they go with their backend."""
import psycopg
import pytest

from background import Background, wait_for

PINS = "SELECT coalesce(sum(pinning_backends), 0) FROM pg_buffercache WHERE relfilenode = pg_relation_filenode(%s)"
ENDS = {
    "closing": "SELECT hart.close_context(ctx) FROM run",
    "commit": "COMMIT",
    "rollback": "ROLLBACK",
    "error": "SELECT 1 / 0",
}


@pytest.fixture
def tiles(db, folders):
    """The table of tiles of a model whose pages all have something to freeze."""
    with db.connect() as session:
        session.execute("CREATE EXTENSION IF NOT EXISTS pg_buffercache")
        session.execute("CALL hart.ingest_model(%s, 'pins')", [str(folders("llama_f32"))])
        table = session.one("SELECT hart.tiles_of(model_id)::text FROM hart.models WHERE name = 'pins'")
        session.execute(f"UPDATE {table} SET payload = payload")
        yield table
        session.execute("CALL hart.drop_model('pins')")


def run(session):
    """A run in a transaction of its own."""
    session.execute("BEGIN")
    session.execute("CREATE TEMP TABLE run ON COMMIT DROP AS SELECT hart.open_context('pins') AS ctx")


def end(session, statement):
    try:
        session.execute(statement)
    except psycopg.errors.DivisionByZero:
        session.execute("ROLLBACK")


@pytest.mark.parametrize("how", ENDS)
def test_vacuum_waits_for_a_run(db, conn, tiles, how):
    with db.connect() as session:
        run(session)
        assert conn.one(PINS, tiles) > 0
        vacuum = Background(db.dsn, f"VACUUM (FREEZE) {tiles}")
        wait_for("VACUUM that waits", lambda: conn.one("SELECT wait_event = 'BufferPin' FROM pg_stat_activity WHERE pid = %s", vacuum.session.pid))
        end(session, ENDS[how])
        vacuum.join()
        assert vacuum.error is None
        vacuum.close()
        assert conn.one(PINS, tiles) == 0
        assert session.warnings == []


def test_pins_go_with_their_backend(db, conn, tiles):
    with pytest.raises(psycopg.errors.AdminShutdown), db.connect() as session:
        run(session)
        assert conn.one(PINS, tiles) > 0
        conn.execute("SELECT pg_terminate_backend(%s)", [session.pid])
        wait_for("end of the pins", lambda: conn.one(PINS, tiles) == 0)


def test_table_of_an_open_run_stays(db, conn, tiles):
    """What throws pages away is refused while this session has them pinned."""
    with db.connect() as session:
        for statement in ("TRUNCATE {0}", "DROP TABLE {0}", "CLUSTER {0} USING {1}_pkey", "ALTER TABLE {0} ALTER model_id TYPE bigint"):
            run(session)
            with pytest.raises(psycopg.Error) as caught:
                session.execute(statement.format(tiles, tiles.removeprefix("hart.")))
            assert caught.value.sqlstate in ("55006", "2BP01"), statement
            session.execute("ROLLBACK")
            assert conn.one(PINS, tiles) == 0
