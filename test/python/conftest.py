"""Fixtures: a database of our own, model folders that the server can read, models ingested once for all tests.

`make test` sets the environment: HART_TEST_DSN (a superuser of a server with the extension installed), HART_TEST_BINDIR,
HART_TEST_RUN_AS (the server's user when the tests run as root), HART_TEST_TMP (a folder that the server can reach),
HART_TEST_DATA (shared test data; may be absent).
"""
import os
import pathlib
import shutil
import tempfile

import pytest
from psycopg import Error

import models
import spoil
from answers import GOLDENS
from databases import Database
from server import Server


@pytest.fixture(scope="session")
def scratch():
    """A folder that the server can read, whoever it runs as."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="hart_test_", dir=os.environ.get("HART_TEST_TMP")))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def folder(scratch):
    """A new folder that the server can read and write."""
    new = pathlib.Path(tempfile.mkdtemp(dir=scratch))
    new.chmod(0o777)
    return new


@pytest.fixture(scope="session")
def folders(scratch):
    """name → the folder of that model, written when first asked for."""
    def written(name):
        target = scratch / "models" / name
        if not target.exists():
            m = models.BY_NAME[name]
            sums = models.write_model(target, m, f"{m.weights_of or name}/{GOLDENS[name]['seed']}")
            assert sums == GOLDENS[name]["sha256"], f"the generated weights of {name} are not those of the goldens"
        return target
    return written


@pytest.fixture(scope="session")
def data(scratch):
    """Our copy of the shared test data."""
    source = os.environ.get("HART_TEST_DATA", "")
    if not os.path.isdir(source):
        pytest.skip("HART_TEST_DATA names no folder")
    target = scratch / "data"
    if not target.exists():
        shutil.copytree(source, target, copy_function=shutil.copyfile)
        for path in [target, *target.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
    return target


@pytest.fixture(scope="session")
def db(folders):
    if "HART_TEST_DSN" not in os.environ:
        pytest.fail("HART_TEST_DSN is not set: run `make test`, or name a server that has the extension")
    database = Database(os.environ["HART_TEST_DSN"], f"hart_pytest_{os.getpid()}", folders)
    yield database
    database.drop()


@pytest.fixture(scope="session")
def shared_session(db):
    with db.connect() as session:
        yield session


@pytest.fixture
def conn(shared_session):
    """A session in its first state. All tests share one, which also shows that none of them leaves a trace in it."""
    shared_session.rollback()
    shared_session.execute("DISCARD ALL")
    shared_session.said.clear()
    yield shared_session
    assert shared_session.one("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'") == 0


@pytest.fixture(params=[("float32", 1e-4), ("bf16x2", 1e-3)], ids=lambda p: p[0])
def tolerance(conn, request):
    """With each way to take activations: what a score may differ from transformers in float32 by."""
    activations, most = request.param
    conn.execute(f"SET hart.activations = {activations}")
    return most



@pytest.fixture(scope="session")
def server():
    """A second server, for tests that restart, kill or copy one."""
    own = Server("test-second")
    own.remove()
    yield own.start(shared_buffers="64MB", wal_level="replica", max_wal_senders="4", hot_standby="on", fsync="off")
    own.remove()


@pytest.fixture(scope="session")
def server_db(server, folders):
    return Database(server.dsn("postgres"), "hart_pytest", folders)


@pytest.fixture
def refused(db):
    """refused(session, sqlstates, sql, *args): the error, after checking all that every error must keep to."""
    def check(session, sqlstates, statement, *args):
        with pytest.raises(Error) as caught:
            session.execute(statement, args or None)
        error = caught.value
        assert error.sqlstate in sqlstates.split(), f"{error.sqlstate}: {error}"
        assert error.diag.message_hint, f"no hint: {error}"
        assert "\n" not in error.diag.message_primary
        if not session.autocommit or session.info.transaction_status:
            session.rollback()
        assert session.one("SELECT 1") == 1     # the same backend goes on
        return error
    return check


@pytest.fixture
def nothing_left(db):
    """nothing_left(session): no trace of a model that is not ready."""
    def check(session):
        assert session.all("SELECT name, state FROM hart.model_registry WHERE state <> 'ready'") == []
        assert session.all("""SELECT relname FROM pg_class WHERE relnamespace = 'hart'::regnamespace AND relkind IN ('r', 'p') AND relname ~ '^(tiles|token_positions)_[0-9]'
                              AND substring(relname FROM '_([0-9]+)')::int NOT IN (SELECT model_id FROM hart.model_registry)""") == []
        for table in ("tensors", "model_files", "tiles", "tokens", "stored_relations_merge", "tokenizers", "merge_pairs", "charts", "token_positions"):
            assert session.one(f"SELECT count(*) FROM hart.{table} WHERE model_id NOT IN (SELECT model_id FROM hart.model_registry)") == 0
        assert session.all("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())") == []
    return check


@pytest.fixture
def good(folder, conn):
    """A new copy of a good model, to be spoilt. What a test ingests is gone after it, even when it fails."""
    models.write_model(folder / "bad", spoil.GOOD, 0)
    before = {name for name, in conn.all("SELECT name FROM hart.models")}
    yield folder / "bad"
    conn.rollback()
    for name, in conn.all("SELECT name FROM hart.models"):
        if name not in before:
            conn.execute("CALL hart.drop_model(%s)", [name])


@pytest.fixture
def sharded(folder):
    models.write_model(folder / "sharded", spoil.SHARDED, 0)
    return folder / "sharded"


@pytest.fixture
def not_ingested(conn, refused, nothing_left):
    """not_ingested(sqlstates, path): CALL fails as it should and leaves nothing."""
    def check(sqlstates, path, name="bad"):
        conn.execute("SET statement_timeout = '20s'")
        error = refused(conn, sqlstates, "CALL hart.ingest_model(%s, %s)", str(path), name)
        nothing_left(conn)
        assert conn.all("SELECT 1 FROM hart.models WHERE name = %s", name) == []
        return error
    return check
