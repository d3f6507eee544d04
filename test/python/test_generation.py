"""Generating calls as clients use them: streams, sampling, stop strings, many at a time, in all kinds of statements."""
import dataclasses
import json
import os
import pathlib
import random
import subprocess
import sys

import psycopg
import pytest

import models
from byte_tokenizers import byte_fallback, byte_level

CALLS = ["SELECT hart.generate(%(prompt)s, {})", "SELECT string_agg(piece, '' ORDER BY step) FROM hart.generate_stream(%(prompt)s, {})",
         "SELECT text FROM hart.generate_many(ARRAY[%(prompt)s], {})"]


@pytest.fixture(scope="module", params=[byte_level, byte_fallback])
def bytes_model(request, db, scratch):
    """A model whose every token is a byte or little more, so that characters take several."""
    name = request.param.__name__
    folder = scratch / name
    models.write_model(folder, dataclasses.replace(models.BY_NAME["llama_f32"], name=name, vocab=310, tied=True), "bytes")
    (folder / "tokenizer.json").write_text(json.dumps(request.param()))
    with db.connect() as session:
        session.execute("CALL hart.ingest_model(%s)", [str(folder)])
        yield name
        session.execute("CALL hart.drop_model(%s)", [name])


def answers(conn, prompt, options, **values):
    """What each call answers; all agree."""
    texts = [conn.execute(call.format(options), {"prompt": prompt, **values}).fetchone()[0] for call in CALLS]
    assert texts[1:] == texts[:-1]
    return texts[0]


@pytest.mark.parametrize("name", ["llama_f32", "llama_odd", "qwen2_untied", "qwen3_mixed"])
def test_all_calls_agree(db, conn, name):
    """The pieces of a stream are the text of generate, and so is that of generate_many."""
    db.model(name)
    for prompt, options in [("The cat", "20, %(m)s"), ("a", "30, %(m)s, temperature => 1.5, seed => 4"), ("on it", "30, %(m)s, temperature => 1, top_p => 0.9, seed => 5, stop => ARRAY['e', 'ab']")]:
        answers(conn, prompt, options, m=name)


def test_characters_of_several_tokens(conn, bytes_model):
    """Random bytes and characters: joined pieces, texts, and what the tokenizer makes of the tokens where they are valid."""
    for seed in range(12):
        prompt = random.Random(seed).choice(["é", "🙂 日本", "a", "a time ½"])
        text = answers(conn, prompt, "40, %(m)s, temperature => 1.3, seed => %(s)s", m=bytes_model, s=seed)
        with_stop = answers(conn, prompt, "40, %(m)s, temperature => 1.3, seed => %(s)s, stop => %(stop)s", m=bytes_model, s=seed, stop=[text[3:5]]) if text[3:5] else None
        assert with_stop is None or with_stop == text[:text.index(text[3:5])]


def test_emoji_byte_by_byte(conn, bytes_model):
    """Tokens forced one by one, so that the model writes an emoji of four tokens: it comes out at once, with the last of them."""
    ids = conn.one("SELECT hart.tokenize('x🙂y🙂', %s)", bytes_model)
    start = len(conn.one("SELECT hart.tokenize('', %s)", bytes_model))
    conn.execute("""
        CREATE FUNCTION pg_temp.written(prompt int[], forced int[], model text) RETURNS text[] LANGUAGE plpgsql AS $$
        DECLARE
            p hart.text_piece := hart.begin_pieces(prompt, model);
            made text[] := '{}';
        BEGIN
            FOR i IN 1 .. cardinality(forced) LOOP
                p := hart.next_piece(p, forced[i], NULL, false);
                made := made || p.piece;
            END LOOP;
            RETURN made;
        END $$""")
    made = conn.one("SELECT pg_temp.written(%s::int[], %s::int[], %s)", ids[:start + 2], ids[start + 2:], bytes_model)
    assert "".join(made) == "🙂y🙂"[-len("".join(made)):] and {"🙂", ""} <= set(made)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_seed_tells_the_answer(db, conn, threads):
    """Whatever the threads, and in another session."""
    name = db.model("qwen2_untied")
    ask = "SELECT hart.generate_tokens('{40,41,42}', 40, %s, temperature => 1.1, top_p => 0.95, seed => 99)"
    conn.execute(f"SET hart.threads = {threads}")
    with db.connect() as other:
        assert conn.one(ask, name) == other.one(ask, name)


def test_server_side_cursor(db, conn):
    """psycopg: each row when it is made, and the run ends with the cursor."""
    name = db.model("llama_f32")
    runs = "SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'hart context'"
    with conn.transaction():
        with conn.cursor(name="tokens") as cursor:
            cursor.itersize = 1
            cursor.execute("SELECT step, piece FROM hart.generate_stream('The', 400, %s)", [name])
            seen = [row for row, _ in zip(cursor, range(5))]
            assert [step for step, _ in seen] == [1, 2, 3, 4, 5]
            assert conn.one(runs) == 1
        assert conn.one(runs) == 0
    assert not conn.warnings


def test_cursors_and_transactions(db, conn):
    """WITH HOLD collects the rest at COMMIT; COMMIT and ROLLBACK end a run that was not finished."""
    name = db.model("llama_f32")
    whole = conn.all("SELECT step, piece FROM hart.generate_stream('The', 12, %s)", name)
    with conn.transaction():
        conn.execute(f"DECLARE held CURSOR WITH HOLD FOR SELECT step, piece FROM hart.generate_stream('The', 12, '{name}')")
        first = conn.all("FETCH 2 FROM held")
    assert first + conn.all("FETCH ALL FROM held") == whole
    conn.execute("CLOSE held")
    for end in ("COMMIT", "ROLLBACK"):
        conn.execute(f"BEGIN; DECLARE c CURSOR FOR SELECT step, piece FROM hart.generate_stream('The', 12, '{name}')")
        assert conn.all("FETCH 2 FROM c") == first
        conn.execute(end)
        assert conn.one("SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'hart context'") == 0
    assert not conn.warnings


def test_in_all_kinds_of_statements(db, conn):
    """Read-only, over a table, prepared, in a function, in a materialised CTE, with a plan for all values."""
    name = db.model("llama_f32")
    expected = [conn.one("SELECT hart.generate(%s, 8, %s)", prompt, name) for prompt in ("The", "a cat", "it is")]
    conn.execute(f"SET hart.model = {name}")
    with conn.transaction():
        conn.execute("SET TRANSACTION READ ONLY")
        asked = "(VALUES (1, 'The'), (2, 'a cat'), (3, 'it is')) AS t (id, body)"
        assert [text for _, text in conn.all(f"SELECT id, hart.generate(body, 8) FROM {asked} ORDER BY id")] == expected
        assert [text for _, text in conn.all(f"WITH g AS MATERIALIZED (SELECT id, hart.generate(body, 8) AS g FROM {asked}) SELECT * FROM g ORDER BY id")] == expected
        assert [t for t, in conn.all(f"SELECT text FROM hart.generate_many((SELECT array_agg(body ORDER BY id) FROM {asked}), 8)")] == expected
        assert [t for t, in conn.all(f"SELECT (SELECT string_agg(piece, '' ORDER BY step) FROM hart.generate_stream(body, 8)) FROM {asked}")] == expected
    conn.execute("PREPARE g(text, int) AS SELECT hart.generate($1, $2)")
    for _ in range(7):
        assert conn.one("EXECUTE g('The', 8)") == expected[0]
    conn.execute("DEALLOCATE g")
    conn.execute("CREATE FUNCTION pg_temp.answer(t text) RETURNS text LANGUAGE sql AS 'SELECT hart.generate(t, 8)'")
    assert conn.one("SELECT pg_temp.answer('a cat')") == expected[1]
    assert not conn.warnings


def test_not_run_while_planning(db, conn):
    """EXPLAIN runs no model; EXPLAIN (ANALYZE, BUFFERS) shows the pages of the weights."""
    name = db.model("llama_f32")
    conn.execute("SET track_functions = 'pl'")
    with conn.transaction():
        conn.execute("EXPLAIN SELECT 1 WHERE hart.generate('The', 5, %s) <> ''", [name])
        assert not conn.one("SELECT pg_stat_get_xact_function_calls('hart.take_token'::regproc)")
    for query in (f"SELECT hart.generate('The', 5, '{name}')", f"SELECT * FROM hart.generate_stream('The', 5, '{name}')"):
        (plan,), = conn.all(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT json) {query}")
        pages = conn.one("SELECT pg_relation_size(hart.tiles_of(hart.resolve_model(%s))) / 8192", name)
        assert plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"] >= pages


def test_statement_timeout(db, conn, refused):
    name = db.model("llama_minimal")
    conn.execute("SET statement_timeout = '150ms'")
    for call in ("hart.generate(repeat('a cat ', 300), 100000, %s)", "hart.generate_stream(repeat('a cat ', 300), 100000, %s)",
                 "hart.generate_many(array_fill('a cat'::text, ARRAY[200]), 100000, %s)"):
        # one call may be done in time on a fast machine: a hundred are not
        refused_by_timeout(conn, f"SELECT count(*) FROM generate_series(1, 100) AS call, {call.replace('100000', '100000 + 0 * call')}", name)
    conn.execute("RESET statement_timeout")
    assert conn.one("SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'hart context'") == 0
    assert not conn.warnings


def refused_by_timeout(conn, statement, *args):
    with pytest.raises(psycopg.errors.QueryCanceled):
        conn.execute(statement, args)


def test_constraints(db, conn):
    """A constraint holds in every call, sampled too; several continuations do not disturb one another."""
    name = db.model("llama_f32")
    for seed in range(5):
        text = answers(conn, "The", "40, %(m)s, temperature => 2, seed => %(s)s, regex => '[a-c]{2,4}-(on|off)'", m=name, s=seed)
        assert conn.one("SELECT %s ~ '^[a-c]{2,4}-(on|off)$'", text)
    texts = conn.all("SELECT text, finish_reason FROM hart.generate_many('{The,a}', 40, %s, temperature => 3, seed => 1, n => 5, regex => '[a-c]{2,4}-(on|off)')", name)
    assert len(texts) == 10 and all(conn.one("SELECT %s ~ '^[a-c]{2,4}-(on|off)$'", text) and reason in ("stop", "eos") for text, reason in texts)
    assert len(set(texts)) > 3
    assert conn.one("SELECT hart.generate('The', model => %s, choices => ARRAY['yes', 'no'])", name) in ("yes", "no")


def test_the_example_of_the_documentation(db, conn):
    """docs/stream.py prints what generate answers."""
    name = db.model("llama_f32")
    script = pathlib.Path(__file__).resolve().parents[2] / "docs" / "stream.py"
    done = subprocess.run([sys.executable, script, db.dsn, "The cat", "15"], check=True, capture_output=True, text=True, env={**os.environ, "PGOPTIONS": f"-c hart.model={name}"})
    assert done.stdout == conn.one("SELECT hart.generate('The cat', 15, %s)", name) + "\n"
