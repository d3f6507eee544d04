"""Rows of logits and options to sample with, for the tests and for make_sampling_goldens.py."""
import hashlib

import numpy as np

PROMPT, TOKENS, ENDING = [3, 7, 7, 11, 40], [5, 7, 5, 90, 5], [2, 17]


def logits(name, n=120):
    """A row by its name: `normal` has no equal numbers, `ties` many."""
    steps = np.frombuffer(hashlib.shake_128(name.encode()).digest(8 * n), "<u2").reshape(n, 4).astype(np.float64).sum(axis=1)
    row = (steps / 65536 - 2) * 4                       # a sum of four uniform numbers: near enough to a normal one
    return (np.round(row) if name.startswith("ties") else row).astype(np.float32)


ALONE = [{}, {"temperature": 1.0}, {"temperature": 0.3}, {"temperature": 2.5}, *({"temperature": 1.0, **o} for o in (
    {"top_k": 1}, {"top_k": 7}, {"top_k": 119}, {"top_k": 500},
    {"top_p": 0.1}, {"top_p": 0.5}, {"top_p": 0.9}, {"top_p": 0.999}, {"top_p": 0.0001},
    {"min_p": 0.02}, {"min_p": 0.3}, {"min_p": 1.0},
    {"typical_p": 0.2}, {"typical_p": 0.6}, {"typical_p": 0.95}, {"typical_p": 0.01},
    {"repetition_penalty": 1.3}, {"repetition_penalty": 0.7}, {"repetition_penalty": 5.0},
    {"logit_bias": {"3": 4.5, "60": -100, "61": 100}}, {"logit_bias": {"3": False, "4": -1}},
    {"min_tokens": 6}, {"min_tokens": 5})), {"repetition_penalty": 1.8}, {"logit_bias": {"99": 50}}]
TOGETHER = [
    {"temperature": 0.7, "top_k": 40, "top_p": 0.9},
    {"temperature": 1.4, "top_k": 30, "min_p": 0.05, "typical_p": 0.9},
    {"temperature": 0.8, "top_p": 0.95, "min_p": 0.05, "repetition_penalty": 1.1},
    {"temperature": 1.2, "top_p": 0.8, "typical_p": 0.7, "logit_bias": {"5": 6, "11": False}, "repetition_penalty": 2.0},
    {"temperature": 0.9, "top_k": 50, "top_p": 0.92, "min_p": 0.02, "typical_p": 0.85, "repetition_penalty": 1.2, "min_tokens": 9,
     "logit_bias": {"7": 3, "2": 20, "17": 20}},
]
CASES = [{"logits": row, "options": o, "prompt": PROMPT, "tokens": TOKENS, "ending": ENDING} for row in ("normal", "ties") for o in ALONE + TOGETHER]
