"""Continue prompts greedily with an exported model, and measure its held-out bits per byte if the corpus is at hand."""

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

import corpus
from evaluate import bits_per_byte
from export import MODEL
from model import Config, Qwen2


def load(directory):
    model = Qwen2(Config())
    # The weights are stored in bf16; the arithmetic is float32.
    model.load_state_dict({name: t.float() for name, t in load_file(directory / "model.safetensors").items()})
    return model.eval()


@torch.no_grad()
def greedy(model, tokenizer, prompt, max_tokens):
    end = tokenizer.token_to_id("<|endoftext|>")
    ids = tokenizer.encode(prompt).ids
    start = len(ids)
    while len(ids) < min(start + max_tokens, model.config.max_positions):
        token = model(torch.tensor([ids]))[0, -1].argmax().item()
        if token == end:
            break
        ids.append(token)
    return tokenizer.decode(ids[start:])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--work", type=Path, default=corpus.WORK)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("prompts", nargs="*", default=["The database", "Hello"])
    args = parser.parse_args()
    model = load(args.model)
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    for prompt in args.prompts:
        print(f"[{prompt}]{greedy(model, tokenizer, prompt, args.max_tokens)}\n")
    if (args.work / "held_out.jsonl").exists():
        print(f"held-out bits per byte: {bits_per_byte(model, args.work, args.model / 'tokenizer.json'):.4f}")


if __name__ == "__main__":
    main()
