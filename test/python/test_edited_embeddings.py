"""Positions of tokens whose embeddings several sessions change at once."""
import numpy as np
import psycopg
import pytest

from background import Background, wait_for

MODEL, EMBEDDING = "edited", "model.embed_tokens.weight"
TOKEN = 31              # 64 numbers of 4 bytes from byte 7936 on: the first half lies in tile 0, the second in tile 1
EDIT = f"UPDATE hart.weights SET value = value + 0.01 WHERE model = '{MODEL}' AND tensor = '{EMBEDDING}' AND row = {TOKEN} AND col = %s"
MOVE = f"UPDATE hart.token_positions SET position = hart.point(%s) WHERE model_id = hart.resolve_model('{MODEL}') AND chart = 0 AND token_id = {TOKEN}"
# the number at a column as 32 bits whose sign is turned, by hand
PATCH = ("UPDATE hart.tiles SET payload = set_bit(payload, %(bit)s, 1 - get_bit(payload, %(bit)s)) WHERE model_id = hart.resolve_model('edited') AND tile_no = %(tile)s"
         f" AND tensor_id = (SELECT tensor_id FROM hart.tensors WHERE model_id = hart.resolve_model('{MODEL}') AND name = '{EMBEDDING}')")
REPROJECT = f"SELECT hart.reproject_tokens(hart.resolve_model('{MODEL}'), '{{{TOKEN}}}')"


@pytest.fixture(scope="module")
def model(db, folders):
    with db.connect() as session:
        session.execute("CALL hart.ingest_model(%s, %s)", [str(folders("llama_f32")), MODEL])
        yield
        session.execute("CALL hart.drop_model(%s)", [MODEL])


@pytest.fixture
def sessions(db, model):
    """Two sessions, and a model that these tests may change."""
    with db.connect() as first, db.connect() as second:
        first.execute(REPROJECT)
        yield first, second
        first.rollback()
        second.rollback()


def off(session):
    """How far the position is from where the embedding lies."""
    ((mean, basis, scale, row, at),) = session.all(
        "SELECT c.mean, c.basis, c.scale, hart.embedding_row(c.model_id, %s), hart.coordinates(p.position) FROM hart.charts c JOIN hart.token_positions p USING (model_id, chart)"
        " WHERE c.model_id = hart.resolve_model(%s) AND c.chart = 0 AND p.token_id = %s", TOKEN, MODEL, TOKEN)
    row = np.array(row, np.float32).astype(float)
    return np.abs(scale * np.array(basis) @ (row - np.array(mean)) - np.array(at)).max()


def waits(session, pid):
    return lambda: session.one("SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %s", pid)


def meanwhile(where, first, second, statement, *args):
    """What a statement elsewhere ends with that waits for the first session's transaction."""
    other = Background(where, statement, *args)
    try:
        wait_for("lock", waits(second if other.session is not second else first, other.session.pid))
    finally:
        first.execute("COMMIT")
        other.join()
        if other.session is not second:
            other.session.close()
    return other.error


def test_halves_of_a_row(db, sessions):
    """The second to come sees what the first wrote in the other tile."""
    first, second = sessions
    assert off(first) < 1e-12
    first.execute("BEGIN")
    first.execute(EDIT, [0])
    assert meanwhile(db.dsn, first, second, EDIT, 63) is None
    assert off(first) < 1e-12


def test_halves_of_a_row_by_hand(sessions):
    """So it is for those who change tiles themselves and call hart.reproject_tokens."""
    first, second = sessions
    first.execute("BEGIN")
    first.execute(PATCH, {"tile": 0, "bit": 8 * 7939 + 7})
    second.execute("BEGIN")
    second.execute(PATCH, {"tile": 1, "bit": 31})
    assert first.one(REPROJECT) == 1
    assert meanwhile(second, first, second, REPROJECT) is None
    second.execute("COMMIT")
    assert off(first) < 1e-12


@pytest.mark.parametrize("mode", ["REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("committed", [False, True])
def test_stricter_isolation(sessions, mode, committed):
    """Who cannot see the other half is told to try again."""
    first, second = sessions
    second.execute(f"BEGIN ISOLATION LEVEL {mode}")
    second.one("SELECT count(*) FROM hart.charts")
    first.execute("BEGIN")
    first.execute(EDIT, [0])
    if committed:
        first.execute("COMMIT")
        with pytest.raises(psycopg.errors.SerializationFailure):
            second.execute(EDIT, [63])
    else:
        error = meanwhile(second, first, second, EDIT, 63)
        assert isinstance(error, psycopg.errors.SerializationFailure), error
    second.rollback()
    assert off(first) < 1e-12


def test_moved_and_edited(db, sessions):
    """Who moves a token and who edits its weights lock in one order: position, then tiles."""
    first, second = sessions
    # a third session holds the tile, so that the editor waits with what it has locked before, and the mover comes second
    first.execute("BEGIN")
    first.execute("SELECT FROM hart.tiles WHERE model_id = hart.resolve_model(%s) AND tile_no = 0 FOR UPDATE", [MODEL])
    editor = Background(db.dsn, EDIT, 0)
    mover = None
    try:
        wait_for("lock", waits(second, editor.session.pid))
        mover = Background(db.dsn, MOVE, [0.1, -0.2, 0.3, -0.4])
        wait_for("lock", waits(second, mover.session.pid))
        first.execute("COMMIT")
        assert editor.join().error is None
        assert mover.join().error is None
    finally:
        first.rollback()
        editor.close()
        if mover:
            mover.close()
    assert off(first) < 1e-5
    assert np.allclose(first.one("SELECT hart.coordinates(position) FROM hart.token_positions WHERE model_id = hart.resolve_model(%s) AND chart = 0 AND token_id = %s", MODEL, TOKEN),
                       [0.1, -0.2, 0.3, -0.4])
