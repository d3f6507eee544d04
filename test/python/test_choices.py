"""choose and choice_scores against every choice scored by itself, and constraints as SQL sees them."""
import itertools
import math
import random

import numpy as np
import pytest
import tokenizers
from psycopg import Error

import models

TOLERANCE = 1e-4        # of a log-probability, for each token of the choice


class Reference:
    """Scores of choices by one full run of the model for each beginning of a choice."""

    def __init__(self, session, model, prompt):
        self.session, self.model, self.prompt, self.known = session, model, list(prompt), {}

    def following(self, tokens):
        """Log-probabilities of the token after the prompt and these."""
        if tokens not in self.known:
            x = np.array(self.session.one("SELECT hart.logits(%s::int[], %s)", self.prompt + list(tokens), self.model), np.float64)
            self.known[tokens] = x - x.max() - math.log(np.exp(x - x.max()).sum())
        return self.known[tokens]

    def scores(self, sequences):
        """{tokens: log-probability}; a choice that others begin with ends by not going on as they do."""
        scores, sequences = {}, set(sequences)
        for tokens in sequences:
            score = sum(self.following(tokens[:i])[token] for i, token in enumerate(tokens))
            longer = {other[len(tokens)] for other in sequences if len(other) > len(tokens) and other[:len(tokens)] == tokens}
            if longer:
                score += math.log(sum(math.exp(p) for token, p in enumerate(self.following(tokens)) if token not in longer))
            scores[tokens] = score
        return scores


@pytest.fixture(scope="module", params=["llama_f32", "qwen2_tied", "qwen3_mixed"])
def model(request, db):
    return db.model(request.param)


@pytest.fixture
def ids(folders, model):
    """text → its tokens as the continuation of another."""
    tokenizer = tokenizers.Tokenizer.from_file(str(folders(model) / "tokenizer.json"))
    return lambda text: tuple(tokenizer.encode(text, add_special_tokens=False).ids)


def texts(seed, count, longest):
    rng = random.Random(seed)
    return ["".join(rng.choices(["the", "in", "a", " b", "st", "q", ", ", "on"], k=rng.randint(1, longest))) for _ in range(count)]


@pytest.mark.parametrize("count, longest", [(1, 1), (2, 9), (7, 1), (40, 3), (60, 2), (12, 30)])
def test_against_all_scored(conn, model, ids, count, longest):
    choices = texts(count * longest, count, longest)
    prompt = "What is it? "
    tokens = conn.one("SELECT hart.tokenize(%s, %s)", prompt, model)
    expected = Reference(conn, model, tokens).scores(map(ids, choices))
    rows = conn.all("SELECT choice, logprob, probability FROM hart.choice_scores(%s, %s, %s)", prompt, choices, model)
    assert sorted(ids(choice) for choice, _, _ in rows) == sorted(expected)
    for choice, logprob, _ in rows:
        assert abs(logprob - expected[ids(choice)]) <= TOLERANCE * len(ids(choice)), choice
    assert [row[1] for row in rows] == sorted((row[1] for row in rows), reverse=True)
    total = sum(math.exp(p) for p in expected.values())
    assert all(abs(probability - math.exp(expected[ids(choice)]) / total) < 1e-3 for choice, _, probability in rows)
    chosen = conn.one("SELECT hart.choose(%s::int[], %s, %s)", tokens, choices, model)
    assert expected[ids(chosen)] >= max(expected.values()) - TOLERANCE * longest


def test_more_nodes_than_are_kept(conn, db):
    """Every text of three letters of twelve: most of the tree has to be run, far more of it than keys and values are kept for."""
    model = db.model("llama_odd")
    choices = ["".join(letters) for letters in itertools.product("abcdefghijkl", repeat=3)]
    rows = conn.all("SELECT choice, logprob FROM hart.choice_scores('x', %s, %s)", choices, model)
    best = conn.one("SELECT hart.choose(hart.tokenize('x', %s), %s, %s)", model, choices, model)
    assert len(rows) == len(choices) and abs(dict(rows)[best] - rows[0][1]) < TOLERANCE
    for choice, logprob in rows[::400]:
        tokens = conn.one("SELECT hart.tokenize('x', %s)", model)
        new = [conn.one("SELECT hart.tokenize(%s, %s)", c, model)[-1] for c in choice]
        reference = Reference(conn, model, tokens)
        assert abs(sum(reference.following(tuple(new[:i]))[token] for i, token in enumerate(new)) - logprob) < 3 * TOLERANCE


def test_little_is_run_again(conn, db):
    """What was run for one choice serves those that begin like it, also where more of the tree is open than is kept."""
    model = db.model("llama_odd")
    choices = ["".join(letters) for letters in itertools.product("abcdefghijkl", repeat=4)]
    conn.execute("""CREATE FUNCTION pg_temp.run(choices text[], model text) RETURNS integer LANGUAGE plpgsql AS $$
        DECLARE
            ctx hart.context := hart.open_context(model);
            prompt integer[] := hart.tokenize('x', model);
            search integer := hart.open_choices(prompt, choices, model, hart.max_positions(ctx), true);
            logits hart.matrix := hart.prefill(ctx, prompt);
            step record;
            n integer := 0;
        BEGIN
            LOOP
                SELECT * INTO step FROM hart.next_choices(search, logits);
                EXIT WHEN step.tokens IS NULL;
                n := n + cardinality(step.tokens);
                PERFORM hart.fork_sequence(ctx, old, new, shared) FROM unnest(step.from_sequences, step.to_sequences, step.shared) AS fork(old, new, shared);
                logits := hart.forward_batch(ctx, step.tokens, step.sequences, step.positions);
            END LOOP;
            PERFORM hart.close_context(ctx);
            RETURN n;
        END $$""")
    nodes = 12 + 12 ** 2 + 12 ** 3
    assert nodes <= conn.one("SELECT pg_temp.run(%s, %s)", choices, model) < 1.8 * nodes


def test_one_distribution(conn, model):
    """The letters of the alphabet and what begins with them: no more than everything together."""
    choices = [a + b for a in "abc" for b in ["", *"xyz"]]
    total = sum(math.exp(row[0]) for row in conn.all("SELECT logprob FROM hart.choice_scores('The ', %s, %s)", choices, model))
    letters = sum(math.exp(row[0]) for row in conn.all("SELECT logprob FROM hart.choice_scores('The ', %s, %s)", list("abc"), model))
    assert abs(total - letters) < 1e-5


def test_duplicates_and_ties(conn, model):
    choices = ["in", "on", "in", "on", "a"]
    rows = conn.all("SELECT choice FROM hart.choice_scores('x', %s, %s)", choices, model)
    assert sorted(rows) == [("a",), ("in",), ("on",)]


def test_choices_from_a_query(conn, model):
    with conn.transaction():
        conn.execute("CREATE TEMP TABLE customer AS SELECT i AS id, 'customer ' || i AS name FROM generate_series(1, 20000) AS i")
        conn.execute("SET TRANSACTION READ ONLY")
        chosen = conn.one("SELECT hart.choose(hart.tokenize('It is ', %s), ARRAY(SELECT name FROM customer ORDER BY id), %s)", model, model)
    assert chosen.startswith("customer ")
    again = conn.one("SELECT hart.choose(hart.tokenize('It is ', %s), ARRAY(SELECT name FROM customer ORDER BY id), %s)", model, model)
    conn.execute("DROP TABLE customer")
    assert again == chosen


@pytest.mark.parametrize("bound, certain", [(1, False), (7, False), (300, False), (100_000, True), (0, True)])
def test_bound(db, bound, certain):
    """Beyond the bound a search settles for a likely choice, and says so once. Of random words none stands out."""
    rng = random.Random(3)
    choices = ["".join(rng.choices("abcdefghijkl", k=8)) for _ in range(1500)]
    with db.connect() as session:
        model = db.model("llama_odd")
        scores = dict(session.all("SELECT choice, logprob FROM hart.choice_scores('x', %s, %s)", choices, model))
        session.execute(f"SET hart.choice_tokens = {bound}")
        session.said.clear()
        with session.transaction():
            session.execute("SET TRANSACTION READ ONLY")
            chosen = session.one("SELECT hart.choose(hart.tokenize('x', %s), %s, %s)", model, choices, model)
        notice = ("NOTICE", f"the likeliest of 1500 choices is not certain after {bound} tokens", "Set hart.choice_tokens higher, or to 0 for a certain answer.")
        assert session.said == ([] if certain else [notice])
        likelier = sum(score > scores[chosen] + TOLERANCE for score in scores.values())
        assert likelier == 0 if certain else likelier < 30, "of choices that are about equally likely"


def test_the_beam_may_be_certain(db):
    """Where a beam leaves out nothing that could be likelier, nothing is said."""
    with db.connect() as session:
        session.execute("SET hart.choice_tokens = 1")
        model = db.model("llama_odd")
        session.one("SELECT hart.choose(hart.tokenize('x', %s), '{ab,ac,b,cde}', %s)", model, model)
        assert session.said == []


def test_little_memory(conn, db):
    """With memory for the keys and values of few nodes the answer is the same."""
    model = db.model("llama_odd")
    choices = ["".join(letters) for letters in itertools.product("abcdefghijkl", repeat=3)]
    call = "SELECT hart.choose(hart.tokenize('x', %s), %s, %s)", model, choices, model
    before = conn.one(*call)
    try:
        conn.execute("SET hart.prefix_cache = 0; SET hart.kv_cache_limit = '1MB'")
        assert conn.one(*call) == before
    finally:
        conn.execute("RESET hart.prefix_cache; RESET hart.kv_cache_limit")


@pytest.mark.parametrize("choices, sqlstate", [
    (None, "22004"), ([], "22023"), (["a", None], "22004"), (["a", ""], "22023"), ([["a"], ["b"]], "22023"),
    (["a", "é"], "22023"), (["a" * 600], "54000")])
def test_refused(conn, model, choices, sqlstate):
    for call in ("hart.choose(hart.tokenize('x', %(m)s), %(c)s::text[], %(m)s)", "hart.choice_scores('x', %(c)s::text[], %(m)s)"):
        with pytest.raises(Error) as refused:
            conn.execute("SELECT " + call, {"m": model, "c": choices})
        assert refused.value.sqlstate == sqlstate and refused.value.diag.message_hint


def test_searches_are_forgotten(conn, model):
    """One that a timeout ended is gone with the next transaction that searches."""
    conn.execute("SELECT hart.open_choices('{5}', ARRAY['a', 'b'], %s, 100, true)", [model])
    assert conn.one("SELECT hart.choose('{5}', ARRAY['a'], %s)", model) == "a"
    with pytest.raises(Error) as refused:
        conn.execute("SELECT * FROM hart.found_choices(1)")
    assert refused.value.sqlstate == "22023"


def test_stories_begin_with_a_space(db, conn, data):
    """SentencePiece: the first word of a text has a space before it that no text shows; a continuation has none."""
    conn.execute("CALL hart.ingest_model(%s, 'stories_of_choices')", [str(data / "stories260K")])
    try:
        best = "SELECT choice FROM hart.choice_scores(%s, ARRAY[' time', 'time', ' girl'], 'stories_of_choices') LIMIT 1"
        assert conn.one(best, "Once upon a") == " time"
        scores = dict(conn.all("SELECT choice, logprob FROM hart.choice_scores('', ARRAY['Once', 'The'], 'stories_of_choices')"))
        logits = np.array(conn.one("SELECT hart.logits(hart.tokenize('', 'stories_of_choices'), 'stories_of_choices')"), np.float64)
        once = conn.one("SELECT hart.tokenize('Once', 'stories_of_choices')")[1:]
        if len(once) == 1:
            assert abs(scores["Once"] - (logits[once[0]] - np.log(np.exp(logits - logits.max()).sum()) - logits.max())) < TOLERANCE
        assert scores["Once"] > scores["The"]
    finally:
        conn.execute("CALL hart.drop_model('stories_of_choices')")


def test_masks_in_a_loop(conn, db):
    """Greedy generation under a constraint, in SQL alone."""
    model = db.model("llama_f32")
    conn.execute("""CREATE FUNCTION pg_temp.constrained(regex text, model text) RETURNS text LANGUAGE plpgsql AS $$
        DECLARE
            handle integer := hart.open_constraint(model, regex);
            prompt integer[] := hart.tokenize('x', model);
            new integer[] := '{}';
            step record;
            best integer;
        BEGIN
            FOR i IN 1 .. 40 LOOP
                SELECT * INTO step FROM hart.constraint_mask(handle, new);
                EXIT WHEN step.finished;
                SELECT token - 1 INTO best FROM unnest(hart.logits(prompt || new, model)) WITH ORDINALITY AS l(logit, token)
                WHERE get_bit(step.mask, token::int - 1) = 1 ORDER BY logit DESC LIMIT 1;
                EXIT WHEN best = 2;
                new := new || best;
            END LOOP;
            PERFORM hart.close_constraint(handle);
            RETURN hart.detokenize_continuation(prompt, new, model);
        END $$""")
    text = conn.one("SELECT pg_temp.constrained('(yes|no|maybe), [0-9]{2}%%', %s)", model)
    assert text.split(", ")[0] in ("yes", "no", "maybe") and len(text.split(", ")[1]) == 3
    assert models.BY_NAME[model].vocab == len(conn.one("SELECT hart.logits('{5}', %s)", model))
