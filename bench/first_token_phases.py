"""From a new connection to the first token, phase by phase.

    python3 bench/first_token_phases.py --database bench --rounds 5

asks the server that PGHOST, PGPORT and PGUSER name, in a database with one model (`make bench` leaves one in the cluster
"bench"). The whole way is measured in sessions of its own, that do nothing before. The phases are statements of another
session, one after the other, so each finds done what those before it did.
"""

import argparse
import os
import time
from statistics import median

from psql import Psql

PROMPT = "The capital of France is a city on the river Seine, and"
TOKENS = "ARRAY(SELECT (i * 7919 + 11) % vocab_size FROM hart.models, generate_series(1, 13) AS i)"
PHASES = {
    "connection (and the start of psql)": "SELECT 1",
    "loading of the library": "SELECT hart.library_version()",
    "first opening: every page is looked at": "SELECT hart.close_context(hart.open_context())",
    "opening again: pages known": "SELECT hart.close_context(hart.open_context())",
    "13 tokens, and the compilation of the layers": f"SELECT hart.forward(hart.open_context(), {TOKENS}, 0) IS NULL",
    "13 tokens again, opening included": f"SELECT hart.forward(hart.open_context(), {TOKENS}, 0) IS NULL",
    "first use of the tokenizer": f"SELECT cardinality(hart.tokenize('{PROMPT}'))",
    "hart.generate, and its compilation": f"SELECT hart.generate('{PROMPT}', 1)",
    "hart.generate again, of a prompt that is remembered": f"SELECT hart.generate('{PROMPT}', 1)",
}


def measure_first_token(open_session, rounds):
    """Milliseconds of each phase and of the whole way."""
    times = {name: [] for name in [*PHASES, "new connection to first token"]}
    for _ in range(rounds):
        started = time.perf_counter()
        with open_session() as session:
            for name, statement in PHASES.items():
                session.run(statement)
                now = time.perf_counter()
                times[name].append((now - started) * 1000)
                started = now
        started = time.perf_counter()
        with open_session() as session:
            session.run(PHASES["hart.generate, and its compilation"])
            times["new connection to first token"].append((time.perf_counter() - started) * 1000)
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", default="bench")
    parser.add_argument("--psql", default="psql", help="the program psql")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    times = measure_first_token(lambda: Psql(options.psql, dict(os.environ), options.database), options.rounds)
    print("| phase | median, ms | least, ms |\n|---|---|---|")
    for name, values in times.items():
        print(f"| {name} | {median(values):.1f} | {min(values):.1f} |")


if __name__ == "__main__":
    main()
