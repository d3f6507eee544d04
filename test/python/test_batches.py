"""Several prompts in one context: prefilled one by one or all mixed, decoded together, as the goldens say of each alone."""
import random

import numpy as np
import pytest

import models
from answers import GOLDENS, assert_logits

RUN_TOGETHER = """
    CREATE FUNCTION pg_temp.together(model text, prompts jsonb, steps int, OUT logits jsonb, OUT ids jsonb) LANGUAGE plpgsql AS $$
    DECLARE
        ctx hart.context := hart.open_context(model);
        n int := jsonb_array_length(prompts);
        tokens int[];
        next int[] := '{}';
        positions int[] := '{}';
        scores hart.matrix;
    BEGIN
        logits := '[]';
        FOR i IN 0 .. n - 1 LOOP
            tokens := ARRAY(SELECT jsonb_array_elements_text(prompts -> i)::int);
            scores := hart.forward(ctx, tokens, 0, i);
            logits := logits || jsonb_build_array(to_jsonb(hart.matrix_row(scores, 1)));
            next := next || hart.argmax(scores);
            positions := positions || cardinality(tokens);
        END LOOP;
        ids := jsonb_build_array(to_jsonb(next));
        FOR step IN 2 .. steps LOOP
            scores := hart.forward_batch(ctx, next, ARRAY(SELECT generate_series(0, n - 1)), positions);
            next := ARRAY(SELECT hart.argmax(hart.matrix_row(scores, i)::hart.matrix) FROM generate_series(1, n) AS i ORDER BY i);
            positions := ARRAY(SELECT p + 1 FROM unnest(positions) WITH ORDINALITY AS u (p, i) ORDER BY i);
            ids := ids || jsonb_build_array(to_jsonb(next));
        END LOOP;
        PERFORM hart.close_context(ctx);
    END $$"""


def cases_of(name):
    """The goldens of a model whose context has room for them, with their prompts."""
    cases = [case for case in GOLDENS[name]["cases"] if case["greedy"]]
    return cases, [models.prompt_ids(models.BY_NAME[name], case["length"]) for case in cases]


@pytest.mark.parametrize("name", GOLDENS)
def test_prompts_of_different_lengths_together(db, conn, name):
    cases, prompts = cases_of(name)
    steps = min(len(case["greedy"]) for case in cases)
    conn.execute(RUN_TOGETHER)
    logits, ids = conn.execute(
        "SELECT logits, ids FROM pg_temp.together(%s, %s::text::jsonb, %s)", [db.model(name), str(prompts), steps]
    ).fetchone()
    for number, case in enumerate(cases):
        assert_logits(logits[number], case)
        assert [step[number] for step in ids] == case["greedy"][:steps]


@pytest.mark.parametrize("name", ["llama_f32", "qwen3_mixed"])
def test_rows_of_all_prompts_mixed(db, conn, name):
    """A prompt's rows need not be neighbours: any order that keeps each prompt's own will do."""
    cases, prompts = cases_of(name)
    rows, order = [], random.Random(5)
    waiting = [list(enumerate(prompt)) for prompt in prompts]
    while any(waiting):
        number = order.choice([i for i, left in enumerate(waiting) if left])
        position, token = waiting[number].pop(0)
        rows.append((token, number, position))
    tokens, sequences, positions = (list(column) for column in zip(*rows, strict=True))
    scores = conn.one(
        """WITH ctx AS MATERIALIZED (SELECT hart.open_context(%s) AS ctx)
           SELECT hart.forward_batch(ctx, %s::int[], %s::int[], %s::int[])::real[] FROM ctx""",
        db.model(name), tokens, sequences, positions)
    for number, case in enumerate(cases):
        assert_logits(np.array(scores, np.float32)[rows.index((prompts[number][-1], number, len(prompts[number]) - 1))], case)


RUN_REMEMBERING = """
    CREATE FUNCTION pg_temp.remembering(tokens int[], model text, OUT restored int, OUT logits real[]) LANGUAGE plpgsql AS $$
    DECLARE
        ctx hart.context := hart.open_context(model);
    BEGIN
        restored := hart.restore_prefix(ctx, tokens);
        logits := hart.matrix_row(hart.forward(ctx, tokens[restored + 1:], restored), 1);
        PERFORM hart.keep_prefix(ctx, tokens);
        PERFORM hart.close_context(ctx);
    END $$"""


def test_prompts_are_remembered_until_the_weights_change(db, conn):
    """The store outlives transactions, failed ones too, and never serves another version of the weights."""
    name = db.model("qwen2_untied")
    ids = models.prompt_ids(models.BY_NAME[name], 40)
    conn.execute(RUN_REMEMBERING)

    def run():
        return conn.execute("SELECT restored, logits FROM pg_temp.remembering(%s::int[], %s)", [ids, name]).fetchone()

    restored, first = run()
    assert restored == 0
    with pytest.raises(Exception, match="division by zero"):
        conn.execute("SELECT (pg_temp.remembering(%s::int[], %s)).restored / 0", [ids[:5] + ids[6:30], name])
    assert run() == (39, first)
    assert conn.execute("SELECT restored FROM pg_temp.remembering(%s::int[], %s)", [ids[:5] + ids[6:30], name]).fetchone() == (28,)

    tiles = conn.one("SELECT tiles::text FROM hart.models WHERE name = %s", name)
    with db.connect() as other:
        other.execute(f"UPDATE {tiles} SET payload = payload WHERE tensor_id = 1 AND tile_no = 0")
    assert run() == (0, first)
    assert run() == (39, first)
