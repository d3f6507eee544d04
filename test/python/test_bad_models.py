"""Model folders that are wrong: every one is refused with a reason, and nothing of it stays."""
import json
import os
import pathlib
import shutil
import struct

import numpy as np
import psycopg
import pytest

import models

GOOD = models.Model("good", dim=16, hidden=24, layers=1, heads=2, kv_heads=1, head_dim=8, vocab=101, tied=True)
SHARDED = models.Model("sharded", dim=16, hidden=24, layers=1, heads=2, kv_heads=1, head_dim=8, vocab=101, tied=True, shards=2)


@pytest.fixture
def good(folder, conn):
    """A new copy of a good model, to be spoilt. What a test ingests is gone after it, even when it fails."""
    models.write_model(folder / "bad", GOOD, 0)
    before = {name for name, in conn.all("SELECT name FROM hart.models")}
    yield folder / "bad"
    conn.rollback()
    for name, in conn.all("SELECT name FROM hart.models"):
        if name not in before:
            conn.execute("CALL hart.drop_model(%s)", [name])


@pytest.fixture
def sharded(folder):
    models.write_model(folder / "sharded", SHARDED, 0)
    return folder / "sharded"


@pytest.fixture
def not_ingested(conn, refused, nothing_left):
    """not_ingested(sqlstates, path): CALL fails as it should and leaves nothing."""
    def check(sqlstates, path, name="bad"):
        conn.execute("SET statement_timeout = '20s'")
        error = refused(conn, sqlstates, "CALL hart.ingest_model(%s, %s)", str(path), name)
        nothing_left(conn)
        assert conn.all("SELECT 1 FROM hart.models WHERE name = %s", name) == []
        return error
    return check


def test_the_good_ones_are_good(conn, good, sharded):
    for path in (good, sharded):
        conn.execute("CALL hart.ingest_model(%s)", [str(path)])
        assert conn.one("SELECT hart.generate('x', 3, %s)", path.name) is not None


# The folder and its files -------------------------------------------------------------------------

def test_missing_path(not_ingested, folder):
    not_ingested("58P01", folder / "nothing")
    not_ingested("58P01", "no/such/relative/path")


def test_path_of_a_file(not_ingested, good):
    not_ingested("58030 42809", good / "config.json")


@pytest.mark.parametrize("path", ["", "/", "x" * 5000, "/dev/null", "/proc/self/mem", "a\nb"])
def test_odd_paths(not_ingested, path):
    not_ingested("22023 58P01 58030 42501 42602 54000", path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_file_missing(not_ingested, good, name):
    (good / name).unlink()
    assert name in str(not_ingested("58P01", good))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder that the server cannot read")
@pytest.mark.parametrize("name", ["", "config.json", "tokenizer.json", "model.safetensors"])
def test_unreadable(not_ingested, good, name):
    (good / name).chmod(0)
    not_ingested("42501 58030", good)
    (good / name).chmod(0o755)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_folder_in_place_of_a_file(not_ingested, good, name):
    (good / name).unlink()
    (good / name).mkdir()
    not_ingested("58030 42809 58P01 22P04", good)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_pipe_in_place_of_a_file(not_ingested, good, name):
    """Opening a pipe would wait for ever for somebody who writes."""
    (good / name).unlink()
    os.mkfifo(good / name, 0o666)
    not_ingested("58030 42809 58P01 22P04", good)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_endless_file(not_ingested, good, name):
    (good / name).unlink()
    (good / name).symlink_to("/dev/zero")
    not_ingested("58030 42809 58P01 22P04 54000", good)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe{\x00", b"{}\x00", b'{"a": NaN}', b"[" * 200000, b"\x80\x04"])
def test_not_json(not_ingested, good, name, content):
    (good / name).write_bytes(content)
    not_ingested("22P04 22023", good)


def test_name_taken(conn, not_ingested, good, refused, nothing_left):
    conn.execute("CALL hart.ingest_model(%s, 'taken')", [str(good)])
    refused(conn, "42710", "CALL hart.ingest_model(%s, 'taken')", str(good))
    assert conn.one("SELECT hart.generate('x', 3, 'taken')") is not None
    nothing_left(conn)
    conn.execute("CALL hart.drop_model('taken')")


def test_rolled_back(conn, good, nothing_left):
    """Inside a transaction block it is part of the transaction."""
    conn.execute("BEGIN")
    conn.execute("CALL hart.ingest_model(%s, 'bad')", [str(good)])
    assert conn.one("SELECT hart.generate('x', 3, 'bad')") is not None
    conn.execute("ROLLBACK")
    nothing_left(conn)
    assert conn.all("SELECT 1 FROM hart.models WHERE name = 'bad'") == []


def test_export_to_bad_places(conn, refused, good, folder):
    conn.execute("CALL hart.ingest_model(%s, 'out')", [str(good)])
    try:
        (folder / "file").write_text("mine")
        (folder / "full").mkdir()
        (folder / "full" / "config.json").write_text("mine")
        (folder / "full").chmod(0o777)
        (folder / "closed").mkdir(mode=0o755)
        refused(conn, "58030 42809 58P02 42710", "CALL hart.export_model('out', %s)", str(folder / "file"))
        refused(conn, "58P02 42710 58030", "CALL hart.export_model('out', %s)", str(folder / "full"))
        refused(conn, "58P01 58030", "CALL hart.export_model('out', %s)", str(folder / "no" / "such" / "parent"))
        refused(conn, "22023 42602 58P01 58P02", "CALL hart.export_model('out', '')")
        if os.geteuid() == 0:
            refused(conn, "42501 58030", "CALL hart.export_model('out', %s)", str(folder / "closed" / "new"))
        assert (folder / "file").read_text() == (folder / "full" / "config.json").read_text() == "mine"
        assert [p.name for p in (folder / "full").iterdir()] == ["config.json"]
    finally:
        conn.execute("CALL hart.drop_model('out')")


@pytest.mark.parametrize("name", ["../up", "/tmp/hart_elsewhere", "a/b", "..", ""])
def test_export_of_names_that_lead_elsewhere(conn, refused, good, folder, name):
    """An export writes into its folder only, whatever the catalog says."""
    conn.execute("CALL hart.ingest_model(%s, 'out')", [str(good)])
    conn.execute("BEGIN")
    conn.execute("UPDATE hart.model_files SET name = %s WHERE name = 'tokenizer_config.json' AND model_id = (SELECT model_id FROM hart.models WHERE name = 'out')", [name])
    refused(conn, "XX001 58P02 42602", "CALL hart.export_model('out', %s)", str(folder / "out"))
    assert sorted(p.name for p in folder.iterdir()) == ["bad"]


# config.json --------------------------------------------------------------------------------------

SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
         "vocab_size", "max_position_embeddings")
ABSURD = [-1, 0, 2 ** 31, 2 ** 40, 2 ** 63, 2 ** 64, 10 ** 400, 1.5, True, "16", [16], {}]


@pytest.mark.parametrize("value", ABSURD, ids=lambda v: str(v)[:20])
@pytest.mark.parametrize("key", SIZES)
def test_absurd_sizes(not_ingested, good, key, value):
    change_config(good, {key: value})
    not_ingested("22023 54000", good)


def change_config(path, changes, drop=()):
    config = json.loads((path / "config.json").read_text()) | changes
    (path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k not in drop}))


@pytest.mark.parametrize("changes", [
    {"hidden_size": 32}, {"intermediate_size": 25}, {"num_hidden_layers": 2}, {"num_attention_heads": 4}, {"num_key_value_heads": 2},
    {"head_dim": 16}, {"vocab_size": 100}, {"vocab_size": 102}, {"tie_word_embeddings": False}, {"attention_bias": True}, {"mlp_bias": True},
    {"num_attention_heads": 3}, {"num_key_value_heads": 3}, {"head_dim": 7},
    {"rms_norm_eps": -1e-5}, {"rms_norm_eps": "small"}, {"rms_norm_eps": 1e400},
    {"rope_theta": 0}, {"rope_theta": -1}, {"rope_theta": "x"}, {"rope_theta": [1]},
    {"eos_token_id": -1}, {"eos_token_id": "</s>"}, {"eos_token_id": [2, None]},
    {"rope_scaling": {"rope_type": "linear"}}, {"rope_scaling": {"rope_type": "linear", "factor": 0}},
    {"rope_scaling": {"rope_type": "linear", "factor": "x"}}, {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
    {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}},
    {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": -64}},
], ids=lambda c: str(c)[:60])
def test_config_that_contradicts(not_ingested, good, changes):
    """What the tensors or plain sense contradict."""
    change_config(good, changes)
    not_ingested("22023 0A000 22P04", good)


@pytest.mark.parametrize("key", ["model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "intermediate_size"])
def test_config_without(not_ingested, good, key):
    change_config(good, {}, drop=[key] + (["architectures"] if key == "model_type" else []))
    error = not_ingested("22023 0A000", good)
    assert key in str(error) or key == "model_type" and "architecture" in str(error)


@pytest.mark.parametrize("changes, named", [
    ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, "gpt2"),
    ({"model_type": "mixtral", "architectures": ["MixtralForCausalLM"]}, "mixtral"),
    ({"model_type": "qwen2_moe", "architectures": ["Qwen2MoeForCausalLM"]}, "qwen2_moe"),
    ({"model_type": "gemma", "architectures": ["GemmaForCausalLM"]}, "gemma"),
    ({"model_type": "no\nsuch\u0000", "architectures": ["X"]}, "no"),
    ({"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification"),
    ({"hidden_act": "gelu"}, "hidden_act"),
    ({"hidden_act": None}, "hidden_act"),
    ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}}, "yarn"),
    ({"rope_scaling": {"type": "dynamic", "factor": 4.0}}, "dynamic"),
    ({"rope_scaling": {"rope_type": "longrope", "long_factor": [1, 1], "short_factor": [1, 1]}}, "longrope"),
    ({"rope_parameters": {"rope_type": "su", "rope_theta": 10000.0}}, "su"),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ({"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
    ({"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 64}, "sliding_window"),
    ({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "use_sliding_window": True, "sliding_window": 64, "max_window_layers": 0}, "sliding_window"),
    ({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "layer_types": ["sliding_attention"], "sliding_window": 64, "use_sliding_window": True}, "sliding"),
    ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantization_config"),
    ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
    ({"some_new_multiplier": 12.0}, "some_new_multiplier"),
], ids=lambda c: str(c)[:60])
def test_unsupported_is_refused_by_name(not_ingested, good, changes, named):
    change_config(good, changes)
    error = not_ingested("0A000", good)
    assert named in f"{error.diag.message_primary} {error.diag.message_detail} {error.diag.message_hint}"


def test_enormous_context(conn, good):
    """The context length is a bound, not a reservation."""
    change_config(good, {"max_position_embeddings": 2 ** 28})
    conn.execute("CALL hart.ingest_model(%s)", [str(good)])
    assert conn.one("SELECT hart.generate('x', 3, 'bad')") is not None
    conn.execute("CALL hart.drop_model('bad')")


# Tensors ------------------------------------------------------------------------------------------

def rewrite(path, change):
    """Pass the tensors of a file, {name: (dtype, shape, bytes)}, through a change."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8:8 + length])
    header.pop("__metadata__", None)
    tensors = {n: (t["dtype"], t["shape"], raw[8 + length + t["data_offsets"][0]:8 + length + t["data_offsets"][1]]) for n, t in header.items()}
    change(tensors)
    path.write_bytes(models.safetensors_header([(n, d, s, len(b)) for n, (d, s, b) in tensors.items()]) + b"".join(b for _, _, b in tensors.values()))


TENSORS = [n for n, _ in models.tensor_shapes(GOOD)]


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

def change_index(path, change):
    index = json.loads((path / "model.safetensors.index.json").read_text())
    change(index)
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


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
