"""Models with tokenizers of byte-level byte-pair encoding of several kinds, and texts that are hard to cut."""
import json
import pathlib
import random
import re
import unicodedata

import tokenizers
from tokenizers import Regex, decoders, pre_tokenizers, processors, trainers

import models
from server import TOP

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT4 = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
CASES = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"

SIZE = 700


def split(pattern):
    """The pre-tokenizer that cuts with a pattern, as in Qwen's and Llama 3's files."""
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def trained(pre_tokenizer, special, normalized=False, change=lambda file: None):
    """A tokenizer.json, trained on the documentation."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=SIZE - 20, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    tokenizer.train_from_iterator([p.read_text() for p in sorted((TOP / "docs").glob("*.md"))] + ["naïve café Übung мир мир 日本語 日本 नमस्ते 🙂🙂"] * 20, trainer)
    tokenizer.add_special_tokens([tokenizers.AddedToken(s, normalized=normalized, special=True) for s in special])
    tokenizer.add_tokens(["<tool>", "<tool>>", "｜mark▁｜"])
    file = json.loads(tokenizer.to_str())
    change(file)
    return file


def like_llama3(file):
    """A token before each text, and words that are tokens although the merges that would make them are missing."""
    model = file["model"]
    model["ignore_merges"] = True
    del model["merges"][40::7]
    begin, end = file["added_tokens"][0], file["added_tokens"][1]
    template = processors.TemplateProcessing(single=f"{begin['content']} $A {end['content']}", special_tokens=[(t["content"], t["id"]) for t in (begin, end)])
    file["post_processor"] = {"type": "Sequence", "processors": [{"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}, json.loads(template.__getstate__())]}


def with_nfc(file):
    file["normalizer"] = {"type": "NFC"}


def kinds():
    """name → tokenizer.json"""
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return {
        "demo": json.loads((TOP / "demo" / "model" / "tokenizer.json").read_text()),
        "gpt2": trained(plain, ["<|endoftext|>"], normalized=True),
        "llama3": trained(split(LLAMA3), ["<|begin|>", "<|end|>"], change=like_llama3),
        "gpt4": trained(split(GPT4), ["<|end|>"], change=with_nfc),
        "cases": trained(split(CASES), ["<|end|>"], change=with_nfc),
        "digits": trained(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), plain]), ["<|end|>"]),
        "bytes": trained(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), ["<|end|>"]),
    }


def write(folder, name, file):
    """A model beside such a tokenizer."""
    size = 1 + max([*file["model"]["vocab"].values(), *(t["id"] for t in file["added_tokens"])])
    models.write_model(folder, models.Model(name, dim=8, hidden=8, layers=1, heads=1, kv_heads=1, head_dim=8, vocab=size + 3, dtypes="BF16", tied=True, max_positions=64), name)
    (folder / "tokenizer.json").write_text(json.dumps(file))
    return tokenizers.Tokenizer.from_str(json.dumps(file))


def unsettled():
    """(first, last) of the characters that the server leaves to the library."""
    text = pathlib.Path(TOP / "src_c" / "unsettled_characters.h").read_text()
    return [(int(a, 16), int(b, 16)) for a, b in re.findall(r"\{0x(\w+), 0x(\w+)\}", text)]


def settled(every=1):
    """All other characters, but for U+0000, which is in no text; of ideographs, syllables and private ones, which are all alike, one in so many."""
    code_points = bytearray(b"\1") * 0x110000
    for first, last in [(0, 0), (0xD800, 0xDFFF), *unsettled()]:
        code_points[first:last + 1] = bytes(last + 1 - first)
    for block in (range(0x3400, 0xA000), range(0xAC00, 0xD7A4), range(0xE000, 0xF900), range(0x17000, 0x18B00), range(0x20000, 0x110000)):
        for c in block:
            code_points[c] &= c % every == 0
    return [chr(c) for c in range(0x110000) if code_points[c]]


POOLS = [range(32, 127), [9, 10, 11, 12, 13, 32, 0x85, 0xA0, 0x2028, 0x3000, 0x180E, 0x200B], range(0x300, 0x350), range(0xA0, 0x250), range(0x391, 0x3A2), range(0x410, 0x450),
         range(0x5D0, 0x5EB), range(0x620, 0x660), range(0x904, 0x950), range(0xE01, 0xE3B), range(0x1100, 0x1200), range(0xAC00, 0xAC80), range(0x3041, 0x3097), [0x3099, 0x309A, 0x304B],
         range(0x4E00, 0x4F00), range(0x1F300, 0x1F650), [0x200D, 0xFE0F, 0x1F3FB, 0x1F468, 0x1F469], range(0xF900, 0xFA00), range(0x1D400, 0x1D454), range(1, 32), [0x17F, 0x212A, 0xFB05, 0xDF]]
PARTS = ["<|endoftext|>", "<|im_start|>", "<|end|>", "<|begin|>", "<tool>", "<tool>>", "<tool", "<|en", "|>", "｜mark▁｜", "'s", "'LL", "'ſ", "don't", "  ", "\r\n", "\n\n ", "https://", "1234567", "naïve", "日本語"]


def fuzzed(seed, n):
    """n texts of characters and special tokens in any order."""
    draw = random.Random(seed)
    texts = []
    for _ in range(n):
        parts = [draw.choice(PARTS) if draw.random() < 0.25 else "".join(chr(draw.choice(pool)) for pool in [draw.choice(POOLS)] for _ in range(draw.randrange(1, 9)))
                 for _ in range(draw.randrange(1, 12))]
        texts.append("".join(parts))
    return texts


def mixed(seed, size):
    """A text of about so many characters in many languages and scripts: names of characters, the characters, documentation, source code."""
    draw = random.Random(seed)
    characters = [c for c in settled() if unicodedata.category(c)[0] in "LNPSM"]
    sources = [p.read_text() for files in ("docs/*.md", "src_c/*.[ch]", "plpython/hartonomous_server/*.py") for p in sorted(TOP.glob(files))]
    text, length = [], 0
    while length < size:
        kind = draw.random()
        if kind < 0.6:
            source = draw.choice(sources)
            start = draw.randrange(max(len(source) - 400, 1))
            text.append(source[start:start + 400])
        elif kind < 0.8:
            start = draw.randrange(len(characters) - 40)
            text.append("".join(draw.choice(characters[start:start + 40]) for _ in range(draw.randrange(1, 60))))
        else:
            text.append(unicodedata.name(draw.choice(characters), "no name").title() + draw.choice([" ", "\n", ", ", "\t"]))
        length += len(text[-1])
    return re.sub("[" + "".join(f"{re.escape(chr(a))}-{re.escape(chr(b))}" for a, b in unsettled()) + "]", "", "".join(text))
