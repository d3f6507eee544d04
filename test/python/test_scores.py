"""Scores of texts, next tokens and embeddings, equal to what transformers computes in float32 (goldens/search.json)."""
import json
import pathlib

import numpy as np
import pytest

import models
from answers import GOLDENS as TINY

GOLDENS = json.loads((pathlib.Path(__file__).parent / "goldens" / "search.json").read_text())
NAMES = list(GOLDENS["scores"])


def assert_scores(rows, expected, tolerance):
    """Rows (…, logprob, rank, entropy), the first without a score; the tolerance is that of log-probabilities and entropies."""
    assert rows[0][-3:] == (None, None, None)
    assert len(rows) == len(expected) + 1
    for (*_, logprob, rank, entropy), (p, r, e) in zip(rows[1:], expected):
        assert logprob == pytest.approx(p, abs=tolerance, rel=tolerance / 10) and entropy == pytest.approx(e, abs=tolerance)
        assert r is None or rank == r


@pytest.mark.parametrize("name", NAMES)
def test_tokens(db, conn, tolerance, name):
    ids = models.prompt_ids(models.BY_NAME[name], 130)
    rows = conn.all("SELECT * FROM hart.score_tokens(%s::int[], %s)", ids, db.model(name))
    assert [row[:2] for row in rows] == list(enumerate(ids))
    assert_scores(rows, GOLDENS["scores"][name]["130"], tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_text(db, conn, tolerance, name):
    text, golden, model = TINY[name]["text"], GOLDENS["scores"][name]["text"], db.model(name)
    rows = conn.all("SELECT * FROM hart.score(%s, %s)", text["prompt"], model)
    assert [row[1] for row in rows] == text["ids"]
    begins = models.BY_NAME[name].bos
    assert "".join(row[2] for row in rows) == ("<s>" if begins else "") + text["prompt"]
    assert_scores(rows, golden["scores"], tolerance)
    assert conn.one("SELECT hart.perplexity(%s, %s)", text["prompt"], model) == pytest.approx(golden["perplexity"], rel=tolerance)
    best = conn.all("SELECT * FROM hart.next_token(%s, 5, %s)", text["prompt"], model)
    assert [row[0] for row in best] == [i for i, _ in golden["next"]]
    for (_, _, probability, logprob), (_, p) in zip(best, golden["next"]):
        assert logprob == pytest.approx(p, abs=tolerance) and probability == pytest.approx(np.exp(p), abs=tolerance)
    for pooling in ("mean", "last"):
        got = conn.one("SELECT hart.embed(%s, %s, %s)", text["prompt"], model, pooling)
        np.testing.assert_allclose(got, golden[pooling], atol=tolerance)
        assert np.linalg.norm(got) == pytest.approx(1, abs=1e-6)


def test_windows(db, conn, tolerance):
    """A text longer than the context, in windows that overlap by half."""
    golden = GOLDENS["windows"]
    ids = models.prompt_ids(models.BY_NAME[golden["model"]], golden["tokens"])
    rows = conn.all("SELECT logprob, rank, entropy FROM hart.score_tokens(%s::int[], %s)", ids, db.model(golden["model"]))
    assert len(rows) == golden["tokens"]
    assert_scores([(None, None, None), *rows[1::40]], golden["some"], tolerance)
    assert np.mean([row[0] for row in rows[1:]]) == pytest.approx(golden["mean"], abs=tolerance)


def test_blocks_and_threads_change_nothing(db, conn):
    """Long enough for several blocks of rows; the number of threads changes no bit."""
    ids = models.prompt_ids(models.BY_NAME["llama_f32"], 300)
    answers = []
    for threads in (1, 2, 3):
        conn.execute(f"SET hart.threads = {threads}")
        answers.append(conn.all("SELECT * FROM hart.score_tokens(%s::int[], %s)", ids, db.model("llama_f32")))
    assert answers[0] == answers[1] == answers[2]
    short = conn.all("SELECT * FROM hart.score_tokens(%s::int[], %s)", ids[:200], db.model("llama_f32"))
    for long, row in zip(answers[0][1:], short[1:]):
        assert row[2] == pytest.approx(long[2], abs=1e-4)


def test_what_has_no_score(db, conn):
    plain, begun = db.model("qwen2_tied"), db.model("llama_f32")
    assert conn.all("SELECT * FROM hart.score('', %s)", plain) == [] and conn.all("SELECT * FROM hart.score(NULL, %s)", plain) == []
    assert conn.all("SELECT position, token, logprob FROM hart.score('a', %s)", plain) == [(0, "a", None)]
    assert [row[:2] for row in conn.all("SELECT position, token, logprob FROM hart.score('a', %s)", begun)] == [(0, "<s>"), (1, "a")]
    for text in (None, "", "a"):
        assert conn.one("SELECT hart.perplexity(%s, %s)", text, plain) is None
    assert conn.one("SELECT hart.perplexity('a', %s)", begun) > 1
    assert conn.one("SELECT hart.embed('', %s)", plain) is None and conn.one("SELECT hart.embed(NULL, %s)", plain) is None
    assert len(conn.one("SELECT hart.embed('a', %s)", plain)) == models.BY_NAME[plain].dim


def test_over_a_table(db, conn):
    """In a query, a prepared statement, a transaction that only reads; vectors that PostgreSQL can compare."""
    model = db.model("llama_f32")
    rows = conn.all("""SELECT body, hart.perplexity(body, %s) FROM (VALUES ('the end'), ('in the end'), (NULL)) AS t (body)""", model)
    assert rows[2] == (None, None) and all(p > 1 for _, p in rows[:2])
    assert conn.one("SELECT hart.cosine(hart.embed('the end', %s), hart.embed('the end', %s))", model, model) == pytest.approx(1)
    with db.connect() as session:
        session.execute("SET default_transaction_read_only = on")
        assert session.one("SELECT count(*) FROM hart.score('the end', %s), hart.next_token('the', 3, %s)", model, model) > 3
        assert session.one("SELECT hart.norm(hart.embed('the end', %s))", model) == pytest.approx(1)


def test_pgvector(db, conn):
    if not conn.one("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'"):
        pytest.skip("pgvector is not installed")
    with conn.transaction(force_rollback=True):
        conn.execute("CREATE EXTENSION vector SCHEMA public")
        assert conn.one("SELECT public.vector_dims(hart.embed('the end', %s)::public.vector)", db.model("llama_f32")) == 64


@pytest.mark.parametrize("call, sqlstate", [
    ("hart.next_token('x', 0, {m})", "22023"), ("hart.next_token('x', -3, {m})", "22023"), ("hart.next_token('x', NULL, {m})", "22004"),
    ("hart.next_token(NULL::text, 3, {m})", "22004"), ("hart.next_token('', 3, {m})", "22023"), ("hart.next_token(repeat('x', 600), 3, {m})", "54000"),
    ("hart.embed('x', {m}, 'max')", "22023"), ("hart.embed('x', {m}, NULL)", "22023"), ("hart.embed(repeat('x', 600), {m})", "54000"),
    ("hart.score_tokens('{{1,-1}}', {m})", "22023"), ("hart.score_tokens('{{1,500}}', {m})", "22023"), ("hart.score_tokens('{{1,NULL}}', {m})", "22004"),
    ("hart.score_tokens('{{-1}}', {m})", "22023"), ("hart.score_tokens('{{500}}', {m})", "22023"), ("hart.score_tokens('{{NULL}}', {m})", "22004"),
    ("hart.score_tokens('{{{{1,2}},{{3,4}}}}', {m})", "22023"), ("hart.score('x', 'nobody')", "42704"), ("hart.perplexity('x', 'nobody')", "42704"),
    ("hart.score_rows('[[1,2]]', '{{2}}')", "22023"), ("hart.score_rows('[[1,2]]', '{{0,1}}')", "22000"), ("hart.score_rows('[[1,2]]', '{{-1}}')", "22023"),
    ("hart.top_continuations('[[1,2]]', '{{0}}', 0)", "22023"), ("hart.top_continuations('[[1,2]]', '{{0,1}}', 1)", "22000"),
    ("hart.top_continuations('[[1,2]]', '{{NULL}}', 1)", "22000")])
def test_bad_arguments(db, conn, refused, call, sqlstate):
    refused(conn, sqlstate, f"SELECT * FROM {call.format(m=repr(db.model('qwen2_tied')))}")


def test_privileges(db, conn, refused):
    model = db.model("qwen2_tied")
    conn.execute("DROP ROLE IF EXISTS score_reader; CREATE ROLE score_reader; GRANT USAGE ON SCHEMA hart TO score_reader; SET ROLE score_reader")
    try:
        for call in ("hart.score('x', %s)", "hart.perplexity('x', %s)", "hart.next_token('x', 3, %s)", "hart.embed('x', %s)", "hart.beam_search('x', 3, model => %s)",
                     "hart.token_texts('{3}', %s)"):
            refused(conn, "42501", f"SELECT * FROM {call}", model)
    finally:
        conn.execute("RESET ROLE; DROP OWNED BY score_reader; DROP ROLE score_reader")
