"""Write goldens/search.json: what transformers makes of scores and of beam search, for some models of models.py.

Needs torch and transformers besides requirements.txt. A beam search is kept only when noise of NOISE on the logits does not
change its texts, so that float32 rounding cannot; a rank only when no other logit is as close as that.
"""
import json
import pathlib
import tempfile

import numpy as np
import torch
import transformers

import models
import reference
from answers import GOLDENS

TARGET = pathlib.Path(__file__).resolve().parent / "goldens" / "search.json"
SCORED = ["llama_f32", "llama_odd", "mistral_bf16", "qwen2_tied", "qwen3_mixed"]
SEARCHED = ["llama_f32", "llama_bf16", "mistral_deep", "qwen2_tied", "qwen3_f32"]
NOISE = 3e-5
# num_beams, max_tokens, length_penalty, num_return_sequences, early_stopping, number of end-of-text tokens
SEARCHES = [(2, 10, 1.0, 1, False, 0), (4, 16, 1.0, 4, False, 1), (4, 16, 1.0, 2, True, 1), (4, 16, 1.0, 4, "never", 1), (3, 20, 2.0, 3, False, 2),
            (3, 20, 2.0, 3, "never", 2), (5, 14, -1.0, 5, False, 2), (5, 14, 0.0, 5, "never", 3), (6, 12, 0.5, 6, True, 3), (8, 1, 1.0, 8, False, 1),
            (1, 12, 1.0, 1, True, 1)]
# How many tokens come after which those that end a text are taken from: early enough to end some texts, not all.
SAMPLE = 6


def digits(values, n=7):
    return [float(f"{v:.{n}g}") for v in values]


@torch.no_grad()
def outputs(net, ids):
    """(logits, last hidden states), a row for each id, in float64."""
    done = net(torch.tensor([ids]), use_cache=False, output_hidden_states=True)
    return done.logits[0].double(), net.model(torch.tensor([ids]), use_cache=False).last_hidden_state[0].double()


def scores(net, ids, context=None):
    """[logprob, rank, entropy] of every id but the first, in windows as in Hugging Face's guide to perplexity."""
    done, context = [], context or len(ids)
    for begin in range(0, len(ids), max(context // 2, 1)):
        window = ids[begin:begin + context]
        first = 1 + len(done) - begin
        logits = outputs(net, window)[0][first - 1:len(window) - 1]
        logprobs = logits.log_softmax(-1)
        for row, p, token in zip(logits, logprobs, window[first:]):
            others = torch.cat((row[:token], row[token + 1:]))
            rank = None if (others - row[token]).abs().min() < NOISE else 1 + int((others > row[token]).sum())
            done.append([*digits([float(p[token])]), rank, *digits([float(-(p.exp() * p).sum())])])
        if begin + context >= len(ids):
            return done


def text_case(net, ids):
    """What is known of a text: perplexity, next tokens, embeddings."""
    logits, hidden = outputs(net, ids)
    best = logits[-1].log_softmax(-1).topk(5)
    pooled = {"mean": hidden.mean(0), "last": hidden[-1]}
    return {"scores": scores(net, ids), "perplexity": float(np.exp(-np.mean([s[0] for s in scores(net, ids)]))),
            "next": [[int(i), *digits([float(p)])] for i, p in zip(best.indices, best.values)],
            **{name: digits((v / v.norm()).tolist()) for name, v in pooled.items()}}


class Noise(transformers.LogitsProcessor):
    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, ids, scores):
        return scores + NOISE * torch.randn(scores.shape, generator=self.generator)


def search(net, ids, search, eos, noise=None):
    """[[new ids, score]] of transformers' beam search, best first."""
    beams, count, penalty, returned, early, _ = search
    config = transformers.GenerationConfig(
        num_beams=beams, max_new_tokens=count, length_penalty=penalty, num_return_sequences=returned, early_stopping=early, do_sample=False,
        eos_token_id=eos or None, pad_token_id=0, return_dict_in_generate=True, output_scores=True)
    done = net.generate(torch.tensor([ids]), generation_config=config, logits_processor=[] if noise is None else [Noise(noise)])
    texts = [new[:next((n for n, t in enumerate(new, 1) if t in eos), count)] for new in done.sequences[:, len(ids):].tolist()]
    if beams == 1:
        total = sum(float(row.double().log_softmax(-1)[0, token]) for row, token in zip(done.scores, texts[0]))
        return [[texts[0], *digits([total / len(texts[0]) ** penalty])]]
    return [[text, score] for text, score in zip(texts, digits(done.sequences_scores.tolist()))]


def search_case(net, m, options, start):
    """The first prompt, from a length on, whose search is unambiguous and has texts that end early."""
    for length in range(start, start + 400):
        ids = models.prompt_ids(m, length)
        free = search(net, ids, (*options[:2], 1.0, *options[3:]), [])
        seen = [t for t in dict.fromkeys(t for text, _ in free for t in text[min(2, options[1] - 1):SAMPLE]) if t > 2]
        eos = sorted(seen[:options[5]])
        if len(eos) < options[5]:
            continue
        found = search(net, ids, options, eos)
        if options[5] and options[1] > 1 and not any(len(text) < options[1] for text, _ in found):
            continue
        # of the two that differ in this alone, "never" must say something that the default does not
        if options[4] == "never" and options[2] == 1 and search(net, ids, (*options[:4], False, 0), eos) == found:
            continue
        if all([text for text, _ in search(net, ids, options, eos, noise)] == [text for text, _ in found] for noise in range(3)):
            return {"length": length, "options": options[:5], "eos": eos, "found": found}
    raise SystemExit(f"no prompt for {m.name} {options}")


def main():
    done = {"scores": {}, "beams": {}}
    for name in dict.fromkeys(SCORED + SEARCHED):
        m = models.BY_NAME[name]
        with tempfile.TemporaryDirectory() as folder:
            models.write_model(folder, m, f"{m.weights_of or name}/{GOLDENS[name]['seed']}")
            net = reference.load(folder)
            if name in SCORED:
                done["scores"][name] = {"130": scores(net, models.prompt_ids(m, 130)), "text": text_case(net, GOLDENS[name]["text"]["ids"])}
            if name == "llama_f32":
                windows = scores(net, models.prompt_ids(m, 1100), m.max_positions)
                done["windows"] = {"model": name, "tokens": 1100, "some": windows[::40], "mean": float(np.mean([s[0] for s in windows]))}
            if name in SEARCHED:
                done["beams"][name] = [search_case(net, m, options, 5 + n) for n, options in enumerate(SEARCHES)]
        print(name, flush=True)

    def lines(part):
        return ",\n".join(f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in part.items())
    TARGET.write_text(f'{{"made_by": {json.dumps(reference.VERSIONS)},\n"windows": {json.dumps(done["windows"])},\n"scores": {{\n{lines(done["scores"])}\n}},\n'
                      f'"beams": {{\n{lines(done["beams"])}\n}}}}\n')


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    main()
