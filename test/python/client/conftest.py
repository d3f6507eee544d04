"""The client's tests: its package from the checkout, against the server of the other tests."""
import functools
import os
import pathlib
import signal
import subprocess
import sys

import pytest

SOURCE = pathlib.Path(__file__).resolve().parents[3] / "python_loader" / "src"
sys.path.insert(0, str(SOURCE))     # first: the folder that pytest starts in may hold the shared object hartonomous.so

for package in ("typer", "rich"):
    pytest.importorskip(package, reason="the client's requirements are not installed")

from hartonomous import Client  # noqa: E402


@pytest.fixture
def client(db):
    with Client(db.dsn) as connected:
        yield connected


@pytest.fixture
def started(db, folder):
    """started(argument, …): the command in a process of its own, whose input and output are no terminal's."""
    processes = []

    def start(*arguments, dsn=None):
        command = [sys.executable, "-m", "hartonomous", "--dsn", dsn or db.dsn, *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONIOENCODING": "utf-8"}
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        # a shell's background job ignores the interrupt, and its children would too
        interruptible = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        processes.append(subprocess.Popen(command, cwd=folder, env=environment, encoding="utf-8", preexec_fn=interruptible, **pipes))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def run(started):
    """run(argument, …): the command run to its end."""
    def command(*arguments, dsn=None, text=None):
        process = started(*arguments, dsn=dsn)
        stdout, stderr = process.communicate(text, timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)
    return command
