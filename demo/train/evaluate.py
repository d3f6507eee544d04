"""Bits per byte of a model on the held-out pages."""

import math

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import corpus
import tokenizer as bpe


def windows(ids, context):
    """Windows that overlap by half: every token but the first ones is predicted from at least context/2 others.

    Yields (tokens, how many of the last targets count)."""
    stride = context // 2
    scored = 0
    for start in range(0, len(ids) - 1, stride):
        piece = ids[start:start + context + 1]
        last = start + len(piece) - 1
        yield piece, last - scored
        scored = last
        if last == len(ids) - 1:
            return


@torch.no_grad()
def bits_per_byte(model, work, tokenizer_file):
    """Every page stands alone between two end tokens; the closing one counts as something to predict."""
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    end = tokenizer.token_to_id(bpe.END)
    nats, size = 0.0, 0
    for text in corpus.load(work, "held_out"):
        size += len(text.encode())
        ids = [end] + tokenizer.encode(text).ids + [end]
        for piece, count in windows(ids, model.config.max_positions):
            logits = model(torch.tensor([piece[:-1]]))[0, -count:]
            nats += F.cross_entropy(logits, torch.tensor(piece[-count:]), reduction="sum").item()
    return nats / math.log(2) / size
