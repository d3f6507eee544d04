"""Tensors, shards and tokenizers that are wrong: every one is refused with a reason, and nothing of it stays."""
import json
import os
import pathlib
import shutil
import struct

import numpy as np
import psycopg
import pytest

from spoil import TENSORS, change_index, rewrite


@pytest.mark.parametrize("name", TENSORS)
def test_tensor_missing(not_ingested, good, name):
    rewrite(good / "model.safetensors", lambda t: t.pop(name))
    error = not_ingested("22023", good)
    assert name in f"{error.diag.message_primary} {error.diag.message_detail}"


@pytest.mark.parametrize("name", ["extra", "model.layers.1.mlp.up_proj.weight", "model.layers.0.self_attn.q_proj.bias",
                                  "model.layers.0.self_attn.q_norm.weight", "model.layers.-1.mlp.up_proj.weight", "", "\u0000", "x" * 100000])
def test_tensor_too_many(not_ingested, good, name):
    rewrite(good / "model.safetensors", lambda t: t.update({name: ("F32", [16], bytes(64))}))
    not_ingested("22023 22P04 54000", good)


@pytest.mark.parametrize("name", [TENSORS[0], TENSORS[1], TENSORS[2], TENSORS[-1]])
@pytest.mark.parametrize("shape", [lambda r, c: [c, r], lambda r, c: [r * c], lambda r, c: [1, r, c], lambda r, c: [r, c, 1], lambda r, c: [r // 2, c]],
                         ids=["transposed", "flat", "leading 1", "trailing 1", "half"])
def test_tensor_of_wrong_shape(not_ingested, good, name, shape):
    def change(tensors):
        dtype, old, raw = tensors[name]
        rows, cols = (old + [1])[:2]
        new = shape(rows, cols)
        if new == old:
            new = [rows, 1]
        tensors[name] = (dtype, new, raw[:4 * int(np.prod(new))])
    rewrite(good / "model.safetensors", change)
    not_ingested("22023", good)


@pytest.mark.parametrize("dtype, width", [("F64", 8), ("I32", 4), ("I8", 1), ("U8", 1), ("BOOL", 1), ("F8_E4M3", 1), ("F8_E5M2", 1)])
def test_tensor_of_wrong_dtype(not_ingested, good, dtype, width):
    def change(tensors):
        _, shape, raw = tensors[TENSORS[2]]
        tensors[TENSORS[2]] = (dtype, shape, bytes(width * len(raw) // 4))
    rewrite(good / "model.safetensors", change)
    error = not_ingested("0A000 22023", good)
    assert dtype in f"{error.diag.message_primary} {error.diag.message_detail}"


BAD_FILES = sorted(p.name for p in pathlib.Path(os.environ.get("HART_TEST_DATA") or "/nonexistent").glob("bad-safetensors/*.safetensors"))


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_safetensors(not_ingested, good, data, name):
    """Files that a careful reader refuses, and small good ones that hold nothing of the model."""
    shutil.copyfile(data / "bad-safetensors" / name, good / "model.safetensors")
    not_ingested("22P04 22023 0A000 54000", good)


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b[:8], lambda b: b[:100], lambda b: b"",
                                    lambda b: b"\xff" * 8 + b[8:], lambda b: struct.pack("<Q", 2 ** 40) + b[8:], lambda b: struct.pack("<Q", 0) + b[8:]],
                         ids=["short", "long", "length only", "half a header", "empty", "2^64 header", "2^40 header", "no header"])
def test_cut_files(not_ingested, good, change):
    path = good / "model.safetensors"
    path.write_bytes(change(path.read_bytes()))
    not_ingested("22P04 54000", good)


# Shards -------------------------------------------------------------------------------------------

def test_shard_missing(not_ingested, sharded):
    (sharded / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors" in str(not_ingested("58P01", sharded))


@pytest.mark.parametrize("file", ["../config.json", "/etc/passwd", "../../secret.safetensors", "sub/model.safetensors", "", ".", "a\0b",
                                  5, None, ["model-00001-of-00002.safetensors"], "config.json"], ids=str)
def test_index_names_other_files(not_ingested, sharded, file):
    """A checkpoint's index reaches nothing outside the checkpoint's folder."""
    change_index(sharded, lambda i: i["weight_map"].update({TENSORS[0]: file}))
    error = not_ingested("22023 22P04 58P01 42501", sharded)
    assert "root:" not in str(error)


@pytest.mark.parametrize("change", [
    lambda i: i["weight_map"].pop(TENSORS[0]), lambda i: i["weight_map"].update({"extra": "model-00001-of-00002.safetensors"}),
    lambda i: i["weight_map"].update({TENSORS[0]: i["weight_map"][TENSORS[1]]}),
    lambda i: i.pop("weight_map"), lambda i: i.update({"weight_map": {}}), lambda i: i.update({"weight_map": []}), lambda i: i.update({"weight_map": "x"}),
], ids=["tensor missing", "tensor extra", "tensor elsewhere", "no map", "empty map", "list", "string"])
def test_index_that_contradicts(not_ingested, sharded, change):
    change_index(sharded, change)
    not_ingested("22023 22P04", sharded)


def test_index_not_json(not_ingested, sharded):
    (sharded / "model.safetensors.index.json").write_text("{")
    not_ingested("22P04", sharded)


def test_same_tensor_in_two_shards(not_ingested, sharded):
    shutil.copyfile(sharded / "model-00001-of-00002.safetensors", sharded / "model-00002-of-00002.safetensors")
    not_ingested("22023 22P04", sharded)


# The tokenizer ------------------------------------------------------------------------------------

@pytest.mark.parametrize("change", [
    lambda t: t.pop("model"), lambda t: t["model"].update(type="Magic"), lambda t: t["model"].update(vocab={"a": -1}),
    lambda t: t["model"].update(merges=["no such pair"]), lambda t: t.update(decoder={"type": "Magic"}),
], ids=["no model", "unknown model", "negative id", "bad merges", "unknown decoder"])
def test_bad_tokenizer(not_ingested, good, change):
    tokenizer = json.loads((good / "tokenizer.json").read_text())
    change(tokenizer)
    (good / "tokenizer.json").write_text(json.dumps(tokenizer))
    not_ingested("22P04 22023", good)


@pytest.mark.parametrize("change", [
    lambda t: t["model"].update(unk_token="<none>"), lambda t: t["post_processor"]["special_tokens"].clear(),
], ids=["unknown token that is unknown", "template without its tokens"])
def test_tokenizer_that_fails_at_work(conn, good, refused, nothing_left, change):
    """Not every fault shows when the file is read: then the first text that meets it is refused with a reason."""
    tokenizer = json.loads((good / "tokenizer.json").read_text())
    change(tokenizer)
    (good / "tokenizer.json").write_text(json.dumps(tokenizer))
    try:
        conn.execute("CALL hart.ingest_model(%s)", [str(good)])
    except psycopg.Error as error:
        assert error.sqlstate in ("22P04", "22023") and error.diag.message_hint
    else:
        refused(conn, "22P04 22023 XX001", "SELECT hart.tokenize('é', 'bad')")
        refused(conn, "22P04 22023 XX001", "SELECT hart.generate('é', 3, 'bad')")
        conn.execute("CALL hart.drop_model('bad')")
    nothing_left(conn)


def test_tokens_beyond_the_vocabulary(conn, good, nothing_left):
    """A tokenizer may know more than the model; such a token is refused, at the latest when it is used."""
    tokenizer = json.loads((good / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["the"] = 500
    (good / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(psycopg.Error) as caught:
        conn.execute("CALL hart.ingest_model(%s)", [str(good)])
        try:
            conn.execute("SELECT hart.generate('the', 3, 'bad')")
        finally:
            conn.execute("CALL hart.drop_model('bad')")
    assert caught.value.sqlstate in ("22023", "22P04", "22003") and caught.value.diag.message_hint
    nothing_left(conn)
