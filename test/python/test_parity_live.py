"""The same models against the transformers that is installed here, and the shape of Qwen2.5-0.5B.

Skipped without torch and transformers. HART_PARITY_FULL=1 gives the large one all its 24 layers.
"""
import dataclasses
import os
import pathlib

import numpy as np
import pytest

import models
from answers import TOLERANCE, generate_ids, logits

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
reference = pytest.importorskip("reference")
torch.set_num_threads(2)


def assert_parity(session, name, net, ids, count):
    """Logits within the tolerance, greedy ids equal as far as the reference itself is sure of them."""
    expected = reference.logits(net, ids)
    got = np.array(logits(session, name, ids), np.float32)
    difference = got - expected
    assert np.linalg.norm(difference) <= TOLERANCE * np.linalg.norm(expected)
    assert np.abs(difference).max() <= TOLERANCE * np.abs(expected).max()
    new = generate_ids(session, name, ids, count)
    for step, token in enumerate(new):
        row = reference.logits(net, ids + new[:step])
        best = int(row.argmax())
        # Where the two best differ by less than float32 noise either is right; go on from the one chosen.
        assert token == best or row[best] - row[token] < 1e-4


@pytest.mark.parametrize("name", [m.name for m in models.TINY])
def test_tiny_models(db, conn, folders, name):
    net = reference.load(folders(name))
    for length in (1, 64, 200):
        assert_parity(conn, db.model(name), net, models.prompt_ids(models.BY_NAME[name], length), 12)


@pytest.mark.parametrize("name", ["llama_rope3_scaling", "llama_rope3_parameters", "llama_rope_linear", "llama_rope_default", "llama_minimal", "qwen3_f32"])
def test_inverse_frequencies(db, conn, folders, name):
    """The angles are those of transformers to the last bit or two."""
    net = reference.load(folders(name))
    got = conn.one("SELECT rope_inv_freq FROM hart.model_registry WHERE name = %s", db.model(name))
    np.testing.assert_allclose(np.array(got, np.float32), net.model.rotary_emb.inv_freq.numpy(), rtol=3e-7)


def test_random_seeds(conn, scratch):
    """A few models that nobody has chosen."""
    for seed in range(6):
        family = ["llama", "mistral", "qwen2", "qwen3"][seed % 4]
        kv = 1 + seed % 3
        m = models.Model(f"any_{seed}", family, dim=kv * 12, hidden=30 + 7 * seed, layers=1 + seed % 3, heads=kv * 2, kv_heads=kv,
                         head_dim=6 if family == "qwen2" else 6 + 2 * seed, vocab=120 + seed, dtypes=["F32", "F16", "BF16"][seed % 3],
                         tied=bool(seed % 2), config={"sliding_window": None} if family == "mistral" else {})
        models.write_model(scratch / m.name, m, f"any/{seed}")
        conn.execute("CALL hart.ingest_model(%s)", [str(scratch / m.name)])
        assert_parity(conn, m.name, reference.load(scratch / m.name), models.prompt_ids(m, 40), 10)
        conn.execute("CALL hart.drop_model(%s)", [m.name])


def test_qwen_shape(db, conn, folders, scratch):
    """Dimensions, spread of the weights and number of layers of Qwen2.5-0.5B."""
    full = os.environ.get("HART_PARITY_FULL") == "1"
    if full:
        m = dataclasses.replace(models.QWEN_SHAPE, name="qwen_full", layers=24)
        models.write_model(scratch / m.name, m, "full/0")
        conn.execute("CALL hart.ingest_model(%s)", [str(scratch / m.name)])
        source = scratch / m.name
    else:
        m, source = models.QWEN_SHAPE, folders(models.QWEN_SHAPE.name)
        db.model(m.name)
    net = reference.load(pathlib.Path(source))
    for length in (1, 33, 200):
        assert_parity(conn, m.name, net, models.prompt_ids(m, length), 16 if full else 4)
    if full:
        conn.execute("CALL hart.drop_model(%s)", [m.name])
