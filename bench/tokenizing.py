"""What tokenizing costs: the first text of a session, a later one, a large one; by the server and by the library."""

import pathlib
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
PROMPT = "'The quick brown fox jumps over the lazy dog, and then some more of it'"
WARM, ROUNDS = 2000, 5
FUNCTIONS = {"the server": "hart.tokenize", "the library": "hart.library_tokenize"}
SOURCES = ("docs/*.md", "src_c/*.c", "plpython/hartonomous_server/*.py")
LARGE = """
CREATE TEMP TABLE large AS SELECT left(repeat(t, 2000000 / length(t) + 1), 2000000) AS t
FROM (SELECT string_agg(pg_read_file(name), '') AS t FROM unnest(ARRAY[{names}]) AS name) AS q;
"""


def milliseconds(session, expression):
    start = time.perf_counter()
    session.value(expression)
    return 1e3 * (time.perf_counter() - start)


def measure_tokenizing(samples, engine):
    """Milliseconds of each, by the client's clock."""
    names = ", ".join(f"'{path}'" for source in SOURCES for path in sorted(TOP.glob(source)))
    for who, function in FUNCTIONS.items():
        one = f"{function}({PROMPT})"
        for _ in range(ROUNDS):
            with engine.new_session() as session:
                samples.add("call", engine.name, [milliseconds(session, one)], call=f"tokens of the first text of a session, by {who}")
        with engine.new_session() as session:
            session.run(LARGE.format(names=names))
            session.value(one)
            later = milliseconds(session, f"(SELECT count({function}({PROMPT} || left(i::text, 0))) FROM generate_series(1, {WARM}) AS i)")
            samples.add("call", engine.name, [later / WARM], call=f"tokens of a later text of 15 words, by {who}")
            large = milliseconds(session, f"(SELECT cardinality({function}(t)) FROM large)")
            samples.add("call", engine.name, [large], call=f"tokens of a text of 2 MB, by {who}")
