"""What a user waits for: a new process or connection, from its start to the first token of a prompt of 13 tokens."""

import json
import pathlib
import subprocess
import time

from hartonomous import NAME, quoted
from machine import evict

PROMPT_TOKENS = 13
TEXT = "A database is an organized collection of data, stored and accessed with the help of a computer, and a model of it."


def prompt_text(server):
    """A text of that many tokens."""
    with server.session() as session:
        beginning = f"left({quoted(TEXT)}, n)"
        found = f"(SELECT max({beginning}) FROM generate_series(1, {len(TEXT)}) AS n WHERE cardinality(hart.tokenize({beginning})) = {PROMPT_TOKENS})"
        return session.value(found)


def first_token(samples, figure, engine, text, threads):
    """Wall time of a new process; a peer also says when Python had started and imported what it needs."""
    command, environment = engine.first_token_command(text, threads)
    started = time.monotonic()  # one clock for all processes
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    line = process.stdout.readline()
    milliseconds = (time.monotonic() - started) * 1000
    process.stdout.read()
    if process.wait() != 0 or not line:
        raise SystemExit(f"{engine.name} made no first token: {' '.join(map(str, command))}")
    about = {}
    if engine.name.split()[0] != NAME:
        answer = json.loads(line)
        if answer["tokens"] != PROMPT_TOKENS:
            raise SystemExit(f"{engine.name} has {answer['tokens']} tokens for {text!r}, not {PROMPT_TOKENS}")
        about = {"imports": (answer["ready"] - started) * 1000, "piece": answer["piece"]}
    samples.add(figure, engine.name, [milliseconds], threads=threads, **about)


def database_files(server):
    """The files of the database, the model's tiles among them."""
    with server.session() as session:
        folder = session.value("current_setting('data_directory') || '/base/' || (SELECT oid FROM pg_database WHERE datname = current_database())")
    return [path for path in pathlib.Path(folder).iterdir() if path.is_file()]


def measure_cold(samples, server, engine, peers, text, threads):
    """After a start of the server, whose files the system still has cached; then with the model read from disk, where it may be evicted."""
    server.start()
    first_token(samples, "first_token_after_start", engine, text, threads)
    files = database_files(server)
    server.stop()
    evicted = evict(files)
    server.start()
    if evicted:
        first_token(samples, "first_token_from_disk", engine, text, threads)
        for peer in peers:
            evict([peer.file])
            first_token(samples, "first_token_from_disk", peer, text, threads)
