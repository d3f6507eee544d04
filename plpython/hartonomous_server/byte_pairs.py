"""Which tokenizers are byte-level byte-pair encoding that the server does by itself, and their rules as a row.

Whatever is not known here to mean the same to both is Unsuitable: such a model keeps the library.
"""

import json
import unicodedata
from dataclasses import astuple, dataclass

from .byte_level import ALPHABET
from .patterns import Unsuitable, translate
from .tokenizer import load_tokenizer

# What ByteLevel cuts texts with (Radford et al., GPT-2, 2019)
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

MAX_PATTERNS = 4
MAX_ADDED = 20_000  # added tokens, and words that merges do not make: each session reads them all


@dataclass
class Rules:
    """A row of hart.tokenizers, in the order of its columns."""

    patterns: list
    nfc: bool
    byte_tokens: list
    prefix: list
    suffix: list
    added: list
    added_tokens: list
    added_normalized: list
    added_normalized_tokens: list
    words: list
    word_tokens: list

    TYPES = ["text[]", "bool", *["int[]"] * 3, "text[]", "int[]", "text[]", "int[]", "bytea[]", "int[]"]

    def values(self):
        """The columns."""
        return list(astuple(self))


def byte_pair_rules(tokenizer, vocab_size):
    """The rules of a tokenizer.json that was read; raises Unsuitable."""
    model = tokenizer["model"]
    check_model(model, vocab_size)
    kind(tokenizer.get("decoder"), "decoder", "ByteLevel")
    nfc = tokenizer.get("normalizer") is not None
    if nfc:
        kind(tokenizer["normalizer"], "normalizer", "NFC")
    added = added_tokens(tokenizer.get("added_tokens") or [], model["vocab"], vocab_size, nfc)
    prefix, suffix = template(tokenizer.get("post_processor"))
    if not all(0 <= token < vocab_size for token in prefix + suffix):
        raise Unsuitable("a token of its template is beyond the model's vocabulary")
    names = {byte: name for name, byte in ALPHABET.items()}
    words = words_without_merges(tokenizer) if model.get("ignore_merges") else {}
    if len(added) + len(words) > MAX_ADDED:
        raise Unsuitable("it has too many added tokens")
    plain = {token["content"]: token["id"] for token in added if not token["normalized"]}
    normalized = {token["content"]: token["id"] for token in added if token["normalized"]}
    return Rules(
        patterns(tokenizer.get("pre_tokenizer")),
        nfc,
        [model["vocab"][names[byte]] for byte in range(256)],
        prefix,
        suffix,
        *columns(plain),
        *columns(normalized),
        *columns(words),
    )


def columns(numbers):
    """Keys and values of a dict, as two lists."""
    return list(numbers), list(numbers.values())


def kind(part, name, wanted):
    """A part of the file is of this type, and only then it is known what it does."""
    found = (part or {}).get("type")
    if found != wanted:
        raise Unsuitable(f"its {name} is {found}, not {wanted}")


def check_model(model, vocab_size):
    """Byte-pair encoding of bytes alone, all of which are tokens."""
    kind(model, "model", "BPE")
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(option):
            raise Unsuitable(f"its model has {option}")
    vocab = model["vocab"]
    if not ALPHABET.keys() <= vocab.keys():
        raise Unsuitable("not every byte is a token")
    ids = set(vocab.values())
    if len(ids) < len(vocab) or not all(0 <= token < vocab_size for token in ids):
        raise Unsuitable("its token ids are not unique or beyond the model's vocabulary")


def added_tokens(tokens, vocab, vocab_size, nfc):
    """Added tokens, when they are found simply where they stand and decode to what they are."""
    next_id = len(vocab)
    for token in tokens:
        content = token["content"]
        # the library numbers them by itself, and only warns when the file has other numbers
        expected = vocab.get(content, next_id)
        if expected == next_id:
            next_id += 1
        if token["id"] != expected or expected >= vocab_size:
            raise Unsuitable(f"its added token {content!r} has another number than it would be given")
        if token["single_word"] or token["lstrip"] or token["rstrip"]:
            raise Unsuitable(f"its added token {content!r} looks at what is beside it")
        if token["normalized"] and nfc and not unicodedata.is_normalized("NFC", content):
            raise Unsuitable(f"its added token {content!r} is not in the form that it is looked for in")
        if not content or "\0" in content or not content.isascii() and ALPHABET.keys() >= set(content):
            raise Unsuitable(f"its added token {content!r} does not decode to itself")
    if len({token["content"] for token in tokens}) < len(tokens):
        raise Unsuitable("its added tokens are not unique")
    return tokens


def patterns(pre_tokenizer):
    """The patterns that cut a text into words, for PCRE2, each what the one before has cut."""
    steps = [pre_tokenizer or {}]
    if steps[0].get("type") == "Sequence":
        steps = steps[0]["pretokenizers"]
    found = []
    for number, step in enumerate(steps, 1):
        if step.get("type") == "ByteLevel" and number == len(steps):
            if step.get("add_prefix_space", True):
                raise Unsuitable("its pre-tokenizer adds a space")
            found += [translate(GPT2)] if step.get("use_regex", True) else []
        elif step.get("type") == "Digits" and number < len(steps):
            found.append(r"\p{N}" if step["individual_digits"] else r"\p{N}+")
        elif step.get("type") == "Split" and number < len(steps):
            if step["behavior"] != "Isolated" or step["invert"] or "Regex" not in step["pattern"]:
                raise Unsuitable("its pre-tokenizer splits in another way")
            found.append(translate(step["pattern"]["Regex"]))
        else:
            raise Unsuitable(f"its pre-tokenizer has {step.get('type')}")
    if len(found) > MAX_PATTERNS:
        raise Unsuitable("its pre-tokenizer has too many steps")
    return found


def template(processor):
    """The tokens before and behind every text."""
    steps = [processor] if processor else []
    if steps and processor.get("type") == "Sequence":
        steps = processor["processors"]
    steps = [step for step in steps if step.get("type") != "ByteLevel"]
    if not steps:
        return [], []
    if len(steps) > 1:
        raise Unsuitable("its post-processor has several steps")
    kind(steps[0], "post-processor", "TemplateProcessing")
    sides = [[]]
    for piece in steps[0]["single"]:
        if "SpecialToken" in piece:
            sides[-1] += steps[0]["special_tokens"][piece["SpecialToken"]["id"]]["ids"]
        else:
            sides.append([])
    if len(sides) != 2:
        raise Unsuitable("its template does not have the text once")
    return sides


def words_without_merges(tokenizer):
    """Words that a tokenizer with ignore_merges takes as a token, and for which merges would give something else."""
    model = {**tokenizer["model"], "ignore_merges": False}
    library = load_tokenizer(json.dumps({**tokenizer, "model": model}).encode()).model
    found = {}
    for name, token in model["vocab"].items():
        if ALPHABET.keys() >= set(name) and [made.id for made in library.tokenize(name)] != [token]:
            found[bytes(ALPHABET[c] for c in name)] = token
    return found


def merge_rows(merges):
    """(left, right, merged, rank) in the order of left and right, of (rank, merged, left, right).

    Of a pair that is listed twice the last counts.
    """
    found = {(left, right): (merged, rank) for rank, merged, left, right in merges}
    return [(*pair, *found[pair]) for pair in sorted(found)]
