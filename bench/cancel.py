"""How long a session takes to stop when it is cancelled at random moments of each phase of its work.

    python3 bench/cancel.py --database bench --rounds 20

asks the server that PGHOST, PGPORT and PGUSER name, in a database with one model (`make bench` leaves one in the cluster
"bench"). The latency is that of the whole way: another session calls pg_cancel_backend, the first one stops, its client
sees the error. "control" is an empty loop of PL/pgSQL: what is above it is ours.
"""

import argparse
import os
import random
import subprocess
import time
from statistics import median

from psql import Psql

LONGEST_DELAY = 1.5
PREPARE = """
\\set ON_ERROR_STOP 0
SET client_min_messages = error;
CREATE FUNCTION pg_temp.some_tokens(n integer) RETURNS integer[] LANGUAGE sql STABLE
RETURN (SELECT array_agg((i * 7919 + 11) % vocab_size ORDER BY i) FROM generate_series(1, n) AS i, hart.models);
CREATE TEMP TABLE row_of_numbers AS SELECT array_agg(random() * 10)::real[] AS logits FROM hart.models, generate_series(1, vocab_size);
CREATE TEMP TABLE long_text AS SELECT string_agg(md5(i::text) || ' some words, ', '') AS text FROM generate_series(1, 22000) AS i;
CREATE TEMP TABLE head_input AS
SELECT (SELECT array_agg(line) FROM (SELECT array_agg(random()) AS line FROM generate_series(1, dim), generate_series(1, 64) AS i GROUP BY i) AS l)::real[]::hart.matrix AS x
FROM hart.model_registry;
CREATE FUNCTION pg_temp.open_again() RETURNS void LANGUAGE plpgsql AS $$
BEGIN FOR i IN 1 .. 100 LOOP PERFORM hart.close_context(hart.open_context()); END LOOP; END $$;
CREATE FUNCTION pg_temp.head(ctx hart.context) RETURNS void LANGUAGE plpgsql AS $$
BEGIN FOR i IN 1 .. 100 LOOP PERFORM hart.linear(ctx, 'lm_head', x) FROM head_input; END LOOP; END $$;
CREATE FUNCTION pg_temp.draw() RETURNS void LANGUAGE plpgsql AS $$
DECLARE m hart.matrix := ARRAY[logits]::hart.matrix FROM row_of_numbers; o hart.generation_options := hart.generation_options(temperature => 1, top_p => 0.9, top_k => 0);
BEGIN FOR i IN 1 .. 1000 LOOP PERFORM hart.sample(m, o, seed => i); END LOOP; END $$;
CREATE FUNCTION pg_temp.spin() RETURNS void LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1 .. 2000000000 LOOP END LOOP; END $$;
"""
PHASES = {
    "control: an empty loop": "SELECT pg_temp.spin()",
    "opening": "SELECT pg_temp.open_again()",
    "prefill of 512 rows": "SELECT hart.forward(hart.open_context(), pg_temp.some_tokens(512), 0) IS NULL",
    "prefill of 4,096 rows": "SELECT hart.forward(hart.open_context(), pg_temp.some_tokens(4096), 0) IS NULL",
    "decoding": "SELECT hart.generate_tokens(pg_temp.some_tokens(8), 500)",
    "lm_head of 64 rows": "SELECT pg_temp.head(hart.open_context())",
    "streaming (hart.pin_percent = 0)": "SET hart.pin_percent = 0; SELECT hart.generate_tokens(pg_temp.some_tokens(8), 500)",
    "sampling": "SELECT pg_temp.draw()",
    "tokenizing a megabyte": "SELECT cardinality(hart.tokenize(text)) FROM long_text",
    "beam search": "SELECT hart.beam_search_tokens(pg_temp.some_tokens(8), 100, 4)",
    "many prompts": "SELECT count(*) FROM hart.generate_many(array_fill('The'::text, ARRAY[16]), 100)",
    "exact neighbours": "SELECT count(*) FROM generate_series(1, 100), LATERAL (SELECT * FROM hart.neighbors('The', 10, exact => true)) AS n",
    "neighbour graph": "SELECT count(*) FROM hart.models, hart.neighbor_graph(model_id, pg_temp.some_tokens(4000), '{}', 10)",
    "scores": "SELECT count(*) FROM hart.score_tokens(pg_temp.some_tokens(512))",
    "singular values of a tensor": "SELECT (hart.decompose_tensor(name, 'model.layers.0.self_attn.q_proj.weight', 64)).relative_error FROM hart.models",
    "a tensor as a matrix": "SELECT hart.n_rows(hart.tensor_matrix(name, 'model.embed_tokens.weight')) FROM hart.models",
}


class Canceller:
    """A session that works and one that stops it."""

    def __init__(self, open_session):
        self.worker = open_session()
        self.worker.run(PREPARE)
        self.other = open_session()
        self.pid = self.worker.pid

    def cancel(self, statement, delay):
        """Seconds between the call of pg_cancel_backend and the end of the statement; None when it had ended before."""
        pipe = self.worker.process.stdin
        pipe.write(f"{statement};\n\\echo :SQLSTATE\n")
        pipe.flush()
        time.sleep(delay)
        started = time.perf_counter()
        self.other.process.stdin.write(f"SELECT pg_cancel_backend({self.pid});\n")
        self.other.process.stdin.flush()
        state = ""
        while len(state) != 5 or not state.isalnum():
            state = self.worker.process.stdout.readline().strip()
        taken = time.perf_counter() - started
        self.other.run("SELECT")
        # a cancel that came too late must not meet the next statement
        self.worker.run("SELECT pg_sleep(0.01)")
        self.worker.run("RESET hart.pin_percent")
        return taken if state == "57014" else None


def measure_cancels(open_session, rounds, phases):
    """Latencies of each phase in milliseconds."""
    canceller = Canceller(open_session)
    latencies = {}
    for name in phases:
        times = []
        longest = LONGEST_DELAY
        for _ in range(rounds):
            delay = random.uniform(0.002, longest)
            taken = canceller.cancel(PHASES[name], delay)
            if taken is None:
                longest = max(0.005, longest * 0.7)
            else:
                times.append(taken * 1000)
        latencies[name] = times
        print(cancel_line(name, times), flush=True)
    return latencies


def cancel_line(name, times):
    if not times:
        return f"| {name} | over before it could be cancelled | |"
    return f"| {name} | {median(times):.1f} | {max(times):.1f} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", default="bench")
    parser.add_argument("--psql", default="psql", help="the program psql")
    parser.add_argument("--rounds", type=int, default=20, help="cancels of each phase (default: 20)")
    parser.add_argument("--phase", action="append", choices=PHASES, help="only this phase; may be repeated")
    options = parser.parse_args()

    def open_session():
        return Psql(options.psql, dict(os.environ), options.database, messages=subprocess.DEVNULL)

    print("| cancelled while | median, ms | longest, ms |\n|---|---|---|")
    measure_cancels(open_session, options.rounds, options.phase or PHASES)


if __name__ == "__main__":
    main()
