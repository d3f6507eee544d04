"""Hugging Face transformers on a model's folder, greedy.

usage: transformers_worker.py FOLDER DTYPE                          answers requests, see worker.py
       transformers_worker.py FOLDER DTYPE first-token TEXT THREADS  loads, runs the text, prints its first token and stops
"""

import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from worker import answers_only, encoded, milliseconds, serve, some_tokens


class Transformers:
    def __init__(self, folder, dtype):
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()

    def some_tokens(self, n):
        return torch.tensor([some_tokens(n, self.model.config.vocab_size)])

    def run(self, tokens, cache=None):
        return self.model(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)

    def decode(self, threads, context, n):
        """Milliseconds of each of n tokens, position `context` in their middle."""
        torch.set_num_threads(threads)
        output, times = self.run(self.some_tokens(context - n // 2)), []
        for _ in range(n):
            started = time.perf_counter()
            token = output.logits[:, -1:].argmax(-1)
            output = self.run(token, output.past_key_values)
            times.append((time.perf_counter() - started) * 1000)
        return times

    def prefill(self, threads, length):
        torch.set_num_threads(threads)
        tokens = self.some_tokens(length)
        return [milliseconds(lambda: self.run(tokens))]

    def batch(self, threads, sequences, n):
        """Milliseconds of each of n steps that decode a token of every sequence, around position 64."""
        torch.set_num_threads(threads)
        output, times = self.run(self.some_tokens(64 - n // 2).repeat(sequences, 1)), []
        tokens = self.some_tokens(sequences).T
        for _ in range(n):
            started = time.perf_counter()
            output = self.run(tokens, output.past_key_values)
            times.append((time.perf_counter() - started) * 1000)
        return times

    def logits(self, tokens):
        return encoded(self.run(torch.tensor([tokens])).logits[0, -1].float().numpy())


def first_token(folder, dtype, text, threads):
    ready, answers = time.monotonic(), answers_only()
    torch.set_num_threads(int(threads))
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=folder + "/tokenizer.json")
    tokens = tokenizer(text, return_tensors="pt").input_ids
    token = Transformers(folder, dtype).run(tokens).logits[0, -1].argmax()
    piece = tokenizer.decode(token)
    print(json.dumps({"piece": piece, "tokens": tokens.numel(), "ready": ready}), file=answers, flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        if len(sys.argv) == 3:
            serve(Transformers(*sys.argv[1:]))
        else:
            first_token(*sys.argv[1:3], *sys.argv[4:])
