"""Token ids of a large real tokenizer, beside a small model."""
import json
import shutil

import pytest
import tokenizers

import models


@pytest.fixture(scope="module")
def qwen(db, data, scratch):
    m = models.Model("qwen_tokens", dim=8, hidden=8, layers=1, heads=1, kv_heads=1, head_dim=8, vocab=151936, dtypes="BF16", tied=True)
    models.write_model(scratch / m.name, m, m.name)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(data / "qwen2.5-tokenizer" / name, scratch / m.name / name)
    with db.connect() as session:
        session.execute("CALL hart.ingest_model(%s)", [str(scratch / m.name)])
        yield m.name
        session.execute("CALL hart.drop_model(%s)", [m.name])


def test_expected_ids(conn, qwen, data):
    entries = json.loads((data / "qwen2.5-tokenizer" / "expected.json").read_text())["entries"]
    assert entries
    for name, entry in entries.items():
        assert conn.one("SELECT hart.tokenize(%s, %s)", entry["decoded_with_special"], qwen) == entry["input_ids"], name
        assert conn.one("SELECT hart.detokenize(%s::int[], %s)", entry["input_ids"], qwen) == entry["decoded_skip_special"], name


@pytest.mark.parametrize("text", [
    "", " ", "\n\n \t  x", "<|im_start|>user\nHi<|im_end|>\n<|endoftext|>", "<|im_start", "a\u0301 \ufdfa \U0001f9ff\u200d \ue000",
    "word " * 5000, "\\' $1 %s {}"], ids=["empty", "space", "white", "special", "half", "marks", "long", "quoting"])
def test_ids_are_the_librarys(conn, qwen, data, text):
    library = tokenizers.Tokenizer.from_file(str(data / "qwen2.5-tokenizer" / "tokenizer.json"))
    ids = library.encode(text).ids
    assert conn.one("SELECT hart.tokenize(%s, %s)", text, qwen) == ids
    assert conn.one("SELECT hart.detokenize(%s::int[], %s)", ids, qwen) == library.decode(ids)


def test_truncation_and_padding_are_ignored(db, conn, folders, folder):
    """A tokenizer file may carry the settings of the training run that wrote it."""
    shutil.copytree(folders("llama_f32"), folder / "truncating")
    path = folder / "truncating" / "tokenizer.json"
    settings = json.loads(path.read_text())
    settings["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    settings["padding"] = {"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                           "pad_type_id": 0, "pad_token": "<unk>"}
    path.write_text(json.dumps(settings))
    text = "longer than four tokens"
    expected = conn.one("SELECT hart.tokenize(%s, %s)", text, db.model("llama_f32"))
    conn.execute("CALL hart.ingest_model(%s)", [str(folder / "truncating")])
    try:
        assert conn.one("SELECT hart.tokenize(%s, 'truncating')", text) == expected
    finally:
        conn.execute("CALL hart.drop_model('truncating')")
