"""What tokenizing costs: the first text of a session, a later one, a large one; by the server and by the library."""

import pathlib
import time
from statistics import median

TOP = pathlib.Path(__file__).resolve().parent.parent
PROMPT = "'The quick brown fox jumps over the lazy dog, and then some more of it'"
WARM = 2000
FUNCTIONS = {"the server": "hart.tokenize", "the library": "hart.library_tokenize"}
SOURCES = ("docs/*.md", "src_c/*.c", "plpython/hartonomous_server/*.py")
LARGE = f"""
CREATE TEMP TABLE large AS SELECT repeat(t, 2000000 / length(t) + 1) AS t
FROM (SELECT string_agg(pg_read_file(name), '') AS t FROM unnest(ARRAY[{{names}}]) AS name) AS q;
"""


def measure_tokenizing(cluster, rounds=5):
    """Milliseconds, microseconds and MB a second of each function."""
    figures = {}
    names = ", ".join(f"'{path}'" for source in SOURCES for path in sorted(TOP.glob(source)))
    for name, function in FUNCTIONS.items():
        first = []
        for _ in range(rounds):
            with cluster.session() as session:
                session.value("1")
                start = time.perf_counter()
                session.value(f"{function}({PROMPT})")
                first.append(1e3 * (time.perf_counter() - start))
        with cluster.session(script=LARGE.format(names=names)) as session:
            session.value(f"{function}({PROMPT})")
            start = time.perf_counter()
            texts = f"SELECT {PROMPT} || left(i::text, 0) AS t FROM generate_series(1, {WARM}) AS i"
            session.value(f"(SELECT count({function}(t)) FROM ({texts}) AS q)")
            later = 1e6 * (time.perf_counter() - start) / WARM
            megabytes = session.value("(SELECT octet_length(t) FROM large)") / 1e6
            start = time.perf_counter()
            session.value(f"(SELECT cardinality({function}(t)) FROM large)")
            speed = megabytes / (time.perf_counter() - start)
        figures[name] = {"first": first, "later": later, "speed": speed}
    return figures


def tokenizing_rows(figures):
    for name, f in figures["tokenizing"].items():
        yield f"first text of a session, by {name}", f"{median(f['first']):.1f} ms", f"best {min(f['first']):.1f}"
        yield f"a later text, by {name}", f"{f['later']:.0f} µs", ""
        yield f"a text of 2 MB, by {name}", f"{f['speed']:.1f} MB/s", ""
