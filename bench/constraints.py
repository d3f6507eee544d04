"""Time a mask of constrained output takes, and the tree of 100,000 choices, with a tokenizer of a folder. No server is needed:

PYTHONPATH=plpython:$(pg_config --pkglibdir)/hartonomous/python python3 bench/constraints.py TOKENIZER_FOLDER VOCAB_SIZE
"""

import json
import pathlib
import random
import resource
import sys
import time
from statistics import median

import numpy
from hartonomous_server import choice_tree, constraints, grammars
from hartonomous_server.tokenizer import load_tokenizer
from hartonomous_server.vocabulary import Vocabulary

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "tags": {"type": "array", "items": {"type": "string"}}},
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
GRAMMARS = {
    "regex": ("regex", r"[A-Z][a-z]+ [0-9]{4}-[0-9]{2}-[0-9]{2}(, [a-z ]+)*"),
    "any text": ("regex", r"[\s\S]*"),
    "json_schema": ("json_schema", json.dumps(SCHEMA)),
    "grammar": ("grammar", 'start: sum\nsum: product (("+" | "-") product)*\nproduct: atom (("*" | "/") atom)*\natom: /[0-9]+/ | "(" sum ")"'),
}
STEPS, REPEATS, CHOICES = 60, 5, 100000


def seconds(work):
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_masks(words):
    """Random texts under each grammar: time to compile it, and of each mask with what went before."""
    for name, (kind, text) in GRAMMARS.items():
        compiling, grammar = seconds(lambda: constraints.Grammar(words, kind, text))
        times = []
        for seed in range(REPEATS):
            rng, tokens, constraint = random.Random(seed), [], constraints.Constraint(grammar, [])
            for _ in range(STEPS):
                taken, (mask, finished) = seconds(lambda: constraint.mask(tokens))
                times.append(taken)
                if finished:
                    break
                byte = rng.choice([n for n, b in enumerate(mask) if b])
                tokens = [*tokens, 8 * byte + rng.choice([bit for bit in range(8) if mask[byte] >> bit & 1])]
        print(f"{name}: compiled in {compiling * 1e3:.1f} ms; a mask takes {median(times) * 1e3:.2f} ms, at most {max(times) * 1e3:.2f} ms")


def measure_tree(vocabulary):
    rng = random.Random(1)
    syllables = ["an", "bo", "car", "dim", "el", "far", "gi", "han", "in", "ja", "ka", "lo", "mar", "ni", "ol", "pe", "ro", "sen", "ti", "ul"]
    word = lambda: "".join(rng.choices(syllables, k=rng.randint(2, 4))).title()  # noqa: E731
    names = [f" {word()} {word()}" for _ in range(CHOICES)]
    tokenizing, ids = seconds(lambda: vocabulary.continuations(names))
    none, unknown = numpy.empty(0, numpy.int32), numpy.full(CHOICES, numpy.nan)
    sorting, tree = seconds(lambda: choice_tree.Tree(*choice_tree.joined(none, unknown, ids)))
    print(f"{len(tree.index)} different choices, {tree.flat.size} tokens: tokenized by the library in {tokenizing:.2f} s, sorted in {sorting:.2f} s")


def main():
    folder, size = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    tokenizer = load_tokenizer((folder / "tokenizer.json").read_bytes())
    vocabulary, before = Vocabulary(tokenizer, size), megabytes()
    taken, words = seconds(lambda: constraints.Words(vocabulary))
    print(f"vocabulary of {size}: ready in {taken:.2f} s, {megabytes() - before:.0f} MB; llguidance {grammars.llguidance.__version__}")
    measure_masks(words)
    measure_tree(vocabulary)


if __name__ == "__main__":
    main()
