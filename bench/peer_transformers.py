"""Measure Hugging Face transformers on the same model; called by peers.py with the Python that has it. Prints JSON.

usage: peer_transformers.py MODEL THREADS,… PROMPTS,… DECODED
"""

import json
import sys
import time

import torch
import transformers


def decode(model, n):
    """Milliseconds of each of n tokens, the sixty-fourth of the context in their middle."""
    tokens = torch.arange(11, 11 + 64 - n // 2)[None]
    output = model(tokens, use_cache=True)
    times = []
    for _ in range(n):
        started = time.perf_counter()
        token = output.logits[:, -1:].argmax(-1)
        output = model(token, past_key_values=output.past_key_values, use_cache=True)
        times.append((time.perf_counter() - started) * 1000)
    return times


def prefill(model, n):
    """Milliseconds to run a prompt of n tokens."""
    started = time.perf_counter()
    model(torch.arange(11, 11 + n)[None], use_cache=True, logits_to_keep=1)
    return (time.perf_counter() - started) * 1000


def main():
    folder, threads, prompts, decoded = sys.argv[1:]
    for dtype in (torch.bfloat16, torch.float32):
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        for count in map(int, threads.split(",")):
            torch.set_num_threads(count)
            decode(model, 4)
            figures = {
                "name": f"transformers {transformers.__version__}, {str(dtype).removeprefix('torch.')}",
                "threads": count,
                "decode": decode(model, int(decoded)),
                "prefill": {n: prefill(model, int(n)) for n in prompts.split(",")},
            }
            print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
