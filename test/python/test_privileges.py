"""Who may do what: reading and writing files of the server, and reading weights."""
import contextlib
import os
import shutil

import psycopg
import pytest


@pytest.fixture(scope="module")
def roles(db):
    """kind → role: plain, reader (may read server files), writer (may write them), owner (both)."""
    names = {kind: f"hart_test_{kind}_{os.getpid()}" for kind in ("plain", "reader", "writer", "owner")}
    with db.connect() as s:
        for name in names.values():
            s.execute(f"CREATE ROLE {name}")
        s.execute(f"GRANT pg_read_server_files TO {names['reader']}, {names['owner']}; GRANT pg_write_server_files TO {names['writer']}, {names['owner']}")
        s.execute(f"GRANT USAGE ON SCHEMA hart TO {', '.join(names.values())}")
        yield names
        for name in names.values():
            s.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


@pytest.fixture
def acting(conn, roles):
    """A context in which the session has the rights of one kind of role."""
    @contextlib.contextmanager
    def act(kind):
        conn.execute(f"SET ROLE {roles[kind]}")
        try:
            yield conn
        finally:
            conn.rollback()
            conn.execute("RESET ROLE")
    return act


@pytest.fixture
def owned(conn, acting, folders):
    """A model of the role `owner`; the name of its table of tiles."""
    with acting("owner"):
        conn.execute("CALL hart.ingest_model(%s, 'owned')", [str(folders("llama_bias"))])
    yield "hart.tiles_" + str(conn.one("SELECT model_id FROM hart.model_registry WHERE name = 'owned'"))
    if conn.all("SELECT 1 FROM hart.models WHERE name = 'owned'"):
        conn.execute("CALL hart.drop_model('owned')")


READS = ["SELECT hart.generate('x', 2, 'owned')", "SELECT hart.generate_tokens(ARRAY[5], 2, 'owned')", "SELECT hart.logits(ARRAY[5], 'owned')",
         "SELECT hart.tokenize('x', 'owned')", "SELECT hart.detokenize(ARRAY[50], 'owned')", "SELECT hart.open_context('owned')",
         "SELECT hart.tensor_matrix('owned', 'model.norm.weight')", "SELECT hart.decompose_tensor('owned', 'model.embed_tokens.weight', 1)"]


@pytest.mark.parametrize("kind", ["plain", "writer"])
def test_ingest_needs_reading_of_files(acting, folders, folder, refused, nothing_left, conn, kind):
    with acting(kind) as session:
        refused(session, "42501", "CALL hart.ingest_model(%s, 'mine')", str(folders("llama_bias")))
        # Not even whether a file exists is told.
        refused(session, "42501", "CALL hart.ingest_model(%s, 'mine')", str(folder / "nothing"))
    nothing_left(conn)


def test_ingest_generate_and_drop_without_superuser(acting, folders, nothing_left, conn):
    with acting("owner") as session:
        session.execute("CALL hart.ingest_model(%s, 'mine')", [str(folders("llama_bias"))])
        assert session.one("SELECT hart.generate('x', 3, 'mine')") is not None
        assert len(session.one("SELECT hart.logits(ARRAY[5], 'mine')")) == 131
        assert session.all("SELECT name FROM hart.models WHERE name = 'mine'") == [("mine",)]
        session.execute("CALL hart.drop_model('mine')")
        assert session.all("SELECT name FROM hart.models WHERE name = 'mine'") == []
    nothing_left(conn)


@pytest.mark.parametrize("kind", ["plain", "reader"])
@pytest.mark.parametrize("statement", READS)
def test_reading_needs_select_on_the_tiles(owned, acting, refused, kind, statement):
    with acting(kind) as session:
        refused(session, "42501", statement)


@pytest.mark.parametrize("statement", READS)
def test_select_is_enough(owned, acting, conn, roles, statement):
    conn.execute(f"GRANT SELECT ON {owned} TO {roles['plain']}")
    with acting("plain") as session:
        assert session.one(statement) is not None
    conn.execute(f"REVOKE SELECT ON {owned} FROM {roles['plain']}")


def test_revoked_in_the_same_session(owned, acting, conn, roles, refused):
    """What a session has read before does not outlive the right to read it."""
    conn.execute(f"GRANT SELECT ON {owned} TO {roles['plain']}")
    with acting("plain") as session:
        for statement in READS:
            session.execute(statement)
    conn.execute(f"REVOKE SELECT ON {owned} FROM {roles['plain']}")
    with acting("plain") as session:
        for statement in READS:
            refused(session, "42501", statement)


def test_export_needs_writing_of_files(owned, acting, conn, roles, folder, refused):
    conn.execute(f"GRANT SELECT ON {owned} TO {roles['plain']}, {roles['reader']}, {roles['writer']}")
    for kind in ("plain", "reader"):
        with acting(kind) as session:
            refused(session, "42501", "CALL hart.export_model('owned', %s)", str(folder / kind))
    for kind in ("writer", "owner"):
        with acting(kind) as session:
            session.execute("CALL hart.export_model('owned', %s)", [str(folder / kind)])
        assert (folder / kind / "model.safetensors").exists()
        shutil.rmtree(folder / kind)
    conn.execute(f"REVOKE SELECT ON {owned} FROM {roles['plain']}, {roles['reader']}, {roles['writer']}")
    with acting("writer") as session:
        refused(session, "42501", "CALL hart.export_model('owned', %s)", str(folder / "no"))
    assert not (folder / "no").exists()


@pytest.mark.parametrize("kind", ["plain", "reader", "writer"])
def test_only_the_owner_changes_a_model(owned, acting, conn, kind):
    number = int(owned.rpartition("_")[2])
    before = conn.one("SELECT hart.logits(ARRAY[5], 'owned')")
    with acting(kind) as session:
        for statement in ("CALL hart.drop_model('owned')", f"UPDATE {owned} SET payload = ''", f"DELETE FROM {owned}", f"SELECT * FROM {owned}",
                          "SELECT * FROM hart.tiles", "UPDATE hart.tiles SET payload = ''", "DELETE FROM hart.model_registry",
                          "UPDATE hart.model_registry SET name = 'x'", "DELETE FROM hart.tensors", "DELETE FROM hart.model_files",
                          f"SELECT hart.write_tiles('{owned}', {number}, 1, 0, '\\x00')", f"SELECT hart.note_progress({number}, 1, 1, 'x')",
                          f"SELECT hart.finish_ingest({number})", f"SELECT hart.abort_ingest({number})",
                          f"SELECT hart.add_model_file({number}, 'x', '', 0, '', false)", "SET hart.model_directory = '/'"):
            with pytest.raises(psycopg.Error) as caught:
                session.execute(statement)
            assert caught.value.sqlstate in ("42501", "42809", "55000"), f"{statement}: {caught.value}"
        session.execute(f"SELECT hart.forget_model({number}), hart.drop_dead_ingests()")    # nothing to forget
        assert session.all("SELECT name FROM hart.model_files WHERE model_id = %s", number) == []
    assert conn.one("SELECT hart.logits(ARRAY[5], 'owned')") == before


@pytest.mark.parametrize("kind", ["plain", "owner"])
def test_row_level_security_is_not_bypassed(owned, acting, conn, roles, refused, kind):
    """Tiles that a policy hides are not read: the run is refused."""
    conn.execute(f"GRANT SELECT ON {owned} TO {roles['plain']}")
    conn.execute(f"ALTER TABLE {owned} ENABLE ROW LEVEL SECURITY; ALTER TABLE {owned} FORCE ROW LEVEL SECURITY")
    conn.execute(f"CREATE POLICY not_first ON {owned} FOR SELECT USING (tile_no > 0)")
    with acting(kind) as session:
        for statement in ("SELECT hart.generate('x', 2, 'owned')", "SELECT hart.logits(ARRAY[5], 'owned')",
                          "SELECT hart.tensor_matrix('owned', 'model.norm.weight')", "SELECT hart.open_context('owned')"):
            refused(session, "42501", statement)


def test_export_respects_row_level_security(owned, acting, conn, roles, refused, folder):
    conn.execute(f"GRANT SELECT ON {owned} TO {roles['writer']}; ALTER TABLE {owned} ENABLE ROW LEVEL SECURITY")
    with acting("writer") as session:
        refused(session, "42501", "CALL hart.export_model('owned', %s)", str(folder / "out"))


def test_functions_with_the_rights_of_their_owner(owned, conn, roles, acting):
    """A SECURITY DEFINER function may lend a model to whom it likes."""
    conn.execute(f"GRANT CREATE ON SCHEMA public TO {roles['owner']}")
    with acting("owner") as session:
        session.execute("CREATE FUNCTION public.lent(t text) RETURNS text SECURITY DEFINER LANGUAGE sql AS $$ SELECT hart.generate(t, 3, 'owned') $$")
        expected = session.one("SELECT public.lent('x')")
    with acting("plain") as session:
        assert session.one("SELECT public.lent('x')") == expected
    conn.execute(f"DROP FUNCTION public.lent; REVOKE CREATE ON SCHEMA public FROM {roles['owner']}")
