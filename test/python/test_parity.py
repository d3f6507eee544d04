"""Every family, dtype and shape against the goldens: what transformers answers in float32."""
import hashlib
import json
import shutil
import struct

import pytest

import models
from answers import GOLDENS, assert_logits, generate_ids, logits

CASES = [pytest.param(name, case, id=f"{name}-{case['length']}") for name in GOLDENS for case in GOLDENS[name]["cases"]]


@pytest.mark.parametrize("name, case", CASES)
def test_logits_and_greedy_ids(db, conn, name, case):
    model = db.model(name)
    ids = models.prompt_ids(models.BY_NAME[name], case["length"])
    assert_logits(logits(conn, model, ids), case)
    assert generate_ids(conn, model, ids, len(case["greedy"])) == case["greedy"]


@pytest.mark.parametrize("name", [n for n in GOLDENS if "text" in GOLDENS[n]])
def test_text(db, conn, name):
    text, model = GOLDENS[name]["text"], db.model(name)
    assert conn.one("SELECT hart.tokenize(%s, %s)", text["prompt"], model) == text["ids"]
    assert conn.one("SELECT hart.detokenize(%s::int[], %s)", text["greedy"], model) == text["text"]
    assert conn.one("SELECT hart.generate(%s, %s, %s)", text["prompt"], len(text["greedy"]), model) == text["text"]


@pytest.mark.parametrize("name", GOLDENS)
def test_export_is_identical(db, conn, folders, folder, name):
    target = folder / "out"
    conn.execute("CALL hart.export_model(%s, %s)", [db.model(name), str(target)])
    source = folders(name)
    assert sorted(p.name for p in target.iterdir()) == sorted(p.name for p in source.iterdir())
    for path in source.iterdir():
        assert (target / path.name).read_bytes() == path.read_bytes(), path.name
    shutil.rmtree(target)


def test_models_view(db, conn):
    name = db.model("qwen2_untied")
    m = models.BY_NAME[name]
    (row,) = conn.execute("SELECT to_jsonb(m) FROM hart.models m WHERE name = %s", [name]).fetchone()
    assert (row["architecture"], row["state"]) == ("qwen2", "ready")
    assert row["parameters"] == sum(rows * (rest[0] if rest else 1) for _, (rows, *rest) in models.tensor_shapes(m))


def edited_config(folders, folder, name, **changes):
    """A copy of a model's folder with other values in config.json."""
    target = folder / name
    shutil.copytree(folders(name), target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | changes))
    return target


@pytest.mark.parametrize("where", ["config", "config list", "generation_config"])
def test_stops_at_end_of_text(conn, folders, folder, where):
    """The end-of-text token ends the answer, wherever it is declared."""
    golden = GOLDENS["llama_bf16"]
    text = golden["text"]
    end = text["greedy"][5]
    stop = text["greedy"].index(end)
    target = edited_config(folders, folder, "llama_bf16", **(
        {"eos_token_id": {"config": end, "config list": [2, end]}[where]} if where.startswith("config") else {}))
    if where == "generation_config":
        (target / "generation_config.json").write_text(json.dumps({"eos_token_id": [end, 2]}))
    conn.execute("CALL hart.ingest_model(%s, 'ends')", [str(target)])
    try:
        new = generate_ids(conn, "ends", text["ids"], 12)
        assert new == text["greedy"][:stop + 1]
        # the token that ends a text is no part of it, whatever it spells
        said = conn.one("SELECT hart.detokenize(%s::int[], 'ends')", new[:-1])
        assert text["text"].startswith(said) and conn.one("SELECT hart.generate(%s, 12, 'ends')", text["prompt"]) == said
    finally:
        conn.execute("CALL hart.drop_model('ends')")


def test_stops_at_context_length(conn, folders, folder):
    case = GOLDENS["llama_bf16"]["cases"][2]
    ids = models.prompt_ids(models.BY_NAME["llama_bf16"], case["length"])
    target = edited_config(folders, folder, "llama_bf16", max_position_embeddings=case["length"] + 5)
    conn.execute("CALL hart.ingest_model(%s, 'short')", [str(target)])
    try:
        new = generate_ids(conn, "short", ids, 24)
        assert len(new) == 6 and new == case["greedy"][:len(new)]
    finally:
        conn.execute("CALL hart.drop_model('short')")


def test_more_tokens_than_there_is_room_for(db, conn):
    """max_tokens is a bound, however large."""
    name = db.model("llama_bf16")
    case = GOLDENS[name]["cases"][4]
    ids = models.prompt_ids(models.BY_NAME[name], case["length"])
    new = generate_ids(conn, name, ids, 2147483647)
    assert new[:24] == case["greedy"] and (new[-1] == models.EOS or len(new) == 512 - case["length"] + 1)


def test_text_with_tokens_that_the_tokenizer_does_not_know(db, conn):
    """A model's vocabulary is often rounded up; such tokens have no text."""
    assert isinstance(conn.one("SELECT hart.generate('x', 3, %s)", db.model("qwen_shape")), str)


def test_relative_paths(db, conn, folders, scratch):
    """They start in the folder that a setting names."""
    folders("llama_bf16")
    conn.execute("SELECT hart.library_version()")
    conn.execute(f"SET hart.model_directory = '{scratch}'")
    conn.execute("CALL hart.ingest_model('models/llama_bf16', 'relative')")
    (scratch / "exports").mkdir()
    (scratch / "exports").chmod(0o777)
    conn.execute("CALL hart.export_model('relative', 'exports/relative')")
    conn.execute("CALL hart.drop_model('relative')")
    assert (scratch / "exports" / "relative" / "config.json").exists()


def changed_file(folders, folder, change):
    """A copy of a model whose safetensors file passes through change(header, data) → bytes."""
    target = folder / "changed"
    shutil.copytree(folders("qwen2_tied"), target)
    raw = (target / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    (target / "model.safetensors").write_bytes(change(json.loads(raw[8:8 + length]), raw[8 + length:]))
    return target


def with_header(header, data):
    return struct.pack("<Q", len(header)) + header + data


def other_header(header, data):
    """Keys in the opposite order, spaces, an odd length: data at odd addresses."""
    text = json.dumps(dict(reversed(header.items())), indent=1).encode()
    return with_header(text + b" " * (1 - len(text) % 2), data)


def other_order(header, data):
    """Tensors in another order in the file than in its header."""
    parts, at = [], 0
    for name in sorted((n for n in header if n != "__metadata__"), key=hash_of):
        begin, end = header[name]["data_offsets"]
        parts.append(data[begin:end])
        header[name]["data_offsets"] = [at, at + end - begin]
        at += end - begin
    return with_header(json.dumps(header).encode(), b"".join(parts))


def hash_of(name):
    return hashlib.sha256(name.encode()).digest()


def with_head(header, data):
    """A tied output matrix that is in the file all the same."""
    begin, end = header["model.embed_tokens.weight"]["data_offsets"]
    header["lm_head.weight"] = {**header["model.embed_tokens.weight"], "data_offsets": [len(data), len(data) + end - begin]}
    return with_header(json.dumps(header).encode(), data + data[begin:end])


@pytest.mark.parametrize("change", [other_header, other_order, with_head])
def test_unusual_but_valid_files(conn, folders, folder, change):
    case = GOLDENS["qwen2_tied"]["cases"][2]
    ids = models.prompt_ids(models.BY_NAME["qwen2_tied"], case["length"])
    source = changed_file(folders, folder, change)
    conn.execute("CALL hart.ingest_model(%s)", [str(source)])
    try:
        assert_logits(logits(conn, "changed", ids), case)
        assert generate_ids(conn, "changed", ids, len(case["greedy"])) == case["greedy"]
        conn.execute("CALL hart.export_model('changed', %s)", [str(folder / "out")])
        assert (folder / "out" / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    finally:
        conn.execute("CALL hart.drop_model('changed')")


def test_forward_in_pieces(db, conn):
    """A prompt handed over in pieces gives the logits of the whole: the cache holds what a longer pass computes."""
    name = db.model("qwen3_mixed")
    case = GOLDENS[name]["cases"][2]
    ids = models.prompt_ids(models.BY_NAME[name], case["length"])
    conn.execute("""
        CREATE FUNCTION pg_temp.in_pieces(model text, tokens int[]) RETURNS real[] LANGUAGE plpgsql AS $$
        DECLARE
            ctx hart.context := hart.open_context(model);
        BEGIN
            PERFORM hart.forward(ctx, tokens[1:5], 0);
            PERFORM hart.forward(ctx, tokens[6:16], 5);
            RETURN hart.matrix_row(hart.forward(ctx, tokens[17:], 16), 1);
        END $$""")
    assert_logits(conn.one("SELECT pg_temp.in_pieces(%s, %s::int[])", name, ids), case)
