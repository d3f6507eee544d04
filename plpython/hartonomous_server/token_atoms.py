"""The tokens of a tokenizer.json as bytes, and its merges."""

import json
import re
from dataclasses import dataclass

from .byte_level import byte_level
from .errors import BAD_FILE_FORMAT, HartError

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass
class Vocabulary:
    """What a tokenizer knows, in numbers of tokens."""

    tokens: list  # (token id, content in bytes, special), by id
    merges: list  # (rank, merged token id, left, right), by rank
    file: dict  # all of tokenizer.json


def read_vocabulary(content, size):
    """The tokens below `size`, the number of tokens that the model has, and the merges among them.

    The tokenizer was loaded before, so that the file is known to be valid; what is read here is its text.
    """
    tokenizer = json.loads(content)
    model = tokenizer["model"]
    if isinstance(model["vocab"], dict):
        ids = model["vocab"]
    else:  # Unigram: [token, score] in the order of ids
        ids = {token: number for number, (token, _) in enumerate(model["vocab"])}
    to_bytes = token_decoder(tokenizer)
    contents = {number: (to_bytes(token), False) for token, number in ids.items() if number < size}
    for added in tokenizer.get("added_tokens") or []:
        if added["id"] < size:
            contents[added["id"]] = added["content"].encode("utf-8"), bool(added["special"])
    return Vocabulary(
        [(number, *contents[number]) for number in sorted(contents)],
        list(merges(model, ids, contents)),
        tokenizer,
    )


def merges(model, ids, known):
    """(rank, merged, left, right) of byte-pair encoding; others have none."""
    prefix = model.get("continuing_subword_prefix") or ""
    for rank, pair in enumerate(model.get("merges") or []):
        left, right = pair.split(" ") if isinstance(pair, str) else pair
        merged = left + right.removeprefix(prefix)
        if merged not in ids:
            raise HartError(
                f"merge {rank} of tokenizer.json makes a token that is not in its vocabulary",
                BAD_FILE_FORMAT,
                hint="Download or save the model again.",
            )
        numbers = ids[merged], ids[left], ids[right]
        if all(number in known for number in numbers):
            yield rank, *numbers


def token_decoder(tokenizer):
    """The function from a token, as the vocabulary spells it, to the bytes that it stands for.

    It does what the tokenizer's decoder does to a token amid a text: what a decoder does at the ends of a text, or between
    two tokens, is left out.
    """
    decoder = tokenizer.get("decoder") or {}
    steps = decoder.get("decoders", []) if decoder.get("type") == "Sequence" else [decoder]
    byte_names = any(step.get("type") == "ByteLevel" for step in steps)
    byte_tokens = any(step.get("type") == "ByteFallback" for step in steps)
    spellings = [spelling for spelling in map(step_spelling, steps) if spelling]

    def decode(token):
        if byte_tokens and (byte := BYTE_TOKEN.fullmatch(token)):
            return bytes([int(byte[1], 16)])
        for spelling in spellings:
            token = spelling(token)
        if byte_names:
            return byte_level(token)
        return token.encode("utf-8", "surrogatepass")

    return decode


def step_spelling(step):
    """The function from text to text that a decoder's step is, None when it changes no token amid a text."""
    kind = step.get("type")
    if kind == "Replace":
        pattern, content = step["pattern"], step["content"]
        if "String" in pattern:
            return lambda token: token.replace(pattern["String"], content)
        expression = re.compile(pattern["Regex"])
        return lambda token: expression.sub(lambda _: content, token)
    if kind == "Metaspace":
        return lambda token: token.replace(step["replacement"], " ")
    if kind == "WordPiece":
        return lambda token: token.removeprefix(step["prefix"])
    if kind == "BPEDecoder":
        return lambda token: token.replace(step["suffix"], " ")
    return None
