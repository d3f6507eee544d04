"""Write goldens/tiny.json: what transformers answers for the models of models.py.

usage: make_goldens.py [MODEL ...]     (all models, or those named: the others are kept as they are)

Needs torch and transformers besides requirements.txt. For every model it looks for the first seed whose greedy answers
are unambiguous: no step with the two best logits closer than MIN_GAP (1e-4 would be a tie in float32), no end-of-text
token, not one token over and over, and positions that matter.
"""
import json
import pathlib
import sys
import tempfile

import numpy as np
import tokenizers
import torch
import transformers

import models
import reference

GOLDENS = pathlib.Path(__file__).resolve().parent / "goldens" / "tiny.json"
NEW_TOKENS = 24
MIN_GAP = 2e-3
TEXT = "The database answers that"


def rounded(values):
    """Floats short enough to commit, seven digits."""
    return [float(f"{v:.7g}") for v in values]


def sampled(row):
    """All logits of a small vocabulary; of a large one the 16 best and every 757th."""
    kept = {"max_abs": float(np.abs(row).max())}
    if row.size <= 1000:
        return kept | {"logits": rounded(row)}
    ids = sorted({*range(0, row.size, 757), *np.argsort(row)[-16:].tolist()})
    return kept | {"ids": ids, "logits": rounded(row[ids])}


def case(net, m, length):
    """One prompt of the given length, or the reason why this seed does not do."""
    ids = models.prompt_ids(m, length)
    new, row, gap = reference.greedy(net, ids, NEW_TOKENS if m.vocab <= 1000 else 8)
    if gap < MIN_GAP:
        raise ValueError(f"gap {gap:.1g} after {length} tokens")
    if models.EOS in new:
        raise ValueError(f"end of text after {length} tokens")
    if len(set(new)) < len(new) // 3:
        raise ValueError(f"repeats itself after {length} tokens")
    if length == max(m.lengths):
        still = reference.logits(net, ids, position_ids=torch.zeros(1, length, dtype=torch.long))
        if np.abs(still - row).max() < 0.05 * np.abs(row).max():
            raise ValueError("positions do not matter")
    return {"length": length, "greedy": new, "min_gap": float(f"{gap:.3g}"), **sampled(row)}


def text_case(net, m, folder):
    """A prompt given as text and its continuation as text."""
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = tokenizer.encode(TEXT).ids
    new, _, gap = reference.greedy(net, ids, 12)
    if gap < MIN_GAP or any(i < 3 or i >= tokenizer.get_vocab_size() for i in new):
        raise ValueError("the text has special or unknown tokens, or a tie")
    return {"prompt": TEXT, "ids": ids, "greedy": new, "text": tokenizer.decode(new)}


def golden(m):
    """Everything known about one model, at the first seed that does."""
    for seed in range(1000):
        with tempfile.TemporaryDirectory() as t:
            folder = pathlib.Path(t)
            sums = models.write_model(folder, m, f"{m.weights_of or m.name}/{seed}")
            net = reference.load(folder)
            try:
                done = {"seed": seed, "sha256": sums, "cases": [case(net, m, n) for n in m.lengths]}
                # Most tokens of a large vocabulary are none of its tokenizer's: no text.
                return done if m.vocab > 1000 else done | {"text": text_case(net, m, folder)}
            except ValueError as why:
                print(f"  {m.name} seed {seed}: {why}", flush=True)
    raise SystemExit(f"no seed for {m.name}")


def main():
    wanted = sys.argv[1:] or list(models.BY_NAME)
    done = json.loads(GOLDENS.read_text())["models"] if GOLDENS.exists() and sys.argv[1:] else {}
    for name in wanted:
        done[name] = golden(models.BY_NAME[name])
        print(name, "seed", done[name]["seed"], "gap", min(c["min_gap"] for c in done[name]["cases"]), flush=True)
    body = ",\n".join(f"{json.dumps(n)}: {json.dumps(done[n], separators=(',', ':'))}" for n in models.BY_NAME if n in done)
    GOLDENS.write_text(f'{{"made_by": {json.dumps(reference.VERSIONS)},\n"models": {{\n{body}\n}}}}\n')


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    main()
