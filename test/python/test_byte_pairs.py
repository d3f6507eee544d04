"""Tokens made by the server itself, from rows: the ids and texts that the library gives, without Python in the session."""
import json
import os
import pathlib
import random

import pytest
from psycopg import errors

import byte_pair_models as kinds
import models
from databases import Database
from server import BINDIR, Session, run


@pytest.fixture(scope="module")
def db(folders):
    """A database of these tests' own, whose models have short names."""
    database = Database(os.environ["HART_TEST_DSN"], f"hart_byte_pairs_{os.getpid()}", folders)
    yield database
    database.drop()


@pytest.fixture(scope="module")
def libraries(db, scratch):
    """Models of every kind of byte_pair_models, ingested; kind → the library's tokenizer. The models are called as their kinds."""
    made = {}
    with db.connect() as session:
        for name, file in kinds.kinds().items():
            made[name] = kinds.write(scratch / "byte_pairs" / name, name, file)
            session.execute("CALL hart.ingest_model(%s, %s)", [str(scratch / "byte_pairs" / name), name])
        yield made
        for name in made:
            session.execute("CALL hart.drop_model(%s)", [name])


@pytest.fixture
def session(db, libraries):
    """A new session, in which Python has not been used."""
    with db.connect() as session:
        yield session


# of characters that are all alike; 1 takes some minutes
EVERY = int(os.environ.get("HART_TEST_EVERY", "397"))
NAMES = ["demo", "gpt2", "llama3", "gpt4", "cases", "digits", "bytes"]


def has_python(session):
    """Whether the server's process has loaded Python."""
    return "libpython" in pathlib.Path(f"/proc/{session.pid}/maps").read_text()


def differences(session, library, model, texts, special=True):
    """(text, what the server says, what the library says) where they differ."""
    ours = session.all("SELECT hart.tokenize(t, %s, %s) FROM unnest(%s::text[]) WITH ORDINALITY AS u (t, n) ORDER BY n", model, special, texts)
    theirs = [e.ids for e in library.encode_batch(texts, add_special_tokens=special)]
    return [(ascii(text), mine, wanted) for text, (mine,), wanted in zip(texts, ours, theirs, strict=True) if mine != wanted]


def test_every_kind_has_rows(session, libraries):
    assert session.one("SELECT array_agg(name ORDER BY name) FROM hart.tokenizers JOIN hart.models USING (model_id) WHERE name = ANY (%s)", list(libraries)) == sorted(NAMES) == sorted(libraries)
    words = dict(session.all("SELECT name, cardinality(words) FROM hart.tokenizers JOIN hart.models USING (model_id)"))
    assert words["llama3"] > 3 and not any(words[name] for name in NAMES if name != "llama3"), "some words of llama3 are not made by merges"
    merges = session.all("SELECT (SELECT count(*) FROM hart.merge_pairs p WHERE p.model_id = m.model_id), (SELECT count(*) FROM hart.token_merges t WHERE t.model_id = m.model_id) FROM hart.models m WHERE name = ANY (%s)", NAMES)
    assert len(merges) == len(NAMES) and all(pairs > 50 and pairs * 2 == edges for pairs, edges in merges), "the merges that are looked up are those of the graph"


@pytest.mark.parametrize("model", ["demo", "cases"])
def test_every_character(session, libraries, model):
    """Alone, beside letters, digits, spaces, punctuation, apostrophes and marks; many in a text, each in a line of its own."""
    lines = [f"{c}\na{c}a1{c} .{c}\n'{c} 'l{c}E{c}\u0301\u0323\n" for c in kinds.settled(every=EVERY)]
    if model == "cases" and EVERY > 1:
        lines = lines[::4]
    texts = ["".join(lines[at:at + 512]) for at in range(0, len(lines), 512)]
    assert differences(session, libraries[model], model, texts) == []
    assert not has_python(session)


def test_characters_that_versions_of_unicode_differ_about(session, libraries):
    """They are left to the library."""
    texts = [f"a{chr(c)}a\u0301 {chr(c)}" for ends in kinds.unsettled() for c in ends][::5]
    assert differences(session, libraries["demo"], "demo", texts[:1]) == [] and has_python(session)
    for model in ("demo", "gpt4"):
        assert differences(session, libraries[model], model, texts) == []


@pytest.mark.parametrize("model", NAMES)
def test_fuzz(session, libraries, model):
    texts = ["", " ", *kinds.fuzzed(NAMES.index(model), 1500)]
    for special in (True, False):
        assert differences(session, libraries[model], model, texts, special) == []
    assert not has_python(session)


@pytest.mark.parametrize("model", NAMES)
def test_many_texts_without_special_tokens(session, libraries, model):
    """As the library does it when names of special tokens are plain text; those that hold an added token are left to it."""
    library, texts = libraries[model], ["", " ", *kinds.fuzzed(NAMES.index(model), 1500)]
    tokens, lengths = session.all("SELECT tokens, lengths FROM hart.tokenize_plain(%s, %s)", texts, model)[0]
    assert not has_python(session)
    library.encode_special_tokens = True
    try:
        theirs = [e.ids for e in library.encode_batch(texts, add_special_tokens=False)]
    finally:
        library.encode_special_tokens = False
    assert len(lengths) == len(texts) and sum(length is None for length in lengths) < len(texts) / 2
    ours = iter(tokens)
    assert all([next(ours) for _ in range(length)] == wanted for length, wanted in zip(lengths, theirs) if length is not None)
    assert next(ours, None) is None
    added = [token.content for token in library.get_added_tokens_decoder().values()]
    assert session.one("SELECT lengths FROM hart.tokenize_plain(%s, %s)", [f"a{name}b" for name in added], model) == [None] * len(added)


@pytest.mark.parametrize("model", NAMES)
def test_mixed_languages(session, libraries, model):
    """A text that is more than the session remembers words and merges of; and back."""
    text = kinds.mixed(NAMES.index(model), 100_000)
    ids = session.one("SELECT hart.tokenize(%s, %s)", text, model)
    assert ids == libraries[model].encode(text).ids
    assert session.one("SELECT hart.detokenize(%s::int[], %s)", ids, model) == libraries[model].decode(ids)
    assert ids == session.one("SELECT hart.tokenize(%s, %s)", text, model), "as before, from what it remembers"
    assert not has_python(session)


def test_cases_of_a_real_tokenizer(db, data, scratch):
    """Qwen 2.5, on texts of every kind."""
    library = kinds.write(scratch / "qwen25", "qwen25", json.loads((data / "qwen2.5-tokenizer" / "tokenizer.json").read_text()))
    with db.connect() as session:
        session.execute("CALL hart.ingest_model(%s)", [str(scratch / "qwen25")])
    try:
        with db.connect() as session:
            for entry in json.loads((data / "qwen2.5-tokenizer" / "expected.json").read_text())["entries"].values():
                assert session.one("SELECT hart.tokenize(%s, 'qwen25')", entry["decoded_with_special"]) == entry["input_ids"]
                assert session.one("SELECT hart.detokenize(%s::int[], 'qwen25')", entry["input_ids"]) == entry["decoded_skip_special"]
            assert differences(session, library, "qwen25", [*kinds.fuzzed(77, 1000), kinds.mixed(78, 200_000)]) == []
            assert not has_python(session)
    finally:
        with db.connect() as session:
            session.execute("CALL hart.drop_model('qwen25')")


@pytest.mark.parametrize("text", ["a" * 200_000, "ab" * 100_000, "".join(random.Random(1).choices("etaoin", k=200_000)), " " * 200_000, " \n" * 100_000, "\u00e9" * 50_000, "1" * 100_000,
                                  "e" + "\u0301\u0323" * 3000, "<|" * 100_000, "'" * 100_000, "日本" * 50_000], ids=range(11))
def test_long_words(session, libraries, text):
    """What no pattern cuts."""
    session.execute("SET statement_timeout = '60s'")
    for model in ("demo", "bytes"):
        assert session.one("SELECT hart.tokenize(%s, %s)", text, model) == libraries[model].encode(text).ids
    assert not has_python(session)


def test_long_runs_of_marks(session, libraries):
    """PostgreSQL would sort them in quadratic time: they are for the library."""
    text = "e" + "\u0301\u0323" * 20_000 + "x"
    assert session.one("SELECT hart.tokenize(%s, 'demo')", text) == libraries["demo"].encode(text).ids
    assert has_python(session)
    assert session.one("SELECT hart.tokenize(%s, 'gpt2')", text) == libraries["gpt2"].encode(text).ids, "without normalization nothing is sorted"


def test_a_word_can_be_cancelled(session, libraries):
    """Merging millions of bytes ends when it is told to; what the session remembers stays sound."""
    session.execute("CREATE TEMP TABLE long AS SELECT string_agg(chr(97 + (n::bigint * n % 23)::int), '') AS t FROM generate_series(1, 6000000) AS n")
    session.execute("SET statement_timeout = '150ms'")
    with pytest.raises(errors.QueryCanceled):
        session.execute("SELECT hart.tokenize(t, 'bytes') FROM long")
    session.execute("RESET statement_timeout")
    assert differences(session, libraries["bytes"], "bytes", ["abc abc", *kinds.fuzzed(5, 100)]) == []
    assert not has_python(session) and not session.warnings


CALLS = ["SELECT hart.generate('The cat', 5, %s)", "SELECT hart.generate('The cat', 20, %s, temperature => 1.0, seed => 3, stop => ARRAY['x', 'the'], logit_bias => '{\"5\": 2}')",
         "SELECT * FROM hart.generate_stream('The cat', 5, %s)", "SELECT * FROM hart.generate_many(ARRAY['a', 'b c'], 5, %s, n => 2)", "SELECT * FROM hart.score('The cat sat', %s)",
         "SELECT hart.perplexity('The cat sat', %s)", "SELECT * FROM hart.next_token('The cat', 5, %s)", "SELECT hart.embed('The cat', %s)", "SELECT * FROM hart.beam_search('The', 4, model => %s)",
         "SELECT hart.generate_tokens(hart.tokenize('The cat', %s), 3, 'demo')"]


@pytest.mark.parametrize("call", CALLS)
def test_no_python(session, call):
    """A plain question to a model with rows never starts Python, not even in a transaction that reads only."""
    session.execute("SET default_transaction_read_only = on")
    assert session.all(call, "demo") and not has_python(session)


def test_other_kinds_start_python(db, session):
    """So that the tests above can fail."""
    assert not has_python(session)
    session.one("SELECT hart.tokenize('x', %s)", db.model("llama_f32"))
    assert has_python(session)


def test_without_rows_the_library_does_it(session, libraries):
    """As for models of before there were such rows."""
    texts = kinds.fuzzed(9, 50)
    with session.transaction(force_rollback=True):
        session.execute("DELETE FROM hart.tokenizers WHERE model_id = hart.resolve_model('gpt2')")
        assert differences(session, libraries["gpt2"], "gpt2", texts) == [] and has_python(session)
        whole = session.one("SELECT string_agg(piece, '') FROM hart.generate_stream('The', 6, 'gpt2')")
    assert session.one("SELECT hart.generate('The', 6, 'gpt2')") == whole


def random_ids(library, draw, n):
    """Tokens of any kind: bytes that make no characters, special tokens, ids that are no tokens."""
    size = library.get_vocab_size()
    return [draw.choice([draw.randrange(size), draw.randrange(256), size + 1]) for _ in range(n)]


def same_piece(ours, theirs):
    """After bytes of two broken characters the library shows the first again."""
    return ours == theirs or theirs == "\ufffd" * (len(theirs) - len(ours)) + ours


def same_pieces(ours, theirs):
    """Equal, but for that: only after a text that ends in two broken characters, and one fewer than it ends in at most."""
    for i, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        before = "".join(ours[:i])
        broken = len(before) - len(before.rstrip("\ufffd"))
        if our != their and not (same_piece(our, their) and len(their) - len(our) < broken):
            return False
    return True


@pytest.mark.parametrize("model", ["demo", "llama3"])
def test_texts_of_any_tokens(session, libraries, model):
    """As the library decodes them; the pieces of a text are the text."""
    draw = random.Random(4)
    cases = [random_ids(libraries[model], draw, n) for n in [0, 1, 2, 3, 5, 8, 40] * 30]
    whole = "SELECT hart.detokenize(i, m), hart.token_texts(i, m), hart.library_detokenize(i, m), hart.library_token_texts(i, m) FROM (SELECT %s::int[] AS i, %s AS m) AS q"
    for ids in cases:
        text, texts, library_text, library_texts = session.all(whole, ids, model)[0]
        assert text == library_text, ids
        assert same_pieces(texts, library_texts), ids
    for ids in cases:
        at = draw.randrange(len(ids) + 1)
        ours, theirs = session.all("SELECT hart.detokenize_continuation(p, i, m), hart.library_detokenize_continuation(p, i, m) FROM (SELECT %s::int[] AS p, %s::int[] AS i, %s AS m) AS q", ids[:at], ids[at:], model)[0]
        assert same_piece(ours, theirs), (ids, at)


PIECES = """CREATE FUNCTION pg_temp.pieces(prompt int[], new int[], model text, stop text[], prefix text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    p hart.text_piece;
    made text := '';
    token int;
BEGIN
    EXECUTE format('SELECT (hart.%sbegin_pieces($1, $2)).*', prefix) INTO p USING prompt, model;
    FOR n IN 1 .. cardinality(new) LOOP
        EXECUTE format('SELECT (hart.%snext_piece($1, $2, $3, $4)).*', prefix) INTO p USING p, new[n], stop, n = cardinality(new);
        made := made || p.piece;
        EXIT WHEN p.stopped;
    END LOOP;
    RETURN made;
END $$"""


@pytest.mark.parametrize("model", ["demo", "llama3"])
def test_pieces(session, libraries, model):
    """The library's pieces joined, with stop strings and without."""
    session.execute(PIECES)
    draw = random.Random(6)
    for n in [1, 2, 4, 9, 30] * 12:
        ids = random_ids(libraries[model], draw, n + 4)
        prompt, new = ids[:4], ids[4:]
        text = session.one("SELECT hart.detokenize_continuation(%s::int[], %s::int[], %s)", prompt, new, model)
        start = draw.randrange(len(text) + 1)
        stop = draw.choice([None, ["never seen"], [text[start:start + 3] or "x"], [text[start:start + 1] or "x", "never seen"]])
        ours = session.one("SELECT pg_temp.pieces(%s::int[], %s::int[], %s, %s, '')", prompt, new, model, stop)
        cut = min([at for at in (text.find(s) for s in stop or ()) if at >= 0], default=len(text))
        assert ours == text[:cut], (prompt, new, stop)
        # of a prompt that ends in bytes of two broken characters, the library may show the first again
        if not session.one("SELECT hart.detokenize(%s::int[], %s)", prompt, model).endswith("\ufffd"):
            assert ours == session.one("SELECT pg_temp.pieces(%s::int[], %s::int[], %s, %s, 'library_')", prompt, new, model, stop), (prompt, new, stop)


def test_a_row_that_changes(session, db, libraries):
    """A session sees the version that its snapshot sees: its own change at once, what is rolled back never, another's after COMMIT."""
    ask, id = "SELECT hart.tokenize('a<tool>a', 'gpt2')", libraries["gpt2"].token_to_id("<tool>")
    change = "UPDATE hart.tokenizers SET added = array_remove(added, '<tool>'), added_tokens = array_remove(added_tokens, %s), added_normalized = array_remove(added_normalized, '<tool>')," \
             " added_normalized_tokens = array_remove(added_normalized_tokens, %s) WHERE model_id = hart.resolve_model('gpt2')"
    before = session.one(ask)
    assert id in before
    with session.transaction(force_rollback=True):
        session.execute(change, [id, id])
        changed = session.one(ask)
        assert id not in changed
        with session.transaction(force_rollback=True):
            session.execute("UPDATE hart.tokenizers SET byte_tokens = array_fill(7, ARRAY[256]) WHERE model_id = hart.resolve_model('gpt2')")
            assert set(session.one(ask)) == {7}
        assert session.one(ask) == changed
        with db.connect() as other:
            assert other.one(ask) == before
    assert session.one(ask) == before and not has_python(session)


def test_dropped_and_ingested_again(session, scratch, libraries):
    """Under the name of the one before, with another tokenizer; also within a transaction that is rolled back."""
    def ingest(kind):
        session.execute("CALL hart.ingest_model(%s, 'again')", [str(scratch / "byte_pairs" / kind)])

    text, ask = "don't 12345 naïve", "SELECT hart.tokenize('don''t 12345 naïve', 'again')"
    ingest("gpt2")
    assert session.one(ask) == libraries["gpt2"].encode(text).ids
    with session.transaction(force_rollback=True):
        session.execute("CALL hart.drop_model('again')")
        ingest("llama3")
        assert session.one(ask) == libraries["llama3"].encode(text).ids
    assert session.one(ask) == libraries["gpt2"].encode(text).ids
    session.execute("CALL hart.drop_model('again')")
    ingest("llama3")
    assert session.one(ask) == libraries["llama3"].encode(text).ids
    session.execute("CALL hart.drop_model('again')")
    assert session.one("SELECT count(*) FROM hart.merge_pairs WHERE model_id NOT IN (SELECT model_id FROM hart.model_registry)") == 0


def test_who_may_tokenize(session, db, refused, libraries):
    """Who may read the model; a piece of text that is made up opens no other door."""
    session.execute("CREATE ROLE hart_no_reader")
    try:
        session.execute("SET ROLE hart_no_reader")
        for call in ("hart.tokenize('x', 'gpt2')", "hart.detokenize('{1}', 'gpt2')", "hart.token_texts('{1}', 'gpt2')", "hart.detokenize_continuation('{1}', '{2}', 'gpt2')", "hart.begin_pieces('{1}', 'gpt2')"):
            refused(session, "42501", f"SELECT {call}")
            session.execute("SET ROLE hart_no_reader")
        number = session.one("SELECT model_id FROM hart.models WHERE name = 'gpt2'")
        assert session.all("SELECT * FROM hart.tokenizers UNION ALL SELECT * FROM hart.tokenizers") == session.all("SELECT * FROM hart.merge_pairs") == []
        refused(session, "55000", f"SELECT hart.next_piece(ROW('', false, '', '{number}', NULL, NULL, 0, '')::hart.text_piece, 40, NULL, true)")
    finally:
        session.execute("RESET ROLE")
        session.execute("DROP ROLE hart_no_reader")


@pytest.mark.parametrize("call, sqlstate", [("hart.detokenize('{-1}', 'gpt2')", "22023"), ("hart.detokenize('{1000000}', 'gpt2')", "22023"), ("hart.detokenize('{1,NULL}', 'gpt2')", "22004"),
                                            ("hart.token_texts('{{1},{2}}', 'gpt2')", "22023"), ("hart.detokenize_continuation('{1}', '{1000000}', 'gpt2')", "22023"), ("hart.begin_pieces('{-5}', 'gpt2')", "22023")])
def test_errors_are_the_librarys(session, refused, libraries, call, sqlstate):
    ours = refused(session, sqlstate, f"SELECT {call}")
    theirs = refused(session, sqlstate, f"SELECT {call.replace('hart.', 'hart.library_')}")
    assert (ours.diag.message_primary, ours.diag.message_hint) == (theirs.diag.message_primary.removeprefix("hartonomous: "), theirs.diag.message_hint)


def test_nulls(session, libraries):
    for call in ("hart.tokenize(NULL, 'gpt2')", "hart.tokenize('x', 'gpt2', NULL)", "hart.detokenize(NULL, 'gpt2')", "hart.detokenize_continuation(NULL, '{1}', 'gpt2')", "hart.detokenize_continuation('{1}', NULL, 'gpt2')", "hart.token_texts(NULL, 'gpt2')"):
        assert session.one(f"SELECT {call}") is None, call
    assert session.one("SELECT hart.detokenize('{}', 'gpt2')") == "" and session.one("SELECT hart.token_texts('{}', 'gpt2')") == []


def test_dump_and_standby(server, libraries, scratch, folder):
    """Rows are in a dump and on a standby, where nothing can be written; so are their tokens."""
    own = Database(server.dsn("postgres"), "hart_byte_pairs", None)
    texts = kinds.fuzzed(11, 200)
    with own.connect() as session:
        session.execute("CALL hart.ingest_model(%s, 'llama3')", [str(scratch / "byte_pairs" / "llama3")])
    e = server.environment
    run(BINDIR / "pg_dump", "-h", e["PGHOST"], "-p", e["PGPORT"], "-U", e["PGUSER"], "-d", own.name, "-f", folder / "dump")
    with Session.open(own.admin) as admin:
        admin.execute("CREATE DATABASE hart_byte_pairs_restored TEMPLATE template0")
    run(BINDIR / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", e["PGHOST"], "-p", e["PGPORT"], "-U", e["PGUSER"], "-d", "hart_byte_pairs_restored", "-f", folder / "dump")
    standby = server.standby("test-standby-tokens")
    try:
        for dsn in (server.dsn("hart_byte_pairs_restored"), standby.dsn(own.name)):
            with Session.open(dsn) as session:
                assert differences(session, libraries["llama3"], "llama3", texts) == []
                assert session.one("SELECT hart.generate('The', 3, 'llama3')") is not None
                assert not has_python(session)
    finally:
        standby.remove()
        with Session.open(own.admin) as admin:
            admin.execute("DROP DATABASE hart_byte_pairs_restored WITH (FORCE)")
        own.drop()
