"""tokenizer.json files of several kinds, none larger than a test needs."""

import json


def tokenizer_json(model, special, **parts):
    """The file's bytes; special tokens are the first ids."""
    added = [
        {"id": i, "content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for i, name in enumerate(special)
    ]
    empty = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"))
    return json.dumps({"version": "1.0", "added_tokens": added, "model": model} | empty | parts).encode()


def bpe(tokens, merges, **options):
    return {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
        "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
        "vocab": {token: i for i, token in enumerate(tokens)}, "merges": merges,
    } | options  # fmt: skip


def sentencepiece():
    """Bytes for what has no token, a space before the first word, which the decoder strips: as Llama 2."""
    special = ["</s>", "<unk>", "<s>"]
    characters = ["▁", *(chr(c) for c in range(33, 127))]
    merges = ["▁ t", "h e", "▁t he", "a b", "▁ a", "i n"]
    tokens = [*special, *(f"<0x{b:02X}>" for b in range(256)), *characters, *(m.replace(" ", "") for m in merges)]
    decoders = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]
    normalizers = [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ]
    return tokenizer_json(
        bpe(tokens, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True),
        special,
        normalizer={"type": "Sequence", "normalizers": normalizers},
        decoder={"type": "Sequence", "decoders": decoders},
    )


def characters():
    """A token for each printable character of ASCII and a few longer ones; nothing else can be written."""
    special = ["</s>", "<unk>", "<s>"]
    merges = ["t h", "th e", "a b"]
    tokens = [*special, *(chr(c) for c in range(32, 127)), *(m.replace(" ", "") for m in merges)]
    return tokenizer_json(bpe(tokens, merges, unk_token="<unk>"), special, decoder={"type": "Fuse"})


def words():
    """Whole words, with a space between any two."""
    tokens = ["</s>", "<unk>", "the", "a", "cat", "dog", "sat"]
    model = {"type": "WordLevel", "vocab": {token: i for i, token in enumerate(tokens)}, "unk_token": "<unk>"}
    return tokenizer_json(model, tokens[:2], pre_tokenizer={"type": "Whitespace"})
