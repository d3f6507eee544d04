"""An ingest or a run that is cut short: nothing half done is ever seen, and the next try succeeds."""
import contextlib
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal

import psycopg
import pytest

import models
from answers import GOLDENS, assert_logits, generate_ids, logits
from background import Background, PeakMemory, wait_for
from server import RUN_AS

BIG = "qwen_shape"


def ingesting(watcher, name):
    """The progress row of a model on its way in, once some of it is there."""
    rows = watcher.all("SELECT pid, mb_done, mb_total FROM hart.ingest_progress WHERE name = %s AND mb_done > 0", name)
    return rows[0] if rows else None


def assert_answers(session, name):
    case = GOLDENS[BIG]["cases"][0]
    ids = models.prompt_ids(models.BY_NAME[BIG], case["length"])
    assert_logits(logits(session, name, ids), case)


def assert_unseen(session, name):
    """No query sees anything of a model that is not ready."""
    for statement in ("SELECT hart.generate('x', 1, %s)", "SELECT hart.logits(ARRAY[5], %s)", "SELECT hart.tokenize('x', %s)",
                      "CALL hart.export_model(%s, '/tmp/hart_nowhere')", "CALL hart.drop_model(%s)"):
        with pytest.raises(psycopg.errors.UndefinedObject):
            session.execute(statement, [name])
    assert session.one("SELECT count(*) FROM hart.tiles WHERE model_id IN (SELECT model_id FROM hart.model_registry WHERE name = %s)", name) == 0


def test_progress_is_visible(db, conn, folders):
    """Another session watches the model come in, and cannot run it before it is whole."""
    work = Background(db.dsn, "CALL hart.ingest_model(%s, 'watched')", str(folders(BIG)))
    try:
        with PeakMemory(work.session.pid) as memory:
            pid, done, total = wait_for("progress", lambda: ingesting(conn, "watched"))
            assert pid == work.session.pid and 0 < done <= total == Decimal("331.9")
            assert_unseen(conn, "watched")
            with pytest.raises(psycopg.Error) as caught:
                conn.execute("CALL hart.ingest_model(%s, 'watched')", [str(folders(BIG))])
            assert caught.value.sqlstate in ("42710", "55006") and caught.value.diag.message_hint
            wait_for("further progress", lambda: (row := ingesting(conn, "watched")) is None or row[1] > done)
            work.join()
        assert work.error is None
        assert ingesting(conn, "watched") is None
        assert any("MB/s" in message for _, message, _ in work.session.said), work.session.said
        assert_answers(conn, "watched")
        conn.execute("CALL hart.drop_model('watched')")
        # 332 MB in all, 272 MB of them one tensor: neither was ever in memory as a whole.
        assert memory.peak < 250
    finally:
        work.close()


def test_statement_timeout_while_ingesting(conn, folders, nothing_left):
    conn.execute("SET statement_timeout = '400ms'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        conn.execute("CALL hart.ingest_model(%s, 'late')", [str(folders(BIG))])
    conn.execute("RESET statement_timeout")
    nothing_left(conn)
    assert_unseen(conn, "late")


@pytest.mark.parametrize("function", ["pg_cancel_backend", "pg_terminate_backend"])
def test_ended_while_ingesting(db, conn, folders, nothing_left, function):
    work = Background(db.dsn, "CALL hart.ingest_model(%s, 'ended')", str(folders(BIG)))
    try:
        wait_for("progress", lambda: ingesting(conn, "ended"))
        conn.execute(f"SELECT {function}(%s)", [work.session.pid])
        work.join()
        assert work.error.sqlstate in ("57014", "57P01")
        assert_unseen(conn, "ended")
        if function == "pg_terminate_backend":
            # The session had no time to tidy up: the next ingest does.
            wait_for("end of the backend", lambda: not conn.all("SELECT 1 FROM pg_stat_activity WHERE pid = %s", work.session.pid))
            conn.execute("CALL hart.ingest_model(%s, 'next')", [str(folders("llama_f32"))])
            conn.execute("CALL hart.drop_model('next')")
        nothing_left(conn)
    finally:
        work.close()


def test_cancelled_again_while_tidying_up(db, conn, folders, nothing_left):
    """A second request to cancel, which meets the removal of what was written, does not end that."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock' AND (wait_event = 'relation') = %s"
    with db.connect() as blocker:
        blocker.execute("BEGIN; LOCK TABLE hart.tiles IN SHARE UPDATE EXCLUSIVE MODE")      # in the way of the ingest
        work = Background(db.dsn, "CALL hart.ingest_model(%s, 'twice')", str(folders("llama_f32")))
        try:
            wait_for("wait of the ingest", lambda: conn.all(waiting, work.session.pid, True))
            blocker.execute("SELECT FROM hart.model_registry WHERE name = 'twice' FOR KEY SHARE")       # in the way of its removal
            for _ in range(2):
                conn.execute("SELECT pg_cancel_backend(%s)", [work.session.pid])
                wait_for("wait of the removal", lambda: conn.all(waiting, work.session.pid, False))
            blocker.execute("ROLLBACK")
            work.join()
            assert work.error.sqlstate == "57014"
            nothing_left(conn)
            assert_unseen(conn, "twice")
        finally:
            work.close()


def test_dead_ingest_that_cannot_be_dropped(db, conn, folders, nothing_left):
    """Whatever its owner made of the table: others are warned, and go on."""
    model = db.model("llama_f32")
    conn.execute("""INSERT INTO hart.model_registry SELECT (jsonb_populate_record(r, '{"model_id": 987654, "name": "dead", "state": "ingesting"}')).* FROM hart.model_registry r WHERE name = %s""", [model])
    conn.execute("CREATE VIEW hart.tiles_987654 AS SELECT 1")       # a table of that name cannot be dropped, as it is none
    try:
        conn.execute("CALL hart.ingest_model(%s, 'next')", [str(folders("llama_f32"))])
        assert [warning for warning in conn.warnings if "hart.tiles_987654" in warning]
        conn.execute("CALL hart.drop_model('next')")
        assert conn.one("SELECT state FROM hart.model_registry WHERE name = 'dead'") == "ingesting"
    finally:
        conn.execute("DROP VIEW hart.tiles_987654")
        conn.execute("SELECT hart.drop_dead_ingests()")
    nothing_left(conn)


def test_client_gone_while_ingesting(db, conn, folders, nothing_left):
    """The client's process is killed: the model is ready in the end or not there at all."""
    code = f"""
import sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from server import Session
session = Session.open({db.dsn!r})
print(session.pid, flush=True)
session.execute("CALL hart.ingest_model(%s, 'lonely')", [{str(folders(BIG))!r}])"""
    client = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid = int(client.stdout.readline())
    wait_for("progress", lambda: ingesting(conn, "lonely"))
    client.kill()
    client.wait()
    wait_for("end of the backend", lambda: not conn.all("SELECT 1 FROM pg_stat_activity WHERE pid = %s", pid))
    if not conn.all("SELECT 1 FROM hart.models WHERE name = 'lonely' AND state = 'ready'"):
        assert_unseen(conn, "lonely")
        conn.execute("CALL hart.ingest_model(%s, 'lonely')", [str(folders("llama_f32"))])
    conn.execute("CALL hart.drop_model('lonely')")
    nothing_left(conn)


def test_same_name_at_once(db, conn, folders, nothing_left):
    """Of several sessions that ingest under one name one succeeds; the others are told why not."""
    works = [Background(db.dsn, "CALL hart.ingest_model(%s, 'contested')", str(folders("llama_wide"))) for _ in range(4)]
    try:
        for work in works:
            work.join()
        errors = [w.error for w in works if w.error]
        assert len(errors) == 3, errors
        for error in errors:
            assert error.sqlstate in ("42710", "55006") and error.diag.message_hint, error
        nothing_left(conn)
        for work in works:
            assert work.session.one("SELECT 1") == 1
        conn.execute("CALL hart.drop_model('contested')")
        nothing_left(conn)
    finally:
        for work in works:
            work.close()


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_same_name_in_an_open_transaction(db, conn, folders, nothing_left, end):
    """A name that another transaction has not decided about yet: refused at once or decided with it."""
    source = str(folders("llama_bias"))
    with db.connect() as first:
        first.execute("BEGIN")
        first.execute("CALL hart.ingest_model(%s, 'open')", [source])
        second = Background(db.dsn, "CALL hart.ingest_model(%s, 'open')", source)
        time.sleep(0.3)
        first.execute(end)
        second.join()
        if second.error:
            assert second.error.sqlstate in ("42710", "55006") and second.error.diag.message_hint
        else:
            assert end == "ROLLBACK"
        nothing_left(conn)
        assert second.session.one("SELECT 1") == 1
        second.close()
    if conn.all("SELECT 1 FROM hart.models WHERE name = 'open'"):
        assert generate_ids(conn, "open", [5, 6], 3)
        conn.execute("CALL hart.drop_model('open')")


def test_different_names_at_once(db, conn, folders, nothing_left):
    works = [Background(db.dsn, "CALL hart.ingest_model(%s, %s)", str(folders("llama_wide")), f"side{n}") for n in range(3)]
    for n, work in enumerate(works):
        work.join()
        work.close()
        assert work.error is None
        assert generate_ids(conn, f"side{n}", [5, 6], 3)
        conn.execute("CALL hart.drop_model(%s)", [f"side{n}"])
    nothing_left(conn)


def test_generate_is_cancelled(db, conn):
    """At once, in the prompt as in the continuation, and the session goes on."""
    name = db.model(BIG)
    calls = ["SELECT hart.generate_tokens(array_fill(n, ARRAY[3000]), 1, %s) FROM generate_series(5, 100) n", "SELECT hart.generate_tokens(ARRAY[5], 20000, %s)",
             "SELECT hart.logits(array_fill(5, ARRAY[n]), %s) FROM generate_series(1, 100000) n"]
    for call in calls:
        work = Background(db.dsn, call, name)
        time.sleep(0.5)
        conn.execute("SELECT pg_cancel_backend(%s)", [work.session.pid])
        work.join()
        assert isinstance(work.error, psycopg.errors.QueryCanceled)
        assert_answers(work.session, name)
        assert work.session.warnings == []
        work.close()


def test_terminated_while_generating(db, conn):
    """The end of one session is nothing to the others."""
    name = db.model(BIG)
    work = Background(db.dsn, "SELECT hart.generate_tokens(ARRAY[5], 20000, %s)", name)
    time.sleep(0.5)
    conn.execute("SELECT pg_terminate_backend(%s)", [work.session.pid])
    work.join()
    assert isinstance(work.error, psycopg.errors.AdminShutdown)
    assert_answers(conn, name)
    work.close()


def test_statement_timeout_while_generating(db, conn):
    name = db.model(BIG)
    for _ in range(3):
        conn.execute("SET statement_timeout = '300ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute("SELECT hart.generate_tokens(ARRAY[5], 20000, %s)", [name])
        conn.execute("RESET statement_timeout")
    assert_answers(conn, name)
    assert conn.warnings == []


@pytest.mark.skipif(os.geteuid() != 0 and bool(RUN_AS), reason="needs the right to kill the server's processes")
def test_backend_killed_while_ingesting(server, server_db, folders, nothing_left):
    """kill -9 makes the whole server recover; what the killed backend had written is invisible, and goes with the next ingest."""
    small = server_db.model("llama_f16")
    with server_db.connect() as watcher:
        before = generate_ids(watcher, small, [5, 6, 7], 8)
        work = Background(server_db.dsn, "CALL hart.ingest_model(%s, 'killed')", str(folders(BIG)))
        wait_for("progress", lambda: ingesting(watcher, "killed"))
        os.kill(work.session.pid, signal.SIGKILL)
        work.join()
        assert work.error is not None
        work.session.close()

        def lost():
            try:
                watcher.execute("SELECT 1")
            except psycopg.OperationalError:
                return True
        wait_for("end of the other sessions", lost)

    def alive():
        with contextlib.suppress(psycopg.Error):
            return server_db.connect()
    with wait_for("recovery", alive) as session:
        assert_unseen(session, "killed")
        assert generate_ids(session, small, [5, 6, 7], 8) == before
        session.execute("CALL hart.ingest_model(%s, 'killed')", [str(folders("llama_wide"))])
        assert generate_ids(session, "killed", [5, 6, 7], 8)
        nothing_left(session)
        session.execute("CALL hart.drop_model('killed')")
        nothing_left(session)
