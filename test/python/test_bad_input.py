"""Wrong arguments: an error with its SQLSTATE and a hint, and the same backend answers the next question."""
import shutil

import psycopg
import pytest

import models
from answers import generate_ids
from server import Session, dsn_of

TOO_LONG = "the database " * 400


@pytest.fixture(scope="module")
def model(db):
    return db.model("llama_f32")            # its tokenizer puts <s> before every text


@pytest.fixture(scope="module")
def bare(db):
    return db.model("qwen2_tied")           # no <s>: an empty text is no token at all


BAD_CALLS = [
    # Missing values. A model that is NULL is the only model, and there are two here.
    ("22004", "SELECT hart.generate(NULL, 5, 'llama_f32')"),
    ("22004 22023", "SELECT hart.generate('x', NULL, 'llama_f32')"),
    ("22004", "SELECT hart.generate_tokens(NULL, 5, 'llama_f32')"),
    ("22004 22023", "SELECT hart.generate_tokens(ARRAY[5], NULL, 'llama_f32')"),
    ("22004", "SELECT hart.generate_tokens(ARRAY[5, NULL, 6], 5, 'llama_f32')"),
    ("22004", "SELECT hart.logits(NULL, 'llama_f32')"),
    ("22004", "SELECT hart.logits(ARRAY[5, NULL], 'llama_f32')"),
    ("22004", "SELECT hart.detokenize(ARRAY[5, NULL], 'llama_f32')"),
    ("42P08", "SELECT hart.generate('x', 5, NULL)"),
    ("42P08", "SELECT hart.generate('x', 5)"),
    ("42P08", "SELECT hart.logits(ARRAY[5])"),
    ("42P08", "SELECT hart.tokenize('x')"),
    # Models that are not there.
    ("42704", "SELECT hart.generate('x', 5, 'no such model')"),
    ("42704 22023 42602", "SELECT hart.generate('x', 5, '')"),
    ("42704", "SELECT hart.generate_tokens(ARRAY[5], 5, 'LLAMA_F32')"),
    ("42704", "SELECT hart.logits(ARRAY[5], 'no such model')"),
    ("42704", "SELECT hart.tokenize('x', 'no such model')"),
    ("42704", "SELECT hart.detokenize(ARRAY[5], 'no such model')"),
    ("42704", "SELECT hart.open_context('no such model')"),
    ("42704", "CALL hart.drop_model('no such model')"),
    ("42704", "CALL hart.export_model('no such model', '/tmp/hart_nowhere')"),
    ("22004", "CALL hart.drop_model(NULL)"),
    ("22004", "CALL hart.export_model(NULL, '/tmp/hart_nowhere')"),
    ("22004", "CALL hart.export_model('llama_f32', NULL)"),
    ("22004", "CALL hart.ingest_model(NULL)"),
    # Numbers of tokens.
    ("22023", "SELECT hart.generate('x', 0, 'llama_f32')"),
    ("22023", "SELECT hart.generate('x', -1, 'llama_f32')"),
    ("22023", "SELECT hart.generate('x', -2147483648, 'llama_f32')"),
    ("22023", "SELECT hart.generate_tokens(ARRAY[5], 0, 'llama_f32')"),
    # Tokens.
    ("22023 22003", "SELECT hart.generate_tokens(ARRAY[-1], 5, 'llama_f32')"),
    ("22023 22003", "SELECT hart.generate_tokens(ARRAY[137], 5, 'llama_f32')"),
    ("22023 22003", "SELECT hart.generate_tokens(ARRAY[5, 2147483647], 5, 'llama_f32')"),
    ("22023 22003", "SELECT hart.generate_tokens(ARRAY[5, -2147483648], 5, 'llama_f32')"),
    ("22023 22003", "SELECT hart.logits(ARRAY[137], 'llama_f32')"),
    ("22023 22003", "SELECT hart.detokenize(ARRAY[-1], 'llama_f32')"),
    ("22023 22003", "SELECT hart.detokenize(ARRAY[137], 'llama_f32')"),
    ("22023", "SELECT hart.generate_tokens('{}', 5, 'llama_f32')"),
    ("22023", "SELECT hart.logits('{}', 'llama_f32')"),
    ("22023 2202E", "SELECT hart.logits('{{5,6},{7,8}}', 'llama_f32')"),
    ("22023 2202E", "SELECT hart.generate_tokens('{{5,6},{7,8}}', 3, 'llama_f32')"),
    ("22023", "SELECT hart.generate('', 5, 'qwen2_tied')"),
    # Longer than the context of 512.
    ("54000 22023", f"SELECT hart.generate('{TOO_LONG}', 5, 'llama_f32')"),
    ("54000 22023", "SELECT hart.generate_tokens(array_fill(5, ARRAY[513]), 1, 'llama_f32')"),
    ("54000 22023", "SELECT hart.logits(array_fill(5, ARRAY[513]), 'llama_f32')"),
    ("54000 22023", "SELECT hart.logits(array_fill(5, ARRAY[3000000]), 'llama_f32')"),
    # Tensors.
    ("42704", "SELECT hart.tensor_matrix('llama_f32', 'no such tensor')"),
    ("42704", "SELECT hart.tensor_matrix('no such model', 'model.norm.weight')"),
    ("22004", "SELECT hart.tensor_matrix('llama_f32', NULL)"),
    ("42704", "SELECT hart.decompose_tensor('llama_f32', 'no such tensor', 2)"),
    ("22004", "SELECT hart.decompose_tensor('llama_f32', 'model.norm.weight', NULL)"),
    ("22023", "SELECT hart.decompose_tensor('llama_f32', 'model.embed_tokens.weight', 0)"),
    ("22023", "SELECT hart.decompose_tensor('llama_f32', 'model.embed_tokens.weight', -3)"),
    ("22023", "SELECT hart.decompose_tensor('llama_f32', 'model.embed_tokens.weight', 65)"),
    # Settings.
    ("22023", "SET hart.threads = -1"),
    ("22023", "SET hart.threads = 100000"),
    ("22023", "SET hart.kernel = 'abacus'"),
]


@pytest.mark.parametrize("sqlstates, statement", BAD_CALLS, ids=[s[:70] for _, s in BAD_CALLS])
def test_bad_call(conn, model, bare, refused, sqlstates, statement):
    if statement.startswith("SET"):
        conn.execute("SELECT hart.library_version()")   # before it is loaded any setting goes
        with pytest.raises(psycopg.Error) as caught:    # PostgreSQL's own words; a range has no hint
            conn.execute(statement)
        assert caught.value.sqlstate == sqlstates
        assert conn.one("SELECT 1") == 1
    else:
        refused(conn, sqlstates, statement)


def test_null_in_null_out(conn, model):
    """As functions of one value do in SQL."""
    assert conn.one("SELECT hart.tokenize(NULL, 'llama_f32')") is None
    assert conn.one("SELECT hart.detokenize(NULL, 'llama_f32')") is None


def test_error_lists_the_models(conn, model, bare, refused):
    for statement in ("SELECT hart.generate('x', 5)", "SELECT hart.generate('x', 5, 'no such model')"):
        error = refused(conn, "42P08 42704", statement)
        said = f"{error.diag.message_primary} {error.diag.message_detail} {error.diag.message_hint}"
        assert model in said and bare in said


def test_setting_names_the_model(conn, model, bare, refused):
    conn.execute("SET hart.model = 'llama_f32'")
    assert conn.one("SELECT hart.logits(ARRAY[5, 6])") == conn.one("SELECT hart.logits(ARRAY[5, 6], 'llama_f32')")
    assert conn.one("SELECT hart.generate('x', 3)") == conn.one("SELECT hart.generate('x', 3, 'llama_f32')")
    conn.execute("SET hart.model = 'gone'")
    refused(conn, "42704", "SELECT hart.generate('x', 3)")


def test_empty_prompt_with_start_token(conn, model):
    assert conn.one("SELECT hart.tokenize('', 'llama_f32')") == [models.BOS]
    assert conn.one("SELECT hart.generate('', 5, 'llama_f32')") is not None


def test_whole_context_can_be_used(conn, model):
    ids = models.prompt_ids(models.BY_NAME["llama_f32"], 511)
    assert generate_ids(conn, "llama_f32", ids, 1)
    assert conn.one("SELECT hart.logits(%s::int[] || 5, 'llama_f32')", ids) is not None


@pytest.mark.parametrize("bad", ["'{5,6}'::int[], 3", "'{5,6}'::int[], -1",
                                 "array_fill(5, ARRAY[600]), 0"])
def test_forward_at_wrong_places(conn, model, refused, bad):
    """A cache has no holes: a position past its end, or none at all, is an error."""
    refused(conn, "22023 22004 22003 54000 55000", f"SELECT hart.forward(hart.open_context('llama_f32'), {bad})")


def test_closed_context(conn, model, refused):
    """A handle is worth nothing once its context is closed, and closing happens once."""
    for statement in ("PERFORM hart.forward(ctx, ARRAY[5], 0)", "PERFORM hart.close_context(ctx)"):
        refused(conn, "55000 22023", f"""DO $$
            DECLARE
                ctx hart.context := hart.open_context('llama_f32');
            BEGIN
                PERFORM hart.close_context(ctx);
                {statement};
            END $$""")


def test_context_of_an_earlier_transaction(conn, model, refused):
    conn.execute("""CREATE PROCEDURE pg_temp.keep() LANGUAGE plpgsql AS $$
        DECLARE
            ctx hart.context := hart.open_context('llama_f32');
        BEGIN
            COMMIT;
            PERFORM hart.forward(ctx, ARRAY[5], 0);
        END $$""")
    refused(conn, "55000 22023", "CALL pg_temp.keep()")


@pytest.mark.parametrize("name", ["", " ", "x" * 10000, "a\nb", "../up"])
def test_names_of_models(conn, folders, nothing_left, name):
    """An odd name is refused with a reason or works everywhere; it never half works."""
    source = str(folders("llama_f32"))
    try:
        conn.execute("CALL hart.ingest_model(%s, %s)", [source, name])
    except psycopg.Error as error:
        assert error.sqlstate in ("42602", "22023", "54000", "42622") and error.diag.message_hint
    else:
        assert conn.one("SELECT hart.generate('x', 2, %s)", name) is not None
        conn.execute("CALL hart.drop_model(%s)", [name])
    nothing_left(conn)


@pytest.mark.parametrize("name", ["it's", 'say "hi"', "Ünïcödé 模型 🚀", "SELECT", "a.b-c", "$1 %s {}", "x" * 63])
def test_any_readable_name_works(conn, folders, folder, nothing_left, name):
    shutil.copytree(folders("llama_f32"), folder / "m")
    conn.execute("CALL hart.ingest_model(%s, %s)", [f"{folder}/m/", name])
    assert conn.one("SELECT hart.generate('x', 2, %s)", name) is not None
    conn.execute("CALL hart.drop_model(%s)", [name])
    nothing_left(conn)


@pytest.mark.parametrize("weight", ["ff7f", "007c"], ids=["NaN", "infinity"])
def test_weights_that_are_no_numbers(conn, db, model, refused, weight):
    """An answer that cannot be computed is an error, not token 0."""
    conn.execute("BEGIN")
    conn.execute("""UPDATE hart.tiles t SET payload = decode(repeat(%s, length(payload) / 2), 'hex') FROM hart.tensors n JOIN hart.model_registry r USING (model_id)
                    WHERE (t.model_id, t.tensor_id) = (n.model_id, n.tensor_id) AND r.name = %s AND n.name = 'model.norm.weight'""",
                 [weight, db.model("llama_bias")])
    refused(conn, "22000 22003", "SELECT hart.generate_tokens(ARRAY[5, 6], 3, 'llama_bias')")


def test_database_of_another_encoding(db, folders):
    """Text of models is UTF-8."""
    with db.connect() as admin:
        admin.execute(f"CREATE DATABASE {db.name}_latin1 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        with Session.open(dsn_of(db.dsn, dbname=f"{db.name}_latin1")) as session:
            session.execute("SET client_min_messages = warning; CREATE EXTENSION hartonomous CASCADE")
            with pytest.raises(psycopg.errors.FeatureNotSupported) as caught:
                session.execute("CALL hart.ingest_model(%s)", [str(folders("llama_bias"))])
            assert caught.value.diag.message_hint
        admin.execute(f"DROP DATABASE {db.name}_latin1")
