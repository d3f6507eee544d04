"""Measure Hartonomous beside llama.cpp and transformers on a model of the shape of Qwen2.5-0.5B, and write a table.

The figures and the method are explained in bench/README.md. `make bench` or `bash bench/run.sh` calls this.
"""

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
import time

from accuracy import measure_accuracy
from citizenship import measure_citizenship
from figures import Samples
from first_token import measure_cold, prompt_text
from hartonomous import MODEL, NAME, Hartonomous, modes
from ingest import measure_ingest
from machine import Bandwidth, HugePages, description
from make_model import Shape, write_model
from overhead import measure_overhead
from peer_engines import install_peers, make_peers
from report import markdown, write
from rounds import Plan, measure_rounds
from scores import measure_scores
from server import Server
from tokenizing import measure_tokenizing
from weights import measure_weights

HERE = pathlib.Path(__file__).resolve().parent
QUICK = Plan(rounds=1, threads=(2,), decoded=12, decoded_long=8, prefilled=2, sequences=(16,), steps=4, generated=12, opened=3)


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="one round with 2 threads and the essentials: some 5 minutes")
    parser.add_argument("--rounds", type=int, default=4, help="times that everything is measured, in turn (default: 4)")
    parser.add_argument("--threads", type=int, help="measure with so many threads only (default: with 1 and with 2)")
    parser.add_argument("--model", type=pathlib.Path, help="a model to measure instead (a folder that the server can read)")
    parser.add_argument("--tokenizer", type=pathlib.Path, help="folder whose tokenizer.json the made model gets (default: one token a byte)")
    parser.add_argument("--layers", type=int, default=Shape.layers, help="of the made model (default: 24)")
    parser.add_argument("--no-peers", action="store_true", help="measure Hartonomous alone")
    parser.add_argument("--peers", type=pathlib.Path, help="folder where the peers are, or get installed (default: .cluster/bench-files/peers)")
    parser.add_argument("--only", help="only the engines whose names contain one of these words, with commas between")
    parser.add_argument("--shared-buffers", default="3GB", help="of the server (default: 3GB)")
    parser.add_argument("--no-huge-pages", action="store_true", help="leave the machine's huge pages as they are, instead of setting some aside for the run, which needs root")
    parser.add_argument("--cluster", default="bench", help="name of the private cluster (default: bench)")
    parser.add_argument("--table", type=pathlib.Path, help="also write the table to this file; to docs/benchmarks.md, in the place of its table")
    parser.add_argument("--json", type=pathlib.Path, help="also write every single figure to this file")
    return parser.parse_args(arguments)


def say(text):
    print(f"bench: {time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def made_model(options):
    """The folder of the made model, written when it is not there."""
    parts = ["qwen2.5-0.5b-shape", options.tokenizer and options.tokenizer.name]
    parts.append(f"{options.layers}-layers" if options.layers != Shape.layers else None)
    model = options.folder / "-".join(filter(None, parts))
    if not (model / "config.json").exists():
        say(f"writing {model}")
        write_model(model, options.tokenizer, Shape(layers=options.layers))
        for path in (options.folder, model):
            path.chmod(0o755)
        for path in model.iterdir():
            path.chmod(0o644)
    return model


def peers_of(options, model):
    """The peers that can be had, none of them running yet."""
    python = None if options.no_peers else install_peers(options.peers or options.folder / "peers")
    if python is None:
        return [], {}
    say("writing the model for llama.cpp")
    versions = subprocess.check_output([python, "-E", "-m", "pip", "list", "--format", "json"], text=True)
    versions = {package["name"].replace("_", "-"): package["version"] for package in json.loads(versions)}
    wanted = ("llama-cpp-python", "transformers", "torch")
    return make_peers(python, model, options.folder / "gguf" / model.name), {name: versions[name] for name in wanted}


def versions_of(server):
    with server.session() as session:
        postgres = session.value("current_setting('server_version')")
        extension = session.value("(SELECT extversion FROM pg_extension WHERE extname = 'hartonomous')")
    commit = subprocess.run(["git", "-C", HERE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {NAME: f"{extension} {commit.stdout.strip()}".strip(), "PostgreSQL": postgres}


def measure(options, server, model, peers, samples, plan):
    """Everything, in this order; returns what is known of each engine."""
    config = json.loads((model / "config.json").read_text())
    say("ingesting")
    measure_ingest(samples, server, model)
    text = prompt_text(server)
    say("first tokens of a cold start")
    default = Hartonomous(NAME, server, MODEL)
    measure_cold(samples, server, default, peers, text, max(plan.threads))
    engines = [default, *modes(server, model), *peers]
    if options.only:
        engines = [engine for engine in engines if any(word in engine.name for word in options.only.split(","))]
    measure_rounds(samples, plan, Bandwidth(options.folder), default, engines, text, say)
    say("errors of the logits")
    measure_accuracy(samples, engines, config["vocab_size"])
    about = {engine.name: engine.sizes() for engine in engines}
    for engine in engines:
        engine.stop()
    say("cost of a token beside its arithmetic")
    measure_overhead(samples, server, options.folder, config["num_hidden_layers"])
    if not options.quick:
        say("tokens, scores, beams, weights")
        measure_tokenizing(samples, default)
        measure_scores(samples, default)
        measure_weights(samples, default)
    say("sessions at once, cancelling, small shared buffers")
    measure_citizenship(samples, server, default)
    return about


def main():
    options = parse(sys.argv[1:])
    started, machine = time.monotonic(), description()
    options.folder = options.folder.resolve()
    options.folder.mkdir(exist_ok=True)
    model = options.model.resolve() if options.model else made_model(options)
    peers, versions = peers_of(options, model)
    plan, samples = QUICK if options.quick else Plan(options.rounds), Samples()
    if options.threads:
        plan = dataclasses.replace(plan, threads=(options.threads,))
    server = Server(options.cluster, options.shared_buffers)
    pages = HugePages(0 if options.no_huge_pages else server.huge_pages())
    try:
        server.start()  # the first shared memory was of the pages that were there
        engines = measure(options, server, model, peers, samples, plan)
        versions |= versions_of(server)
    finally:
        for peer in peers:
            peer.stop()
        server.stop()
        pages.release()
    remarks = [f"{peer.name} {peer.remark}" for peer in peers if peer.remark]
    run = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "minutes": (time.monotonic() - started) / 60,
        "machine": machine,
        "versions": versions,
        "shared_buffers": options.shared_buffers,
        "huge_pages": pages.granted,
        "rounds": plan.rounds,
        "model": {"name": model.name, "bytes": (model / "model.safetensors").stat().st_size},
        "engines": engines,
        "remarks": remarks,
        "samples": samples.all,
    }
    if options.json:
        options.json.write_text(json.dumps(run))
    table = markdown(run)
    if options.table:
        write(options.table, table)
    print(table, end="")


if __name__ == "__main__":
    main()
