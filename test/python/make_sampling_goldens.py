"""Write goldens/sampling.json: what the logits processors and warpers of transformers leave of the rows of logits of sampling_cases.py.

Needs torch and transformers besides requirements.txt.
"""
import json
import pathlib

import torch
import transformers
from transformers.generation import logits_process as lp

import sampling_cases
from sampling_twin import DEFAULTS

GOLDENS = pathlib.Path(__file__).resolve().parent / "goldens" / "sampling.json"


def processors(o, case):
    """The list that transformers' generate() makes of these options, in its order."""
    n_prompt = len(case["prompt"])
    if o["logit_bias"]:
        yield lp.SequenceBiasLogitsProcessor({(int(t),): float("-inf") if b is False else float(b) for t, b in o["logit_bias"].items()})
    if o["repetition_penalty"] != 1:
        yield lp.RepetitionPenaltyLogitsProcessor(o["repetition_penalty"])
    if o["min_tokens"]:
        yield lp.MinNewTokensLengthLogitsProcessor(n_prompt, o["min_tokens"], case["ending"])
    if o["temperature"] == 0:
        return
    if o["temperature"] != 1:
        yield lp.TemperatureLogitsWarper(o["temperature"])
    if o["top_k"]:
        yield lp.TopKLogitsWarper(o["top_k"])
    if o["top_p"] < 1:
        yield lp.TopPLogitsWarper(o["top_p"])
    if o["min_p"]:
        yield lp.MinPLogitsWarper(o["min_p"])
    if o["typical_p"] < 1:
        yield lp.TypicalLogitsWarper(o["typical_p"])


def left(case):
    """[[token, probability], …] after all of them, likeliest first."""
    o = DEFAULTS | case["options"]
    x = torch.tensor(sampling_cases.logits(case["logits"]))[None]
    x = lp.LogitsProcessorList(processors(o, case))(torch.tensor([case["prompt"] + case["tokens"]]), x)[0]
    if o["temperature"] == 0:
        return [[int(x.argmax()), 1.0]]
    p = x.double().softmax(-1)
    return [[int(t), float(f"{p[t]:.7g}")] for t in p.argsort(descending=True, stable=True) if x[t] > float("-inf")]


if __name__ == "__main__":
    rows = [json.dumps(case | {"left": left(case)}, separators=(",", ":")) for case in sampling_cases.CASES]
    made_by = json.dumps(f"transformers {transformers.__version__}, torch {torch.__version__}, CPU, float32")
    GOLDENS.write_text(f'{{"made_by": {made_by},\n"cases": [\n' + ",\n".join(rows) + "\n]}\n")
