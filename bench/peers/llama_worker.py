"""llama.cpp on a GGUF file, through the C API that llama-cpp-python exposes.

usage: llama_worker.py [--no-repack] FILE                          answers requests, see worker.py
       llama_worker.py [--no-repack] FILE first-token TEXT THREADS  loads, runs the text, prints its first token and stops

--no-repack leaves weights in the order of the file, without the buffers that llama.cpp has for some processors.
"""

import ctypes
import json
import sys
import time

import llama_cpp as lib
import numpy as np
from worker import answers_only, encoded, milliseconds, serve, some_tokens

BLOCK = 512  # tokens that llama.cpp runs at once, its default


@lib.llama_log_callback
def quiet(level, text, data):
    """Nothing is logged."""


class Context:
    """Keys and values of some sequences."""

    def __init__(self, model, n_positions, n_sequences=1):
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_seq_max = n_positions * n_sequences, n_sequences
        params.n_batch = params.n_ubatch = BLOCK
        self.model, self.positions = model, 0
        self.pointer = lib.llama_init_from_model(model.pointer, params)
        self.memory = lib.llama_get_memory(self.pointer)
        self.batch = lib.llama_batch_init(BLOCK, 0, n_sequences)

    def set_threads(self, threads):
        lib.llama_set_n_threads(self.pointer, threads, threads)

    def run(self, tokens, first, sequences=None):
        """Run tokens at positions from first on, or one for each of the sequences at that position; logits of the last."""
        together = len(tokens) if sequences else BLOCK
        for start in range(0, len(tokens), together):
            part = tokens[start : start + together]
            self.batch.n_tokens = len(part)
            for i, token in enumerate(part):
                self.batch.token[i] = token
                self.batch.pos[i] = first if sequences else first + start + i
                self.batch.n_seq_id[i] = 1
                self.batch.seq_id[i][0] = sequences[i] if sequences else 0
                self.batch.logits[i] = bool(sequences) or start + i == len(tokens) - 1
            if lib.llama_decode(self.pointer, self.batch) != 0:
                raise SystemExit("llama.cpp could not run a batch")
        return self.row(len(part) - 1)

    def row(self, i):
        """Logits of row i of the last batch, which is whole when they are asked for."""
        return np.ctypeslib.as_array(lib.llama_get_logits_ith(self.pointer, i), (self.model.vocab_size,))

    def keep(self, n):
        """Sequence 0 with n positions of the usual tokens: what is there already stays."""
        if self.positions < n:
            self.run(self.model.some_tokens(n)[self.positions :], self.positions)
            self.positions = n
        lib.llama_memory_seq_rm(self.memory, 0, n, -1)

    def clear(self):
        lib.llama_memory_clear(self.memory, True)
        self.positions = 0


class Llama:
    def __init__(self, path, repack=True):
        lib.llama_log_set(quiet, None)
        lib.llama_backend_init()
        params = lib.llama_model_default_params()
        params.use_extra_bufts = repack
        self.pointer = lib.llama_model_load_from_file(path.encode(), params)
        if not self.pointer:
            raise SystemExit(f"llama.cpp could not load {path}")
        self.vocabulary = lib.llama_model_get_vocab(self.pointer)
        self.vocab_size = lib.llama_vocab_n_tokens(self.vocabulary)
        self.contexts = {}

    def some_tokens(self, n):
        return some_tokens(n, self.vocab_size)

    def context(self, n_positions, n_sequences=1):
        key = n_positions, n_sequences
        if key not in self.contexts:
            self.contexts[key] = Context(self, n_positions, n_sequences)
        return self.contexts[key]

    def tokenize(self, text):
        data = text.encode()
        tokens = (lib.llama_token * (len(data) + 8))()
        n = lib.llama_tokenize(self.vocabulary, data, len(data), tokens, len(tokens), False, False)
        return tokens[:n]

    def piece(self, token):
        piece = ctypes.create_string_buffer(64)
        n = lib.llama_token_to_piece(self.vocabulary, token, piece, len(piece), 0, True)
        return piece.raw[:n].decode(errors="replace")

    def decode(self, threads, context, n):
        """Milliseconds of each of n tokens, position `context` in their middle."""
        first = context - n // 2
        c = self.context(context + 128)
        c.set_threads(threads)
        c.keep(first)
        token, times = self.some_tokens(first + 1)[-1], []
        for pos in range(first, first + n):
            started = time.perf_counter()
            token = int(c.run([token], pos).argmax())
            times.append((time.perf_counter() - started) * 1000)
        return times

    def prefill(self, threads, length):
        c = self.context(BLOCK + 128)
        c.set_threads(threads)
        c.clear()
        return [milliseconds(lambda: c.run(self.some_tokens(length), 0))]

    def batch(self, threads, sequences, n):
        """Milliseconds of each of n steps that decode a token of every sequence, around position 64."""
        first, rows = 64 - n // 2, list(range(sequences))
        c = self.context(256, sequences)
        c.set_threads(threads)
        c.clear()
        c.run(self.some_tokens(first), 0)
        for i in rows[1:]:
            lib.llama_memory_seq_cp(c.memory, 0, i, -1, -1)
        tokens, times = self.some_tokens(sequences), []
        for pos in range(first, first + n):
            started = time.perf_counter()
            c.run(tokens, pos, rows)
            for i in rows:
                c.row(i)
            times.append((time.perf_counter() - started) * 1000)
        return times

    def logits(self, tokens):
        c = self.context(BLOCK + 128)
        c.clear()
        return encoded(c.run(tokens, 0))


def first_token(path, text, threads, repack):
    ready, answers = time.monotonic(), answers_only()
    model = Llama(path, repack)
    context = model.context(512)
    context.set_threads(int(threads))
    tokens = model.tokenize(text)
    piece = model.piece(int(context.run(tokens, 0).argmax()))
    print(json.dumps({"piece": piece, "tokens": len(tokens), "ready": ready}), file=answers, flush=True)


if __name__ == "__main__":
    repack = sys.argv[1] != "--no-repack"
    path, *request = sys.argv[1 if repack else 2 :]
    if request:
        first_token(path, *request[1:], repack)
    else:
        serve(Llama(path, repack))
