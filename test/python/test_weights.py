"""hart.weights from several sessions, on a standby, and stopped half-way."""
import threading
import time

import psycopg
import pytest

MODEL = "weights"
NORM = "model.norm.weight"


@pytest.fixture(scope="module")
def tiles(db, folders):
    """A model of our own to change; the name of its table of tiles."""
    with db.connect() as session:
        session.execute("CALL hart.ingest_model(%s, %s)", [str(folders("llama_f32")), MODEL])
        yield "hart.tiles_" + str(session.one("SELECT model_id FROM hart.model_registry WHERE name = %s", MODEL))
        session.execute("CALL hart.drop_model(%s)", [MODEL])


@pytest.fixture
def restored(conn, tiles):
    """The weights of the norm are as before after the test."""
    before = conn.all("SELECT col, value FROM hart.weights WHERE model = %s AND tensor = %s", MODEL, NORM)
    yield
    conn.rollback()
    for col, value in before:
        edit(conn, col, value)


def edit(session, col, value):
    return session.execute("UPDATE hart.weights SET value = %s WHERE model = %s AND tensor = %s AND col = %s", [value, MODEL, NORM, col]).rowcount


def value_at(session, col):
    return session.one("SELECT value FROM hart.weights WHERE model = %s AND tensor = %s AND col = %s", MODEL, NORM, col)


def wait_for_lock(conn, pid):
    """Until a session waits for a row that another has locked."""
    deadline = time.monotonic() + 30
    while not conn.all("SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'", pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def meanwhile(db, conn, mode, col, value):
    """Edit a weight in a second session while the first holds the tile; what the second got."""
    outcome = []
    with db.connect() as other:
        other.execute(f"BEGIN ISOLATION LEVEL {mode}")
        assert value_at(other, 5) is not None

        def run():
            try:
                outcome.append(edit(other, col, value))
                other.execute("COMMIT")
            except psycopg.Error as error:
                outcome.append(error.sqlstate)

        thread = threading.Thread(target=run)
        thread.start()
        wait_for_lock(conn, other.pid)
        conn.execute("COMMIT")
        thread.join()
    return outcome[0]


def test_two_weights_of_one_tile(db, conn, restored):
    conn.execute("BEGIN")
    assert edit(conn, 1, 11) == 1
    assert meanwhile(db, conn, "READ COMMITTED", 2, 22) == 1
    assert (value_at(conn, 1), value_at(conn, 2)) == (11, 22)


def test_the_same_weight(db, conn, restored):
    """An edit that was made from a value which is no longer there is not made."""
    conn.execute("BEGIN")
    assert edit(conn, 1, 11) == 1
    assert meanwhile(db, conn, "READ COMMITTED", 1, 22) == "40001"
    assert value_at(conn, 1) == 11


@pytest.mark.parametrize("mode", ["REPEATABLE READ", "SERIALIZABLE"])
def test_stricter_isolation(db, conn, restored, mode):
    conn.execute("BEGIN")
    assert edit(conn, 1, 11) == 1
    assert meanwhile(db, conn, mode, 2, 22) == "40001"
    assert value_at(conn, 1) == 11


def test_first_edit_rolled_back(db, conn, restored):
    before = value_at(conn, 1)
    conn.execute("BEGIN")
    edit(conn, 1, 11)
    with db.connect() as other:
        thread = threading.Thread(target=edit, args=(other, 1, 22))
        thread.start()
        wait_for_lock(conn, other.pid)
        conn.execute("ROLLBACK")
        thread.join()
    assert before not in (11, 22)
    assert value_at(conn, 1) == 22


def test_many_sessions_edit_one_tensor(db, tiles, conn, restored):
    """Each of four sessions edits every fourth weight, 20 times: no edit is lost, no deadlock."""
    def run(part):
        with db.connect() as session:
            for n in range(20):
                session.execute("UPDATE hart.weights SET value = %s WHERE model = %s AND tensor = %s AND col %% 4 = %s", [100 * part + n, MODEL, NORM, part])

    threads = [threading.Thread(target=run, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert conn.all("SELECT DISTINCT col %% 4, value FROM hart.weights WHERE model = %s AND tensor = %s ORDER BY 1", MODEL, NORM) == [(part, 100 * part + 19) for part in range(4)]


def test_dead_versions_and_vacuum(conn, tiles, restored):
    """What many updates leave behind is passed over, before and after it is removed, and in one transaction with the last."""
    for n in range(60):
        conn.execute("UPDATE hart.weights SET value = value + 1 WHERE model = %s AND tensor LIKE '%%norm%%'", [MODEL])
        total = conn.one("SELECT sum(value) FROM hart.weights WHERE model = %s", MODEL)
    conn.execute(f"VACUUM {tiles}")
    assert conn.one("SELECT sum(value) FROM hart.weights WHERE model = %s", MODEL) == total
    conn.execute("UPDATE hart.weights SET value = value - 60 WHERE model = %s AND tensor LIKE '%%norm%%'", [MODEL])
    conn.execute(f"VACUUM FULL {tiles}")
    assert conn.one("SELECT count(*) FROM hart.weights WHERE model = %s AND tensor LIKE '%%norm%%' AND value > 30", MODEL) == 0
    assert conn.warnings == []


def test_steady_snapshot(db, conn, restored):
    with db.connect() as steady:
        steady.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        before = value_at(steady, 3)
        edit(conn, 3, 33)
        conn.execute("UPDATE hart.weights SET value = value + 0.5 WHERE model = %s", [MODEL])
        conn.execute("UPDATE hart.weights SET value = value - 0.5 WHERE model = %s", [MODEL])
        assert value_at(steady, 3) == before
        steady.execute("COMMIT")
        assert value_at(steady, 3) == 33


def test_cursors_and_limits(conn, tiles):
    with conn.transaction():
        conn.execute("DECLARE c SCROLL CURSOR FOR SELECT row, col FROM hart.weights WHERE model = 'weights' AND tensor = 'model.embed_tokens.weight'")
        assert conn.all("FETCH 3 FROM c") == [(0, 0), (0, 1), (0, 2)]
        assert conn.all("FETCH BACKWARD 1 FROM c") == [(0, 1)]
        conn.execute("CLOSE c")
        assert len(conn.all("SELECT * FROM hart.weights WHERE model = 'weights' LIMIT 7")) == 7
    assert conn.warnings == []


def test_errors_and_savepoints_leave_nothing(conn, restored):
    before = value_at(conn, 1)
    for _ in range(20):
        with pytest.raises(psycopg.errors.DivisionByZero):
            conn.execute("SELECT 1 / (col - 7) FROM hart.weights WHERE model = %s", [MODEL])
        with pytest.raises(psycopg.errors.NotNullViolation):
            conn.execute("UPDATE hart.weights SET value = CASE WHEN col < 9 THEN 1 END WHERE model = %s AND tensor = %s", [MODEL, NORM])
    conn.execute("BEGIN; SAVEPOINT s")
    edit(conn, 1, 77)
    conn.execute("ROLLBACK TO s")
    assert value_at(conn, 1) == before
    conn.execute("COMMIT")
    assert conn.warnings == []


def test_rounding_is_said_once(db, conn):
    name = db.model("llama_bf16")
    with conn.transaction():
        conn.execute("UPDATE hart.weights SET value = 0.1 WHERE model = %s AND tensor = %s", [name, NORM])
        conn.execute("UPDATE hart.weights SET value = 0.25 WHERE model = %s AND tensor = %s", [name, NORM])
        raise psycopg.Rollback
    dim = conn.one("SELECT dim FROM hart.model_registry WHERE name = %s", name)
    assert [message for severity, message, _ in conn.said if severity == "NOTICE"] == [f"{dim} of {dim} values were rounded to BF16"]


def test_cancelled(db, conn, tiles):
    """A scan of all weights, over and over, stops at once when it is cancelled."""
    with db.connect() as other:
        errors = []

        def run():
            try:
                other.execute("SELECT sum(total) FROM generate_series(1, 100000) AS n, LATERAL (SELECT sum(value * n) AS total FROM hart.weights) AS w")
            except psycopg.Error as error:
                errors.append(error.sqlstate)

        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(0.3)
        conn.execute("SELECT pg_cancel_backend(%s)", [other.pid])
        thread.join(30)
        assert errors == ["57014"]
        assert other.one("SELECT count(*) > 0 FROM hart.weights WHERE model = %s", MODEL)
        assert other.warnings == []


def test_drop_waits_for_readers(db, conn, tiles):
    with db.connect() as other:
        conn.execute("BEGIN")
        assert value_at(conn, 1) is not None
        other.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("CALL hart.drop_model(%s)", [MODEL])
        conn.execute("COMMIT")


def test_serializable_readers_count(db, conn, restored):
    """Two transactions that each read what the other writes: one must fail."""
    with db.connect() as other:
        for session in (conn, other):
            session.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
        assert value_at(conn, 1) is not None
        assert other.one("SELECT value FROM hart.weights WHERE model = %s AND tensor = 'model.layers.0.input_layernorm.weight' AND col = 1", MODEL) is not None
        other.execute("UPDATE hart.weights SET value = 3 WHERE model = %s AND tensor = %s AND col = 1", [MODEL, NORM])
        conn.execute("UPDATE hart.weights SET value = 3 WHERE model = %s AND tensor = 'model.layers.0.input_layernorm.weight' AND col = 1", [MODEL])
        other.execute("COMMIT")
        with pytest.raises(psycopg.errors.SerializationFailure):
            conn.execute("COMMIT")
