"""Some hundred spoilt checkpoints: each is a proper error or a proper model, never a crash, and leaves nothing."""
import json
import random
import struct

import psycopg
import pytest

import models

M = models.Model("fuzz", dim=8, hidden=8, layers=1, heads=1, kv_heads=1, head_dim=8, vocab=101, dtypes="BF16", tied=True)
# Everything that says what is wrong with the files; an internal or a stray Python error is none of it.
PROPER = {"22P04", "22023", "0A000", "54000", "58P01", "58030", "22004"}
VALUES = [-1, 0, 1, 2 ** 31, 2 ** 63, 2 ** 64, 1e308, "", "F32", "x\0", None, True, [], {}, [-1], [0, 2 ** 64], {"a": 1}]


def mutated_bytes(rng, raw):
    """Some bytes changed, removed, repeated or cut off."""
    raw = bytearray(raw)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(len(raw)) if raw else 0
        kind = rng.randrange(5)
        if kind == 0 and raw:
            raw[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            raw[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 2:
            del raw[at:at + rng.randrange(1, 9)]
        elif kind == 3:
            raw[at:at] = raw[at:at + rng.randrange(1, 40)]
        elif rng.random() < 0.3:
            del raw[at:]
    return bytes(raw)


def mutated_json(rng, value):
    """One value somewhere in a JSON tree replaced, removed or renamed."""
    value = json.loads(json.dumps(value))
    node, path = value, []
    while isinstance(node, (dict, list)) and node and (not path or rng.random() < 0.7):
        key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
        path.append((node, key))
        node = node[key]
    parent, key = path[-1]
    kind = rng.randrange(3)
    if kind == 0 and isinstance(parent, dict):
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):
        parent[str(key) + rng.choice(["x", "\0", ".weight"])] = parent.pop(key)
    else:
        parent[key] = rng.choice(VALUES)
    return value


def spoil(rng, folder, header, blob):
    """Write one spoilt version of the model's files."""
    text, config = header
    raw_header = json.dumps(text).encode()
    what = rng.randrange(5)
    if what == 0:
        raw_header = mutated_bytes(rng, raw_header)
    elif what == 1:
        raw_header = json.dumps(mutated_json(rng, text)).encode()
    length = len(raw_header) if what != 2 or rng.random() < 0.5 else rng.choice([0, 1, len(raw_header) + 1, 2 ** 32, 2 ** 63, 2 ** 64 - 1])
    raw = struct.pack("<Q", length) + raw_header + blob
    if what == 2:
        raw = mutated_bytes(rng, raw)
    (folder / "model.safetensors").write_bytes(raw)
    raw_config = json.dumps(config).encode()
    if what == 3:
        raw_config = mutated_bytes(rng, raw_config)
    elif what == 4:
        raw_config = json.dumps(mutated_json(rng, config)).encode()
    (folder / "config.json").write_bytes(raw_config)


@pytest.mark.parametrize("seed", range(4))
def test_spoilt_models(conn, folder, nothing_left, seed):
    models.write_model(folder, M, 0)
    raw = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8:8 + length]), models.config_json(M)
    rng = random.Random(seed)
    outcomes = {}
    conn.execute("SET statement_timeout = '20s'")
    for n in range(100):
        spoil(rng, folder, header, raw[8 + length:])
        try:
            conn.execute("CALL hart.ingest_model(%s, 'fuzz')", [str(folder)])
        except psycopg.Error as error:
            outcome = error.sqlstate
            assert outcome in PROPER, f"round {n}: {outcome} {error}"
            assert error.diag.message_hint, f"round {n}: no hint: {error}"
        else:
            outcome = "model"
            logits = conn.one("SELECT hart.logits(ARRAY[5], 'fuzz')")
            assert len(logits) == M.vocab
            conn.execute("CALL hart.drop_model('fuzz')")
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    nothing_left(conn)
    assert len(outcomes) > 2, outcomes
