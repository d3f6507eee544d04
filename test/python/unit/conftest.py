"""Unit tests of the server's Python package: they need its packages and pytest, but no server.

pytest --confcutdir test/python/unit test/python/unit
"""

import json
import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "plpython"))

from hartonomous_server import checkpoint, errors

from samples import LLAMA, TOKENIZER, random_tensors, write_safetensors


@pytest.fixture
def config():
    """change → a config.json that is valid but for the change; a value of `...` leaves the key out."""

    def changed(**change):
        merged = LLAMA | change
        return {key: value for key, value in merged.items() if value is not ...}

    return changed


@pytest.fixture
def refused():
    """with refused("22023", "words"): … the error has that SQLSTATE, a hint, and holds those words."""

    class Refused:
        def __init__(self, sqlstate, *words):
            self.sqlstate, self.words = sqlstate, words

        def __enter__(self):
            return self

        def __exit__(self, kind, error, _):
            assert kind is errors.HartError, f"{kind}: {error}"
            assert error.sqlstate == self.sqlstate, error
            assert error.hint
            text = f"{error.message} {error.detail}"
            assert all(word in text for word in self.words), text
            assert "\n" not in error.message
            return True

    return Refused


@pytest.fixture
def data():
    """The folder of shared test data."""
    folder = os.environ.get("HART_TEST_DATA", "")
    if not os.path.isdir(folder):
        pytest.skip("HART_TEST_DATA names no folder")
    return pathlib.Path(folder)


@pytest.fixture
def model_folder(tmp_path, config):
    """change → a folder with a small model of that config."""
    from hartonomous_server.config import parse_config
    from hartonomous_server.tensors import expected_shapes

    def written(**change):
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        settings = config(**change)
        (folder / "config.json").write_text(json.dumps(settings))
        (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
        tensors = random_tensors(expected_shapes(parse_config(settings)))
        write_safetensors(folder / checkpoint.SINGLE, tensors)
        return folder

    return written
