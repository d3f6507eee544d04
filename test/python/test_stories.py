"""stories260K, a model that has been trained and published, in its llama and its qwen2 spelling."""
import json

import pytest

from answers import assert_logits, generate_ids, logits


@pytest.fixture(scope="module", params=["stories260K", "stories260K-qwen2"])
def stories(request, db, data):
    with db.connect() as session:
        session.execute("CALL hart.ingest_model(%s)", [str(data / request.param)])
        yield request.param
        session.execute("CALL hart.drop_model(%s)", [request.param])


@pytest.fixture
def cases(stories, data):
    return json.loads((data / stories / "golden.json").read_text())["cases"]


def test_greedy_ids_and_logits(conn, stories, cases):
    assert cases
    for case in cases:
        assert conn.one("SELECT hart.tokenize(%s, %s)", case["prompt"], stories) == case["input_ids"]
        assert_logits(logits(conn, stories, case["input_ids"]), {"logits": case["last_prompt_logits"]})
        new = case["greedy_new_ids"]
        assert generate_ids(conn, stories, case["input_ids"], len(new)) == new
        text = conn.one("SELECT hart.generate(%s, %s, %s)", case["prompt"], len(new), stories)
        assert case["prompt"] + text == case["text"]


def test_published_text(conn, stories, data):
    """What llama2.c prints for an empty prompt at temperature 0."""
    published = (data / "stories260K" / "published-greedy.txt").read_text()
    text = conn.one("SELECT hart.generate('', 256, %s)", stories)
    assert text.strip() == published.strip()


def test_export_is_identical(conn, stories, data, folder):
    conn.execute("CALL hart.export_model(%s, %s)", [stories, str(folder / "out")])
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"):
        assert (folder / "out" / name).read_bytes() == (data / stories / name).read_bytes()
