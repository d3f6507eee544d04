"""The command: what it prints, where, and with which exit status."""
import inspect
import pathlib
import re
import signal
import time

import pytest
import typer
from hartonomous import Client, _cli

TOP = pathlib.Path(__file__).resolve().parents[3]
README = (TOP / "python_loader" / "README.md").read_text()
COMMANDS = typer.main.get_command(_cli.app).commands


@pytest.fixture
def model(db):
    """A small model beside whatever other tests ingested."""
    return db.model("qwen2_tied")


def succeeded(done):
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(name):
    command = COMMANDS[name]
    assert command.help, "no docstring"
    assert f"`hartonomous {name}" in README, "not in python_loader/README.md"
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{parameter.name} has no help"
        for option in parameter.opts:
            if option.startswith("--") and option != "--help":
                assert option in README, f"{option} is not in python_loader/README.md"


@pytest.mark.parametrize("name", [name for name, _ in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")])
def test_every_verb_is_documented(name):
    assert getattr(Client, name).__doc__
    assert name in COMMANDS or name == "close"
    assert name == "close" or f"client.{name}(" in README


def test_the_client_has_the_extensions_version():
    def version(pattern, path):
        return re.search(pattern, (TOP / path).read_text(), re.M)[1]
    assert version(r'^version = "(.*)"', "python_loader/pyproject.toml") == version(r"^default_version *= *'(.*)'", "hartonomous.control")


def test_models(run, model):
    lines = succeeded(run("models")).splitlines()
    assert lines[0].split() == ["name", "architecture", "parameters", "bytes", "in", "stored", "context", "state"]
    (line,) = [line for line in lines if line.startswith(model + " ")]
    assert line.endswith("ready") and "qwen2" in line


def test_generate(run, model, conn):
    done = run("generate", "abc", "--max-tokens", 5, "--model", model)
    assert succeeded(done).rstrip("\n") == conn.one("SELECT hart.generate('abc', 5, %s)", model).rstrip("\n")
    assert re.fullmatch(r"\(\d+ tokens in [\d.]+ s: [\d.]+ tokens per second\)\n", done.stderr)


def test_standard_input(run, model):
    assert succeeded(run("tokenize", "-", "-m", model, text="abc")) == succeeded(run("tokenize", "abc", "-m", model))


def test_tokenize(run, model, conn):
    lines = succeeded(run("tokenize", "a [bold] b", "--model", model)).splitlines()
    assert [int(line.split()[0]) for line in lines] == conn.one("SELECT hart.tokenize('a [bold] b', %s)", model)


def test_ingest_export_drop(run, folders, folder):
    source = folders("qwen2_untied")
    done = run("ingest", source, "--name", "by command")
    assert "ready" in done.stderr and succeeded(done) == ""
    assert "by command" in succeeded(run("models"))
    succeeded(run("export", "by command", folder / "out"))
    assert {f.name: f.read_bytes() for f in (folder / "out").iterdir()} == {f.name: f.read_bytes() for f in source.iterdir()}
    succeeded(run("drop", "by command"))
    assert "by command" not in succeeded(run("models"))


def test_interrupted_ingest(run, started, folders, db, conn, nothing_left):
    with db.connect() as blocker:
        # attaching the tiles needs this lock, so the call waits near its end until it is cancelled
        blocker.execute("BEGIN; LOCK TABLE hart.tiles IN SHARE UPDATE EXCLUSIVE MODE")
        process = started("ingest", folders("qwen2_untied"), "--name", "interrupted")
        while not conn.one("SELECT count(*) FROM hart.ingest_progress WHERE name = 'interrupted'"):
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        blocker.execute("ROLLBACK")
    assert "interrupted" not in succeeded(run("models"))
    nothing_left(conn)


@pytest.mark.parametrize("arguments", [
    ["ingest", "/nothing/of/that/name"],
    ["ingest", "."],
    ["export", "nothing", "/nothing/of/that/name"],
    ["drop", "nothing"],
    ["generate", "abc", "-m", "nothing"],
    ["tokenize", "abc", "-m", "nothing"],
])
def test_errors(run, model, arguments):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(r"^ERROR: .+\n(DETAIL: .+\n)?HINT: .+\n\Z", done.stderr, re.M), done.stderr
    assert "Traceback" not in done.stderr


def test_no_server(run, folder):
    done = run("models", dsn=f"host={folder} connect_timeout=2")
    assert done.returncode == 1
    assert done.stderr.startswith("ERROR: ") and "HINT: Name the server with --dsn" in done.stderr


def test_no_extension(run, db):
    done = run("models", dsn=re.sub(r"dbname=\S+", "dbname=template1", db.dsn))
    assert done.returncode == 1
    assert "HINT: Run CREATE EXTENSION hartonomous CASCADE" in done.stderr


def test_wrong_use(run):
    done = run("generate")
    assert done.returncode == 2 and "Traceback" not in done.stderr
