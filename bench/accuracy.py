"""How far the logits of each engine are from those of the reference, which computes in float32."""

import math

from peer_engines import REFERENCE

LENGTHS = (3, 13, 64, 200)


def distance(logits, reference):
    """Relative L2 error."""
    errors = sum((a - b) ** 2 for a, b in zip(logits, reference, strict=True))
    return math.sqrt(errors / sum(b * b for b in reference))


def likeliest(logits):
    return max(range(len(logits)), key=logits.__getitem__)


def measure_accuracy(samples, engines, vocab_size):
    """After some texts of tokens from all over the vocabulary; the values are relative errors, and how often the likeliest token is the reference's."""
    reference = next((engine for engine in engines if engine.name == REFERENCE), None)
    if reference is None:
        return
    texts = [[(i * 104729 + 17 * length) % vocab_size for i in range(length)] for length in LENGTHS]
    expected = [reference.logits(text) for text in texts]
    for engine in engines:
        if engine is reference:
            continue
        found = [engine.logits(text) for text in texts]
        errors = [distance(a, b) for a, b in zip(found, expected, strict=True)]
        same = sum(likeliest(a) == likeliest(b) for a, b in zip(found, expected, strict=True))
        samples.add("logit_error", engine.name, errors, same=same, texts=len(texts))
