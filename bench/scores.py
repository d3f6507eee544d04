"""What scoring, choices and beam search cost, beside generating the same number of tokens."""

from names import table_of_names

LOGITS = """
CREATE TEMP TABLE logits AS
SELECT array_agg(line)::real[]::hart.matrix AS m, array_agg(0::float8) AS zeros, array_agg(7) AS targets
FROM (SELECT array_agg(random() * 10) AS line FROM hart.models AS v, generate_series(1, vocab_size)
      WHERE v.name = current_setting('hart.model')) AS l, generate_series(1, 32);
"""
TOKENS, NEW, BEAMS, NAMES = 512, 32, 4, 100_000
STATEMENTS = {
    f"score {TOKENS} tokens": f"SELECT count(*) FROM hart.score_tokens(pg_temp.some_tokens({TOKENS}))",
    f"{NEW} tokens by {BEAMS} beams": f"SELECT hart.beam_search_tokens(pg_temp.some_tokens(8), {NEW}, {BEAMS})",
    f"{NEW} tokens, greedy": f"SELECT hart.generate_tokens(pg_temp.some_tokens(8), {NEW})",
    f"the likeliest of {NAMES:,} names, a later question": "SELECT hart.choose(pg_temp.some_tokens(8), names) FROM names",
    "hart.score_rows, 32 rows": "SELECT count(*) FROM logits, hart.score_rows(m, targets)",
    f"hart.top_continuations, 32 rows, {2 * BEAMS} best": f"SELECT count(*) FROM logits, hart.top_continuations(m, zeros, {2 * BEAMS})",
}


def measure_scores(samples, engine, rounds=3):
    """Milliseconds of each statement, in turn; the first round only warms up."""
    with engine.new_session() as session:
        session.run(LOGITS + table_of_names(NAMES))
        for number in range(rounds + 1):
            for name, statement in STATEMENTS.items():
                taken = session.value(f"pg_temp.timed('{statement}')")
                if number:
                    samples.add("call", engine.name, [taken], call=name)
