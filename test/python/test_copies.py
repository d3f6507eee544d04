"""Models are data: they are in a dump, in a base backup and on a standby."""
import time

import psycopg
import pytest

import models
from answers import GOLDENS, assert_logits, generate_ids, logits
from server import BINDIR, Session, run

NAMES = ["llama_f16", "qwen2_untied", "qwen3_mixed"]


def assert_answers(session, name):
    """A model answers as its golden says."""
    case = GOLDENS[name]["cases"][2]
    ids = models.prompt_ids(models.BY_NAME[name], case["length"])
    assert_logits(logits(session, name, ids), case)
    assert generate_ids(session, name, ids, len(case["greedy"])) == case["greedy"]


@pytest.fixture(scope="module")
def filled(server_db):
    for name in NAMES:
        server_db.model(name)
    return server_db


def tool(server, program, *args):
    """pg_dump and its like, on the second server."""
    e = server.environment
    return run(BINDIR / program, "-h", e["PGHOST"], "-p", e["PGPORT"], "-U", e["PGUSER"], *args)


@pytest.mark.parametrize("form", ["custom", "plain", "directory"])
def test_dump_and_restore(server, filled, folders, folder, form):
    dump, restored = folder / "dump", f"restored_{form}"
    tool(server, "pg_dump", "-d", filled.name, "-F", form, "-f", dump)
    with Session.open(filled.admin) as admin:
        admin.execute(f"CREATE DATABASE {restored} TEMPLATE template0")
    if form == "plain":
        tool(server, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", restored, "-f", dump)
    else:
        tool(server, "pg_restore", "--exit-on-error", "-d", restored, dump)
    with Session.open(server.dsn(restored)) as session:
        assert session.all("SELECT name, state FROM hart.models ORDER BY 1") == [(n, "ready") for n in NAMES]
        for name in NAMES:
            assert_answers(session, name)
            text = GOLDENS[name]["text"]
            assert session.one("SELECT hart.generate(%s, 12, %s)", text["prompt"], name) == text["text"]
            session.execute("CALL hart.export_model(%s, %s)", [name, str(folder / name)])
            for path in folders(name).iterdir():
                assert (folder / name / path.name).read_bytes() == path.read_bytes(), path.name
            number = session.one("SELECT model_id FROM hart.models WHERE name = %s", name)
            assert session.one("SELECT count(*) FROM hart.token_positions WHERE model_id = %s AND chart = 0", number) == \
                session.one("SELECT tokens FROM hart.charts WHERE model_id = %s", number) > 90
        # A position that moves takes its embedding along, by whatever name it is updated.
        for relation in ("hart.token_positions", f"hart.token_positions_{number}", f"hart.token_positions_{number}_0"):
            before = session.one("SELECT hart.embedding_row(%s, 5)", number)
            session.execute(f"UPDATE {relation} SET position = hart.point('{{0.1,0.1,0.1,0.1}}') WHERE model_id = {number} AND token_id = 5")
            assert session.one("SELECT hart.embedding_row(%s, 5)", number) != before
            session.execute(f"UPDATE {relation} SET position = hart.point('{{0.2,0.1,0.1,0.1}}') WHERE model_id = {number} AND token_id = 5")
        # The copy is alive: what is added to it meets nothing that came with the dump, and its models can go.
        session.execute("CALL hart.ingest_model(%s, 'another')", [str(folders("llama_bias"))])
        for name in ["another", *NAMES]:
            session.execute("CALL hart.drop_model(%s)", [name])
        assert session.one("SELECT count(*) FROM pg_class WHERE relnamespace = 'hart'::regnamespace AND relname ~ '^tiles_[0-9]'") == 0
        session.execute("DROP EXTENSION hartonomous CASCADE")
    with Session.open(filled.admin) as admin:
        admin.execute(f"DROP DATABASE {restored} WITH (FORCE)")


def test_standby(server, filled, folders):
    """A hot standby answers from its own copy, follows changes and refuses to write."""
    standby = server.standby("test-standby")
    try:
        with Session.open(standby.dsn(filled.name)) as replica, filled.connect() as primary:
            def caught_up():
                target = primary.one("SELECT pg_current_wal_insert_lsn()")
                deadline = time.monotonic() + 60
                while not replica.one("SELECT pg_last_wal_replay_lsn() >= %s", target):
                    assert time.monotonic() < deadline, "the standby does not follow"
                    time.sleep(0.05)

            assert replica.one("SELECT pg_is_in_recovery()")
            caught_up()
            for name in NAMES:
                assert_answers(replica, name)
                text = GOLDENS[name]["text"]
                assert replica.one("SELECT hart.generate(%s, 12, %s)", text["prompt"], name) == text["text"]
                assert len(replica.all("SELECT * FROM hart.neighbors('the', 5, %s)", name)) == 5
                assert len(replica.all("SELECT * FROM hart.neighbors('the', 5, %s, exact => false)", name)) == 5
                for call in ("hart.perplexity(%s, %s)", "hart.embed(%s, %s)", "(SELECT text FROM hart.beam_search(%s, 4, 2, model => %s))"):
                    assert replica.one(f"SELECT {call}", text["prompt"], name) == primary.one(f"SELECT {call}", text["prompt"], name)
            replica.execute("BEGIN READ ONLY")
            assert_answers(replica, NAMES[0])
            with replica.cursor(name="live") as cursor:
                cursor.itersize = 1
                cursor.execute(f"SELECT piece FROM hart.generate_stream('The', 12, '{NAMES[0]}', temperature => 1, seed => 8)")
                pieces = "".join(piece for piece, in cursor)
            replica.execute("COMMIT")
            assert pieces == primary.one(f"SELECT text FROM hart.generate_many('{{The}}', 12, '{NAMES[0]}', temperature => 1, seed => 8)")

            edit = "UPDATE hart.tiles SET payload = {} WHERE (model_id, tensor_id, tile_no) = " \
                   "(SELECT model_id, tensor_id, 0 FROM hart.tensors JOIN hart.model_registry r USING (model_id) " \
                   "WHERE r.name = 'llama_f16' AND hart.tensors.name = 'model.norm.weight')"
            payload = primary.one("SELECT payload FROM hart.tiles WHERE (model_id, tensor_id) = (SELECT model_id, tensor_id FROM "
                                  "hart.tensors JOIN hart.model_registry r USING (model_id) WHERE r.name = 'llama_f16' "
                                  "AND hart.tensors.name = 'model.norm.weight')")
            before = logits(replica, "llama_f16", [5, 6])
            primary.execute(edit.format("overlay(payload PLACING '\\x0055'::bytea FROM 1 FOR 2)"))
            caught_up()
            assert logits(replica, "llama_f16", [5, 6]) == logits(primary, "llama_f16", [5, 6]) != before
            primary.execute(edit.format("%s"), [payload])
            primary.execute("VACUUM (FREEZE) hart.tiles")
            caught_up()
            assert logits(replica, "llama_f16", [5, 6]) == before

            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                replica.execute("CALL hart.ingest_model(%s, 'no')", [str(folders("llama_bias"))])
            primary.execute("CALL hart.ingest_model(%s, 'later')", [str(folders("llama_bias"))])
            caught_up()
            assert replica.one("SELECT hart.generate_tokens(ARRAY[5, 6], 4, 'later')") == primary.one("SELECT hart.generate_tokens(ARRAY[5, 6], 4, 'later')")
            primary.execute("CALL hart.drop_model('later')")
            caught_up()
            assert replica.all("SELECT 1 FROM hart.models WHERE name = 'later'") == []
    finally:
        standby.remove()


@pytest.mark.parametrize("shared_buffers", ["128kB", "1MB", "16MB"])
def test_small_shared_buffers(server, filled, shared_buffers):
    """A model larger than the buffers it may pin is streamed: slower, never wrong, and said once."""
    big = filled.model("llama_wide")
    server.restart(shared_buffers=shared_buffers, fsync="off")
    try:
        with filled.connect() as session:
            for name in [big, "qwen3_mixed"]:
                for case in GOLDENS[name]["cases"]:
                    ids = models.prompt_ids(models.BY_NAME[name], case["length"])
                    assert_logits(logits(session, name, ids), case)
                    assert generate_ids(session, name, ids, 6) == case["greedy"][:6]
            hints = [line for line in session.said if "shared_buffers" in str(line)]
            assert len(hints) == (1 if shared_buffers != "16MB" else 0), session.said
    finally:
        server.restart(shared_buffers="64MB", fsync="off")




def test_models_that_do_not_fit_together(server, filled, folders):
    """Two models of most of shared_buffers each: whoever comes second streams, nobody runs out of buffers."""
    with filled.connect() as session:
        session.execute("CALL hart.ingest_model(%s, 'twin')", [str(folders(filled.model("llama_wide")))])
    server.restart(shared_buffers="5MB", fsync="off")
    try:
        case = GOLDENS["llama_wide"]["cases"][2]
        ids = models.prompt_ids(models.BY_NAME["llama_wide"], case["length"])
        with filled.connect() as first, filled.connect() as second, filled.connect() as third:
            first.execute("BEGIN")
            first.execute("SELECT hart.open_context('llama_wide')")
            assert_logits(logits(second, "twin", ids), case)
            assert_logits(logits(third, "llama_wide", ids), case)
            first.execute("COMMIT")
            assert_logits(logits(first, "llama_wide", ids), case)
            third.execute("CALL hart.drop_model('twin')")
    finally:
        server.restart(shared_buffers="64MB", fsync="off")
