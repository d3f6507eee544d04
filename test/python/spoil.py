"""Small good models, and ways to spoil their files."""
import json
import struct

import models

GOOD = models.Model("good", dim=16, hidden=24, layers=1, heads=2, kv_heads=1, head_dim=8, vocab=101, tied=True)
SHARDED = models.Model("sharded", dim=16, hidden=24, layers=1, heads=2, kv_heads=1, head_dim=8, vocab=101, tied=True, shards=2)
TENSORS = [n for n, _ in models.tensor_shapes(GOOD)]


def change_config(path, changes, drop=()):
    config = json.loads((path / "config.json").read_text()) | changes
    (path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k not in drop}))


def rewrite(path, change):
    """Pass the tensors of a file, {name: (dtype, shape, bytes)}, through a change."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8:8 + length])
    header.pop("__metadata__", None)
    tensors = {n: (t["dtype"], t["shape"], raw[8 + length + t["data_offsets"][0]:8 + length + t["data_offsets"][1]]) for n, t in header.items()}
    change(tensors)
    path.write_bytes(models.safetensors_header([(n, d, s, len(b)) for n, (d, s, b) in tensors.items()]) + b"".join(b for _, _, b in tensors.values()))


def change_index(path, change):
    index = json.loads((path / "model.safetensors.index.json").read_text())
    change(index)
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
