"""Compare what the database answers with what is expected."""
import json
import pathlib

import numpy as np

GOLDENS = json.loads((pathlib.Path(__file__).parent / "goldens" / "tiny.json").read_text())["models"]
TOLERANCE = 1e-3        # logits: L2 and largest difference, each relative to the expected logits


def assert_logits(got, case):
    """Logits against a case of the goldens, whole or sampled."""
    got = np.array(got, np.float32)
    expected = np.array(case["logits"], np.float32)
    if "ids" in case:
        got = got[case["ids"]]
    assert got.shape == expected.shape
    assert np.isfinite(got).all()
    difference = got - expected
    assert np.linalg.norm(difference) <= TOLERANCE * np.linalg.norm(expected)
    assert np.abs(difference).max() <= TOLERANCE * case.get("max_abs", np.abs(expected).max())


def generate_ids(session, model, ids, count):
    return session.one("SELECT hart.generate_tokens(%s::int[], %s, %s)", ids, count, model)


def logits(session, model, ids):
    return session.one("SELECT hart.logits(%s::int[], %s)", ids, model)
