"""Tokenizers whose every token is a byte or little more, so that characters take several."""


def byte_level():
    """One token a byte, as in GPT-2 and Qwen; then some special ones."""
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = sorted(ByteLevel.alphabet())
    special = [{"id": 256, "content": "<end>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}]
    model = {"type": "BPE", "vocab": {c: i for i, c in enumerate(alphabet)}, "merges": []}
    byte = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"version": "1.0", "added_tokens": special, "pre_tokenizer": byte, "decoder": byte, "model": model}


def byte_fallback():
    """Words with ▁ for the space and a token for each other byte, as in Llama 2; the first space is taken off."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "▁", *"abcdefghijklmnopqrstuvwxyzOt", "▁t", "im", "é"]
    special = [{"id": i, "content": words[i], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} for i in range(3)]
    model = {"type": "BPE", "vocab": {w: i for i, w in enumerate(dict.fromkeys(words))}, "merges": [["▁", "t"], ["i", "m"]], "byte_fallback": True, "unk_token": "<unk>", "fuse_unk": True}
    normalizer = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
    decoder = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
                                                {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    return {"version": "1.0", "added_tokens": special, "normalizer": normalizer, "decoder": decoder, "model": model}
