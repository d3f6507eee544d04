"""Beam search, equal to transformers' (goldens/search.json): the same ids, scores within the tolerance of the activations."""
import contextlib
import json
import pathlib

import pytest

import models
from answers import GOLDENS as TINY
from answers import generate_ids

BEAMS = json.loads((pathlib.Path(__file__).parent / "goldens" / "search.json").read_text())["beams"]
CASES = [pytest.param(name, case, id="-".join(map(str, (name, *case["options"])))) for name in BEAMS for case in BEAMS[name]]


@contextlib.contextmanager
def ending(session, model, eos):
    """While it lasts, these tokens end a text of the model."""
    with session.transaction(force_rollback=True):
        session.execute("UPDATE hart.model_registry SET eos_token_ids = %s WHERE name = %s", [eos, model])
        yield


def searched(session, model, ids, options):
    beams, count, penalty, returned, early = options
    return session.all("SELECT rank, tokens, score FROM hart.beam_search_tokens(%s::int[], %s, %s, %s, %s, %s, %s)",
                       ids, count, beams, penalty, returned, str(early).lower(), model)


@pytest.mark.parametrize("name, case", CASES)
def test_equal_to_transformers(db, conn, tolerance, name, case):
    ids = models.prompt_ids(models.BY_NAME[name], case["length"])
    with ending(conn, db.model(name), case["eos"]):
        rows = searched(conn, name, ids, case["options"])
    assert [tokens for _, tokens, _ in rows] == [tokens for tokens, _ in case["found"]]
    for number, ((rank, _, score), (_, expected)) in enumerate(zip(rows, case["found"]), 1):
        assert rank == number and score == pytest.approx(expected, abs=tolerance, rel=tolerance / 10)


def test_goldens_say_something():
    """Some searches end early, with texts of different lengths, and the ways of ending differ."""
    lengths = [{len(tokens) for tokens, _ in case["found"]} for name in BEAMS for case in BEAMS[name]]
    assert sum(len(n) > 1 for n in lengths) > 10
    assert any(max(n) < case["options"][1] for n, (name, case) in zip(lengths, [(n, c) for n in BEAMS for c in BEAMS[n]]))


def test_one_beam_is_greedy(db, conn):
    name = db.model("llama_f32")
    ids = models.prompt_ids(models.BY_NAME[name], 17)
    ((_, tokens, _),) = searched(conn, name, ids, (1, 12, 1.0, 1, False))
    assert tokens == generate_ids(conn, name, ids, 12)


def test_text(db, conn):
    """The text of a search, the first and with all arguments by position; early_stopping with and without quotes."""
    name, text = db.model("llama_f32"), TINY["llama_f32"]["text"]
    rows = conn.all("SELECT * FROM hart.beam_search(%s, 8, 3, num_return_sequences => 3, model => %s)", text["prompt"], name)
    assert [row[0] for row in rows] == [1, 2, 3] and rows[0][2] >= rows[1][2] >= rows[2][2]
    assert [row[3] for row in rows] == [tokens for _, tokens, _ in searched(conn, name, text["ids"], (3, 8, 1.0, 3, False))]
    for _, said, _, tokens in rows:
        assert said == conn.one("SELECT hart.detokenize_continuation(%s::int[], %s::int[], %s)", text["ids"], tokens, name)
    for early in ("false", "'false'", "'never'", "true", "'true'"):
        assert len(conn.all(f"SELECT * FROM hart.beam_search(%s, 8, 3, 1, 2, {early}, %s)", text["prompt"], name)) == 2
        assert len(conn.all(f"SELECT * FROM hart.beam_search(%s, 8, 3, early_stopping => {early}, model => %s)", text["prompt"], name)) == 1


def test_where_the_context_is_full(db, conn):
    name = db.model("llama_f32")
    ids = models.prompt_ids(models.BY_NAME[name], 507)
    with ending(conn, name, []):
        rows = searched(conn, name, ids, (3, 100, 1.0, 3, False))
        assert [len(tokens) for _, tokens, _ in rows] == [6, 6, 6]
        full = models.prompt_ids(models.BY_NAME[name], 512)
        assert [len(tokens) for _, tokens, _ in searched(conn, name, full, (2, 100, 1.0, 2, True))] == [1, 1]


def test_read_only_and_in_a_query(db):
    with db.connect() as session:
        session.execute("SET default_transaction_read_only = on")
        rows = session.all("SELECT p, b.text FROM (VALUES ('the'), ('in the')) AS t (p), hart.beam_search(p, 4, 2, model => %s) AS b", db.model("llama_f32"))
        assert len(rows) == 2


@pytest.mark.parametrize("arguments, sqlstate", [
    ("num_beams => 0", "22023"), ("num_beams => -1", "22023"), ("num_beams => NULL", "22023"), ("max_tokens => 0", "22023"), ("max_tokens => NULL", "22023"),
    ("num_return_sequences => 5", "22023"), ("num_return_sequences => 0", "22023"), ("num_return_sequences => NULL", "22023"),
    ("length_penalty => 'NaN'", "22023"), ("length_penalty => 'Infinity'", "22023"), ("length_penalty => NULL", "22023"), ("length_penalty => 100", "22023"),
    ("early_stopping => NULL", "22023"), ("num_beams => 100", "54000"), ("num_beams => 2147483647", "54000")])
def test_bad_options(db, conn, refused, arguments, sqlstate):
    refused(conn, sqlstate, f"SELECT * FROM hart.beam_search('the end', model => '{db.model('llama_f32')}', {arguments})")


def test_bad_prompts(db, conn, refused):
    model = db.model("qwen2_tied")
    for prompt, sqlstate in (("NULL", "22004"), ("''", "22023"), ("repeat('x', 600)", "54000")):
        refused(conn, sqlstate, f"SELECT * FROM hart.beam_search({prompt}, model => %s)", model)
    refused(conn, "42704", "SELECT * FROM hart.beam_search('x', model => 'nobody')")
