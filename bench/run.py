"""Measure ingestion, prefill and decoding of a Qwen2.5-0.5B-shaped model, beside the machine's read bandwidth.

The figures and the method are explained in bench/README.md. `make bench` or `bash bench/run.sh` calls this.
"""

import argparse
import json
import os
import pathlib
import shlex
import subprocess
import sys
import threading
import time
from statistics import median

from make_model import write_model
from peers import run_peers
from psql import Psql
from report import print_report
from scores import measure_scores
from tokenizing import measure_tokenizing
from weights import measure_weights, weights_lines

HERE = pathlib.Path(__file__).resolve().parent
CLUSTER_SCRIPT = HERE.parent / "dev" / "cluster.sh"
THREADS = (1, 2)
DECODED = 24
PROMPTS = (128, 512)
SEQUENCES = (2, 4, 8, 16)
STEPS = 8
BUFFER_MIB = 1024
PASSES = 6


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=pathlib.Path, help="a model to measure instead (a folder that the server can read)")
    parser.add_argument("--tokenizer", type=pathlib.Path, help="folder whose tokenizer.json the made model gets (default: one token a byte)")
    parser.add_argument("--rounds", type=int, default=5, help="times that everything is measured, in turn (default: 5)")
    parser.add_argument("--shared-buffers", default="2GB", help="of the server (default: 2GB)")
    parser.add_argument("--cluster", default="bench", help="name of the private cluster (default: bench)")
    parser.add_argument("--peer-python", help="a Python that has transformers and torch, to measure those too")
    parser.add_argument("--json", type=pathlib.Path, help="also write all figures to this file")
    return parser.parse_args(arguments)


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


class Cluster:
    """The private server of dev/cluster.sh."""

    def __init__(self, name, **settings):
        self.name = name
        self.script("stop")
        self.script("start", *(f"{key}={value}" for key, value in settings.items()))
        exports = (word.split("=", 1) for word in shlex.split(self.script("env")) if "=" in word)
        self.environment = {**os.environ, **dict(exports)}
        bindir = subprocess.check_output([os.environ.get("PG_CONFIG", "pg_config"), "--bindir"], text=True).strip()
        self.program = f"{bindir}/psql"

    def script(self, command, *arguments):
        return subprocess.run(["bash", CLUSTER_SCRIPT, command, self.name, *arguments], check=True, text=True, stdout=subprocess.PIPE).stdout

    def session(self, database="bench", script=None):
        return Psql(self.program, self.environment, database, script)

    def stop(self):
        self.script("stop")


class PeakMemory(threading.Thread):
    """Watches the memory that a process has for itself, shared buffers not counted."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.status = pathlib.Path(f"/proc/{pid}/status")
        self.peak = 0
        self.stopped = threading.Event()
        self.start()

    def run(self):
        while not self.stopped.wait(0.02) and self.status.exists():
            fields = dict(line.split(":", 1) for line in self.status.read_text().splitlines())
            self.peak = max(self.peak, int(fields.get("RssAnon", "0 kB").split()[0]) * 1024)

    def stop(self):
        self.stopped.set()
        self.join()
        return self.peak


def made_model(folder, tokenizer):
    """The folder of the made model, written when it is not there."""
    model = folder / ("qwen2.5-0.5b-shape" + (f"-{tokenizer.name}" if tokenizer else ""))
    if not (model / "config.json").exists():
        say(f"writing {model}")
        write_model(model, tokenizer)
        for path in (folder, model):
            path.chmod(0o755)
        for path in model.iterdir():
            path.chmod(0o644)
    return model


def compiled(folder):
    """The program that measures bandwidth, for this processor."""
    program = folder / "bandwidth"
    subprocess.run(["cc", "-O3", "-march=native", "-pthread", "-o", program, HERE / "bandwidth.c"], check=True)
    return program


def bandwidth(program, threads):
    """GB/s of each pass."""
    command = [program, str(threads), str(BUFFER_MIB), str(PASSES)]
    return [float(line) for line in subprocess.check_output(command, text=True).split()]


def measure_ingest(cluster, model):
    """A new database, with the model in it."""
    with cluster.session("postgres") as session:
        session.run("SET client_min_messages = warning; DROP DATABASE IF EXISTS bench WITH (FORCE)")
        session.run("CREATE DATABASE bench")
    with cluster.session() as session:
        session.run("SET client_min_messages = warning; CREATE EXTENSION hartonomous CASCADE")
        memory = PeakMemory(session.pid)
        started = time.perf_counter()
        session.run("CALL hart.ingest_model('{}', 'bench')".format(str(model).replace("'", "''")))
        seconds = time.perf_counter() - started
        sizes = session.value("(SELECT m FROM (SELECT bytes_in, bytes_stored, parameters FROM hart.models) AS m)")
        return {"seconds": seconds, "memory": memory.stop(), **sizes}


def measure_rounds(session, program, rounds):
    """Everything that is timed, in turn, so that a slow minute of the machine falls on all of it."""
    result = {"bandwidth": {}, "decode": {}, "batch": {}, "prefill": {}, "open": []}
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for threads in THREADS:
            session.run(f"SET hart.threads = {threads}")
            before = bandwidth(program, threads)
            decoded = session.value(f"pg_temp.decode({DECODED})")
            after = bandwidth(program, threads)
            result["bandwidth"].setdefault(threads, []).append(before + after)
            result["decode"].setdefault(threads, []).append(decoded)
            for sequences in SEQUENCES:
                steps = session.value(f"pg_temp.decode_batch({sequences}, {STEPS})")
                result["batch"].setdefault(threads, {}).setdefault(sequences, []).extend(steps)
            for length in PROMPTS:
                taken = session.value(f"pg_temp.prefill({length})")
                result["prefill"].setdefault(threads, {}).setdefault(length, []).append(taken)
        result["open"] += [session.value("pg_temp.open_and_close()") for _ in range(5)]
    return result


def measure_calls(cluster, script):
    """What a user waits for: the first and a later call of a session."""
    calls = {"first_open": [], "first_generate": [], "generate": []}
    for _ in range(3):
        with cluster.session(script=script) as session:
            calls["first_open"].append(session.value("pg_temp.open_and_close()"))
        with cluster.session(script=script) as session:
            calls["first_generate"].append(session.value("pg_temp.generate(1)"))
            calls["generate"] += [session.value("pg_temp.generate(1)") for _ in range(3)]
    return {name: median(times) for name, times in calls.items()}


def measure_in_session(cluster, script, measure_part):
    with cluster.session(script=script) as session:
        return measure_part(session)


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown processor"


def measure(cluster, options, model, program):
    say(f"ingesting {model}")
    ingest = measure_ingest(cluster, model)
    script = (HERE / "measure.sql").read_text() + (HERE / "batch.sql").read_text()
    with cluster.session(script=script) as session:
        version = session.value("split_part(version(), ' (', 1)")
        bytes_per_token = session.value("pg_temp.bytes_per_token()")
        session.value("pg_temp.decode(2)")
        memory = PeakMemory(session.pid)
        rounds = measure_rounds(session, program, options.rounds)
        memory = memory.stop()
        scores = measure_scores(session)
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "server": f"{version}, shared_buffers {options.shared_buffers}",
        "ingest": ingest,
        "bytes_per_token": bytes_per_token,
        "memory": memory,
        **rounds,
        "scores": scores,
        "calls": measure_calls(cluster, script),
        "tokenizing": measure_tokenizing(cluster),
        # last, since it changes weights
        "weights": measure_in_session(cluster, script, measure_weights),
    }


def main():
    options = parse(sys.argv[1:])
    options.folder = options.folder.resolve()
    options.folder.mkdir(exist_ok=True)
    model = options.model.resolve() if options.model else made_model(options.folder, options.tokenizer)
    program = compiled(options.folder)
    cluster = Cluster(options.cluster, shared_buffers=options.shared_buffers)
    try:
        figures = measure(cluster, options, model, program)
    finally:
        cluster.stop()
    figures["peers"] = run_peers(options.peer_python, model, THREADS, PROMPTS, DECODED) if options.peer_python else []
    print_report(figures)
    print("", *weights_lines(figures["weights"]), sep="\n")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
