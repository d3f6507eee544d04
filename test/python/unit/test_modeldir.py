"""A model's directory as a whole: everything that can be wrong is found before anything is written."""

import json
import os

import pytest
from hartonomous_server.checkpoint import INDEX, SINGLE
from hartonomous_server.config import parse_config
from hartonomous_server.modeldir import as_json, read_model
from hartonomous_server.tensors import EMBEDDING, HEAD, expected_shapes

from samples import TOKENIZER, random_tensors, write_safetensors


def rewrite(folder, change, **config):
    """Write the checkpoint anew, its tensors passed through a change."""
    settings = json.loads((folder / "config.json").read_text()) | config
    tensors = random_tensors(expected_shapes(parse_config(settings)))
    change(tensors)
    write_safetensors(folder / SINGLE, tensors)


def test_described(model_folder):
    folder = model_folder()
    model = read_model(str(folder))
    description = as_json(model)
    json.dumps(description)
    assert (description["architecture"], description["dim"], description["parameters"]) == ("llama", 8, 1040)
    assert description["source_bytes"] == (folder / SINGLE).stat().st_size
    assert [t["tensor_id"] for t in description["tensors"]] == list(range(1, 21))
    embedding = next(t for t in description["tensors"] if t["name"] == EMBEDDING)
    assert (embedding["shape"], embedding["dtype"], embedding["bytes"], embedding["n_tiles"]) == ([5, 8], "F32", 160, 1)
    assert sum(t["bytes"] for t in description["tensors"]) + len(model.shards[0].header) == description["source_bytes"]
    assert set(model.small_files) == {"config.json", "tokenizer.json"} and model.warnings == []


def test_tiles_are_counted_up(model_folder):
    folder = model_folder(vocab_size=8064 // 32 + 1)
    embedding = next(t for t in as_json(read_model(str(folder)))["tensors"] if t["name"] == EMBEDDING)
    assert embedding["bytes"] == 8064 + 32 and embedding["n_tiles"] == 2


def test_small_files_are_kept(model_folder):
    folder = model_folder()
    for name in ("tokenizer_config.json", "generation_config.json"):
        (folder / name).write_text("{}")
    (folder / "merges.txt").write_bytes(b"\xff\0not text")
    (folder / "README.md").write_text("not kept")
    kept = read_model(str(folder)).small_files
    assert kept["merges.txt"] == b"\xff\0not text" and len(kept) == 5 and "README.md" not in kept


def test_symbolic_links(model_folder, tmp_path):
    """As in the cache of huggingface_hub."""
    folder = model_folder()
    (folder / SINGLE).rename(tmp_path / "blob")
    (folder / SINGLE).symlink_to("../blob")
    assert read_model(str(folder)).shards


def test_names_that_are_not_ascii(model_folder):
    folder = model_folder()
    other = folder.rename(folder.parent / "mödel ✓")
    assert read_model(str(other)).path == str(other)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", SINGLE])
def test_file_missing(model_folder, refused, name):
    folder = model_folder()
    (folder / name).unlink()
    with refused("58P01", name):
        read_model(str(folder))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", SINGLE, "generation_config.json"])
def test_folder_in_its_place(model_folder, refused, name):
    folder = model_folder()
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    with refused("58030", name):
        read_model(str(folder))


def test_no_such_folder(tmp_path, refused):
    with refused("58P01", "nothing"):
        read_model(str(tmp_path / "nothing"))


def test_path_of_a_file(model_folder, refused):
    with refused("58030", "not a directory"):
        read_model(str(model_folder() / "config.json"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable(model_folder, refused):
    folder = model_folder()
    (folder / "config.json").chmod(0)
    with refused("42501", "config.json"):
        read_model(str(folder))


def test_endless_file(model_folder, refused):
    folder = model_folder()
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("/dev/zero")
    with refused("58030", "config.json"):
        read_model(str(folder))


def test_file_too_large(model_folder, refused):
    folder = model_folder()
    os.truncate(folder / "tokenizer.json", (100 << 20) + 1)
    with refused("54000", "tokenizer.json"):
        read_model(str(folder))


BAD_JSON = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"1",
    b"\xff\xfe{\0",
    b"{}\0",
    b'{"a": NaN}',
    b'{"a": Infinity}',
    b"[" * 100000,
    b'{"a":1,"a":2}',
    b"1" * 5000,
]


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("content", BAD_JSON, ids=lambda b: str(b[:12]))
def test_not_json(model_folder, refused, name, content):
    folder = model_folder()
    (folder / name).write_bytes(content)
    with refused("22P04", name):
        read_model(str(folder))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b'{"model": 5}'])
def test_bad_tokenizer(model_folder, refused, content):
    folder = model_folder()
    (folder / "tokenizer.json").write_bytes(content)
    with refused("22P04", "tokenizer.json"):
        read_model(str(folder))


def test_tokenizer_larger_than_the_model(model_folder):
    tokenizer = json.loads(json.dumps(TOKENIZER))
    tokenizer["added_tokens"][0]["id"] = 5
    tokenizer["model"]["vocab"]["d"] = 5
    tokenizer["added_tokens"] = []
    folder = model_folder()
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (warning,) = read_model(str(folder)).warnings
    assert "up to 5" in warning and "5 tokens" in warning


# Tensors that do not fit config.json --------------------------------------------------------------


@pytest.mark.parametrize("name", [EMBEDDING, "model.layers.1.mlp.down_proj.weight", "model.norm.weight"])
def test_tensor_missing(model_folder, refused, name):
    folder = model_folder()
    rewrite(folder, lambda tensors: tensors.pop(name))
    with refused("22023", name, "missing"):
        read_model(str(folder))


@pytest.mark.parametrize(
    "name",
    ["extra", "model.layers.2.mlp.up_proj.weight", "model.layers.0.self_attn.q_proj.bias", "a\nb\0", "x" * 100000],
)
def test_tensor_too_many(model_folder, refused, name):
    folder = model_folder()
    rewrite(folder, lambda tensors: tensors.update({name: ("F32", (1,), bytes(4))}))
    with refused("22023", "not part of"):
        read_model(str(folder))


@pytest.mark.parametrize("shape", [(8, 5), (40,), (5, 8, 1), (5, 4)])
def test_wrong_shape(model_folder, refused, shape):
    folder = model_folder()
    size = 4
    for extent in shape:
        size *= extent
    rewrite(folder, lambda tensors: tensors.update({EMBEDDING: ("F32", shape, bytes(size))}))
    with refused("22023", EMBEDDING, str(list(shape)), "[5, 8]"):
        read_model(str(folder))


@pytest.mark.parametrize("dtype, width", [("F64", 8), ("I32", 4), ("I8", 1), ("U8", 1), ("BOOL", 1), ("F8_E4M3", 1)])
def test_wrong_dtype(model_folder, refused, dtype, width):
    folder = model_folder()
    rewrite(folder, lambda tensors: tensors.update({EMBEDDING: (dtype, (5, 8), bytes(40 * width))}))
    with refused("0A000", EMBEDDING, dtype):
        read_model(str(folder))


def test_mixed_dtypes(model_folder):
    folder = model_folder()
    rewrite(
        folder,
        lambda tensors: tensors.update(
            {EMBEDDING: ("BF16", (5, 8), bytes(80)), "model.norm.weight": ("F16", (8,), bytes(16))}
        ),
    )
    assert {tensor.dtype for tensor in read_model(str(folder)).tensors} == {"F32", "F16", "BF16"}


def test_buffers_of_old_versions(model_folder):
    """Kept for the export, not counted as weights."""
    folder = model_folder()
    plain = as_json(read_model(str(folder)))
    rewrite(
        folder,
        lambda tensors: tensors.update({"model.layers.0.self_attn.rotary_emb.inv_freq": ("F32", (2,), bytes(8))}),
    )
    with_buffer = as_json(read_model(str(folder)))
    assert len(with_buffer["tensors"]) == len(plain["tensors"]) + 1
    assert with_buffer["parameters"] == plain["parameters"]


def test_head_missing(model_folder, refused):
    folder = model_folder(tie_word_embeddings=False)
    rewrite(folder, lambda tensors: tensors.pop(HEAD))
    with refused("22023", HEAD):
        read_model(str(folder))


@pytest.mark.parametrize("same", [True, False])
def test_head_beside_tied_embeddings(model_folder, refused, same):
    """The same matrix twice is fine; another one means that config.json is wrong."""
    folder = model_folder()

    def change(tensors):
        dtype, shape, content = tensors[EMBEDDING]
        tensors[HEAD] = (dtype, shape, content if same else content[::-1])

    rewrite(folder, change)
    if same:
        assert as_json(read_model(str(folder)))["parameters"] == 1040
    else:
        with refused("22023", HEAD, EMBEDDING):
            read_model(str(folder))


def test_shards(model_folder):
    folder = model_folder()
    tensors = random_tensors(expected_shapes(parse_config(json.loads((folder / "config.json").read_text()))))
    names = sorted(tensors)
    parts = {"x-1.safetensors": names[:9], "x-2.safetensors": names[9:]}
    for file, part in parts.items():
        write_safetensors(folder / file, {name: tensors[name] for name in part})
    (folder / SINGLE).unlink()
    (folder / INDEX).write_text(
        json.dumps({"weight_map": {name: file for file, part in parts.items() for name in part}})
    )
    model = read_model(str(folder))
    assert [t["file"] for t in as_json(model)["tensors"]] == ["x-1.safetensors"] * 9 + ["x-2.safetensors"] * 11
    assert INDEX in model.small_files
