"""safetensors files: valid ones are located exactly, all others are refused."""

import hashlib
import json
import os
import pathlib
import struct

import pytest
from hartonomous_server import checkpoint
from hartonomous_server.checkpoint import INDEX, SINGLE, ShardReader, read_checkpoint

from samples import random_tensors, write_safetensors

TENSORS = {"b": ("F32", (3, 5), bytes(range(60))), "a": ("BF16", (0,), b""), "c": ("F16", (), b"xy")}


@pytest.fixture
def single(tmp_path):
    write_safetensors(tmp_path / SINGLE, TENSORS)
    return tmp_path


def write_shards(folder, parts, weight_map=None):
    names = [f"model-{i}.safetensors" for i in range(len(parts))]
    for name, tensors in zip(names, parts):
        write_safetensors(folder / name, tensors)
    if weight_map is None:
        weight_map = {tensor: name for name, tensors in zip(names, parts) for tensor in tensors}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return names


def test_located(single):
    (shard,) = read_checkpoint(str(single))
    raw = (single / SINGLE).read_bytes()
    assert shard.header + b"".join(raw[t.offset : t.offset + t.size] for t in shard.tensors) == raw
    assert {t.name: (t.dtype, t.shape, raw[t.offset : t.offset + t.size]) for t in shard.tensors} == TENSORS
    assert [t.elements for t in shard.tensors] == [15, 0, 1]


@pytest.mark.parametrize("size", [1, 7, 8064, 1 << 20])
def test_read_once(single, size):
    (shard,) = read_checkpoint(str(single))
    with ShardReader(shard) as reader:
        content = [b"".join(reader.chunks(tensor, size)) for tensor in shard.tensors]
        assert content == [TENSORS[tensor.name][2] for tensor in shard.tensors]
        assert reader.finish() == hashlib.sha256((single / SINGLE).read_bytes()).digest()


def test_metadata_is_no_tensor(tmp_path):
    raw = json.dumps(
        {"__metadata__": {"format": "pt"}, "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    ).encode()
    (tmp_path / SINGLE).write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(4))
    assert [tensor.name for tensor in read_checkpoint(str(tmp_path))[0].tensors] == ["a"]


def test_duplicate_key(tmp_path, refused):
    raw = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (tmp_path / SINGLE).write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(4))
    with refused("22P04", '"a"'):
        read_checkpoint(str(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b[:-1],
        lambda b: b + b"\0",
        lambda b: b[:7],
        lambda b: b[:8],
        lambda b: b[:20],
        lambda b: b"",
        lambda b: struct.pack("<Q", 0) + b[8:],
        lambda b: struct.pack("<Q", 1 << 40) + b[8:],
        lambda b: b"\xff" * 8 + b[8:],
    ],
)
def test_cut(single, refused, change):
    path = single / SINGLE
    path.write_bytes(change(path.read_bytes()))
    with refused("22P04", SINGLE):
        read_checkpoint(str(single))


BAD = pathlib.Path(os.environ.get("HART_TEST_DATA", "")) / "bad-safetensors" / "MANIFEST.tsv"
CASES = [line.split("\t") for line in BAD.read_text().splitlines()[1:]] if BAD.is_file() else []


@pytest.mark.parametrize("name, verdict", [(case[0], case[2]) for case in CASES])
def test_like_the_reference_reader(tmp_path, data, refused, name, verdict):
    (tmp_path / SINGLE).write_bytes((data / "bad-safetensors" / name).read_bytes())
    if verdict.startswith("ACCEPT"):
        assert len(read_checkpoint(str(tmp_path))[0].tensors) == int(verdict.split()[1])
    else:
        with refused("22P04", SINGLE):
            read_checkpoint(str(tmp_path))


def test_changed_meanwhile(single, refused):
    (shard,) = read_checkpoint(str(single))
    reader = ShardReader(shard)
    path = single / SINGLE
    with path.open("ab") as file:
        file.write(b"more")
    with refused("58030", "changed"):
        reader.finish()
    with refused("58030", "changed"):
        ShardReader(shard)
    reader.close()


def test_cut_meanwhile(single, refused):
    (shard,) = read_checkpoint(str(single))
    with ShardReader(shard) as reader:
        os.truncate(single / SINGLE, shard.size - 10)
        with refused("58030", "changed"):
            for tensor in shard.tensors:
                list(reader.chunks(tensor, 8064))


def test_no_checkpoint(tmp_path, refused):
    with refused("58P01", SINGLE, INDEX):
        read_checkpoint(str(tmp_path))


def test_not_a_regular_file(tmp_path, refused):
    os.mkfifo(tmp_path / SINGLE)
    with refused("58030", "regular"):
        read_checkpoint(str(tmp_path))


def test_shards(tmp_path):
    parts = [random_tensors({"a": (2, 3)}), random_tensors({"c": (1,), "b": (4,)}, 1)]
    names = write_shards(tmp_path, parts)
    shards = read_checkpoint(str(tmp_path))
    assert [shard.name for shard in shards] == names
    assert [tensor.name for shard in shards for tensor in shard.tensors] == ["a", "c", "b"]


def test_shard_missing(tmp_path, refused):
    names = write_shards(tmp_path, [random_tensors({"a": (1,)}), random_tensors({"b": (1,)})])
    (tmp_path / names[1]).unlink()
    with refused("58P01", names[1]):
        read_checkpoint(str(tmp_path))


def test_same_tensor_twice(tmp_path, refused):
    write_shards(
        tmp_path,
        [random_tensors({"a": (1,)}), random_tensors({"a": (1,), "b": (1,)})],
        {"a": "model-0.safetensors", "b": "model-1.safetensors"},
    )
    with refused("22023", '"a"', "model-0.safetensors", "model-1.safetensors"):
        read_checkpoint(str(tmp_path))


@pytest.mark.parametrize(
    "weight_map",
    [
        {"a": "model-0.safetensors"},
        {"a": "model-0.safetensors", "b": "model-0.safetensors"},
        {"a": "model-1.safetensors", "b": "model-0.safetensors"},
        {"a": "model-0.safetensors", "b": "model-1.safetensors", "x": "model-1.safetensors"},
    ],
    ids=str,
)
def test_index_disagrees(tmp_path, refused, weight_map):
    write_shards(tmp_path, [random_tensors({"a": (1,)}), random_tensors({"b": (1,)})], weight_map)
    if set(weight_map.values()) == {"model-0.safetensors"} and "b" not in weight_map:
        # A file that the index does not name is not part of the checkpoint.
        assert [tensor.name for tensor in read_checkpoint(str(tmp_path))[0].tensors] == ["a"]
        return
    with refused("22023", "disagree"):
        read_checkpoint(str(tmp_path))


@pytest.mark.parametrize(
    "name",
    [
        "../x.safetensors",
        "/etc/x.safetensors",
        "a/b.safetensors",
        "..",
        "",
        "config.json",
        "a\\b.safetensors",
        "a\0.safetensors",
        5,
        None,
        ["x"],
    ],
    ids=str,
)
def test_index_reaches_nothing_else(tmp_path, refused, name):
    write_shards(tmp_path, [random_tensors({"a": (1,)})], {"a": name})
    with refused("22P04", INDEX):
        read_checkpoint(str(tmp_path))


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": []}', '{"weight_map": "x"}']
)
def test_bad_index(tmp_path, refused, content):
    (tmp_path / INDEX).write_text(content)
    with refused("22P04", INDEX):
        read_checkpoint(str(tmp_path))


def test_header_limit_is_checked_before_reading(tmp_path, refused, monkeypatch):
    monkeypatch.setattr(checkpoint, "MAX_HEADER", 10)
    write_safetensors(tmp_path / SINGLE, TENSORS)
    with refused("22P04", "header"):
        read_checkpoint(str(tmp_path))
