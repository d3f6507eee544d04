"""Other engines on the same model and machine, as far as the Python given has them."""

import json
import pathlib
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
PEERS = {"transformers": "peer_transformers.py"}


def has(python, package):
    return subprocess.run([python, "-c", f"import {package}"], stderr=subprocess.DEVNULL).returncode == 0


def run_peers(python, model, threads, prompts, decoded):
    """One entry an engine, precision and number of threads: the times of each token and of the prompts."""
    measured = []
    for package, script in PEERS.items():
        if not has(python, package):
            continue
        lists = [",".join(map(str, numbers)) for numbers in (threads, prompts)]
        # PYTHONPATH holds the server's packages, which are not this Python's
        command = [python, "-E", HERE / script, str(model), *lists, str(decoded)]
        output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout
        measured += [json.loads(line) for line in output.splitlines()]
    return measured
