"""Tokens: the same ids and texts as the library's, whatever the tokenizer's file says about truncation."""

import json

import pytest
from hartonomous_server import tokenizer as library
from hartonomous_server import tokens

from samples import TOKENIZER
from standin import GD, Plpy


@pytest.fixture
def small():
    return library.load_tokenizer(json.dumps(TOKENIZER).encode())


def test_truncation_and_padding_are_ignored(small):
    assert library.encode(small, "abcabc") == [2, 3, 2, 3]
    assert library.encode(small, "") == []


def test_special_tokens(small):
    assert library.encode(small, "ab<end>c") == [2, 4, 3]
    assert library.decode(small, [2, 4, 3]) == "abc"


def test_largest_id(small):
    assert library.largest_id(small) == 4


def test_nul_cannot_be_text():
    tokenizer = json.loads(json.dumps(TOKENIZER))
    tokenizer["model"]["vocab"] = {"a": 0, "b": 1, "ab": 2, "\0": 3}
    assert library.decode(library.load_tokenizer(json.dumps(tokenizer).encode()), [0, 3]) == "a\ufffd"


def test_qwen_cases(data):
    folder = data / "qwen2.5-tokenizer"
    tokenizer = library.load_tokenizer((folder / "tokenizer.json").read_bytes())
    entries = json.loads((folder / "expected.json").read_text())["entries"]
    texts = {name: tokenizer.decode(entry["input_ids"], skip_special_tokens=False) for name, entry in entries.items()}
    assert len(entries) > 5
    for name, entry in entries.items():
        assert texts[name] == entry["decoded_with_special"]
        assert library.decode(tokenizer, entry["input_ids"]) == entry["decoded_skip_special"].replace("\0", "\ufffd")
        assert library.encode(tokenizer, texts[name]) == entry["input_ids"], name


def test_stories(data):
    """A decoder that strips the first space: the continuation keeps it."""
    folder = data / "stories260K"
    tokenizer = library.load_tokenizer((folder / "tokenizer.json").read_bytes())
    prompt = library.encode(tokenizer, "Once upon")
    new = library.encode(tokenizer, "a time")[1:]
    assert library.decode(tokenizer, new) == "a time"
    assert library.continuation(tokenizer, prompt, new) == " a time"
    assert library.continuation(tokenizer, [1], new) == "a time"
    assert library.continuation(tokenizer, prompt, []) == ""
    for case in json.loads((folder / "golden.json").read_text())["cases"]:
        assert library.encode(tokenizer, case["prompt"]) == case["input_ids"]
        text = library.decode(tokenizer, case["input_ids"])
        whole = library.decode(tokenizer, case["input_ids"] + case["greedy_new_ids"])
        assert text + library.continuation(tokenizer, case["input_ids"], case["greedy_new_ids"]) == whole


def test_character_split_between_prompt_and_continuation(data):
    tokenizer = library.load_tokenizer((data / "qwen2.5-tokenizer" / "tokenizer.json").read_bytes())
    ids = library.encode(tokenizer, "ok 🜨")
    cut = next(n for n in range(1, len(ids)) if library.decode(tokenizer, ids[:n]).endswith("\ufffd"))
    assert "🜨" in library.continuation(tokenizer, ids[:cut], ids[cut:])


def test_texts_of_tokens(data, small):
    """Each as it follows the one before: with its space, special ones by name, parts of a character as such."""
    assert library.token_texts(small, [2, 4, 3]) == ["ab", "<end>", "c"] and library.token_texts(small, []) == []
    stories = library.load_tokenizer((data / "stories260K" / "tokenizer.json").read_bytes())
    ids = library.encode(stories, "Once upon a time")
    assert library.token_texts(stories, ids)[0] == "<s>"
    assert "".join(library.token_texts(stories, ids)[1:]) == "Once upon a time"
    assert library.encode(stories, "Once upon a time", add_special_tokens=False) == ids[1:]
    qwen = library.load_tokenizer((data / "qwen2.5-tokenizer" / "tokenizer.json").read_bytes())
    assert set("".join(library.token_texts(qwen, library.encode(qwen, "🜨")))) <= {"\ufffd", "🜨"}


# The layer that talks to the database -------------------------------------------------------------


@pytest.fixture
def plpy():
    plpy = Plpy()
    content = json.dumps(TOKENIZER).encode()
    plpy.answers["FROM hart.model_files f JOIN"] = lambda model: [{"model_id": 7, "sha256": b"1", "vocab_size": 9}]
    plpy.answers["SELECT content AS value"] = lambda model_id, sha256: [{"value": content}]
    return plpy


def test_cached_by_content(plpy):
    memory = GD()
    assert tokens.encode(plpy, memory, "ab", None) == [2]
    assert tokens.encode(plpy, memory, "c", "m") == [3]
    assert plpy.count("SELECT content") == 1
    plpy.answers["FROM hart.model_files f JOIN"] = lambda model: [{"model_id": 7, "sha256": b"2", "vocab_size": 9}]
    tokens.encode(plpy, memory, "ab", None)
    assert plpy.count("SELECT content") == 2


def test_cache_is_bounded(plpy):
    memory = GD()
    for number in range(10):
        plpy.answers["FROM hart.model_files f JOIN"] = lambda model, n=number: [
            {"model_id": n, "sha256": b"1", "vocab_size": 9}
        ]
        tokens.encode(plpy, memory, "ab", None)
    assert len(memory["hartonomous_tokenizers"]) == tokens.CACHED


def test_nulls(plpy):
    assert tokens.encode(plpy, GD(), None, None) is None
    assert tokens.decode(plpy, GD(), None, None) is None
    assert tokens.continuation(plpy, GD(), None, [1], None) is None
    assert plpy.statements == []


def test_ids_are_checked(plpy):
    assert tokens.decode(plpy, GD(), [0, 3, 8], None) == "ac"


@pytest.mark.parametrize(
    "ids, sqlstate", [([9], "22023"), ([-1], "22023"), ([1, None], "22004"), ([[1], [2]], "22023")]
)
def test_bad_ids(plpy, ids, sqlstate):
    for function, arrays in (
        (tokens.decode, [ids]),
        (tokens.continuation, [ids, [1]]),
        (tokens.continuation, [[1], ids]),
    ):
        with pytest.raises(plpy.Error) as caught:
            function(plpy, GD(), *arrays, None)
        assert caught.value.sqlstate == sqlstate and caught.value.hint


def test_model_without_tokenizer(plpy):
    plpy.answers["FROM hart.model_files f JOIN"] = lambda model: []
    with pytest.raises(plpy.Error) as caught:
        tokens.encode(plpy, GD(), "ab", None)
    assert caught.value.sqlstate == "XX001"
