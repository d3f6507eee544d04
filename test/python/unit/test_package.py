"""The package itself: its requirements, and how errors leave it."""

import os
import pathlib
import re
import subprocess
import sys

import hartonomous_server
import pytest
from hartonomous_server import packages, report
from hartonomous_server.errors import HartError, listed, quoted

from standin import GD, Plpy

PLPYTHON = pathlib.Path(hartonomous_server.__file__).resolve().parents[1]


def test_same_ranges_as_requirements():
    lines = (PLPYTHON / "requirements.txt").read_text().splitlines()
    ranges = dict(re.fullmatch(r"(\w+)(>=[\d.]+,<[\d.]+)", line).groups() for line in lines if not line.startswith("#"))
    assert ranges == {name: f">={least},<{below}" for name, (least, below) in packages.REQUIRED.items()}


def test_packages_are_there():
    memory = GD()
    hartonomous_server.load(Plpy(), memory)
    assert "hartonomous" in memory


def test_missing_and_wrong_packages(monkeypatch, refused):
    monkeypatch.setattr(
        packages, "REQUIRED", {"no_such_package": ("1", "2"), "numpy": ("99", "100"), "tokenizers": ("0.1", "1")}
    )
    with refused("58P01", "no_such_package is missing", "numpy is version"):
        packages.check_packages()
    assert f"--target {PLPYTHON}" in packages.command()


@pytest.mark.parametrize("version, wanted", [("1.24", (1, 24)), ("2.0.0rc1", (2, 0, 0)), ("0.4.3.dev0", (0, 4, 3))])
def test_versions(version, wanted):
    assert packages.numbers(version) == wanted


def test_no_threads_and_no_network():
    """A thread of a library would take signals that are meant for the server."""
    program = (
        "import hartonomous_server, llguidance, numpy, tokenizers, sys, os\n"
        "numpy.linalg.svd(numpy.ones((300, 300)))\n"
        "t = tokenizers.Tokenizer(tokenizers.models.BPE()); t.encode('x')\n"
        "m = llguidance.LLMatcher(llguidance.LLTokenizer('byte'), llguidance.LLMatcher.grammar_from_regex('a+'))\n"
        "assert m.compute_bitmask() and m.consume_token(97)\n"
        "print(len(os.listdir('/proc/self/task')), 'huggingface_hub' in sys.modules)\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")} | {
        "PYTHONPATH": str(PLPYTHON)
    }
    done = subprocess.run(
        [sys.executable, "-B", "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "False"]


def reported_error(error):
    plpy = Plpy()

    @report.reported
    def fails(plpy):
        raise error(plpy)

    with pytest.raises(plpy.Error) as caught:
        fails(plpy)
    return caught.value


def test_own_errors():
    error = reported_error(lambda plpy: HartError("what", "22023", hint="do this", detail="because"))
    assert (str(error), error.sqlstate, error.hint, error.detail) == ("what", "22023", "do this", "because")
    assert type(error).__name__ == "hartonomous" and type(error).__module__ == "builtins"
    assert error.__cause__ is None and error.__suppress_context__


def test_errors_of_statements():
    def unknown(plpy):
        error = plpy.SPIError("raised by a user")
        packed = sum((ord(c) - ord("0")) << (6 * i) for i, c in enumerate("HT042"))
        error.spidata = (packed, None, "a hint", None, 0, None, None, None, None, None)
        return error

    error = reported_error(unknown)
    assert (str(error), error.sqlstate, error.detail, error.hint) == ("raised by a user", "HT042", None, "a hint")


def test_what_text_cannot_hold():
    error = reported_error(lambda plpy: HartError("a\0b", "22023", hint="\ud800"))
    assert str(error) == "a\\0b" and error.hint == "\\ud800"


def test_other_exceptions_are_not_hidden():
    plpy = Plpy()

    @report.reported
    def fails(plpy):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails(plpy)


def test_names_in_messages():
    assert quoted("a\nb\0é") == '"a\\nb\\x00é"'
    assert len(quoted("x" * 100000)) < 130
    assert listed("abcdefg", 2) == '"a", "b" and 5 more'
