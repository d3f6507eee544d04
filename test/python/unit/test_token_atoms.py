"""The bytes of tokens: what tokenizers decodes, for each kind of tokenizer there is."""
import json

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from hartonomous_server.byte_level import ALPHABET, byte_level
from hartonomous_server.errors import HartError
from hartonomous_server.token_atoms import read_vocabulary

TEXT = ["hello world, hello wörld", "日本語 and 👍🏽", "the theory of the thing\n\tthere", "naïve café"] * 3


def tokens_of(tokenizer, size=1 << 30):
    vocabulary = read_vocabulary(tokenizer.to_str().encode(), size)
    return {number: content for number, content, _ in vocabulary.tokens}, vocabulary


def trained(model, trainer, decoder, pre_tokenizer):
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.decoder, tokenizer.pre_tokenizer = decoder, pre_tokenizer
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


def test_byte_level():
    """Bytes that are no whole characters are bytes; together the tokens are the text."""
    tokenizer = trained(models.BPE(), trainers.BpeTrainer(vocab_size=330, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|end of text|>"]),
                        decoders.ByteLevel(), pre_tokenizers.ByteLevel(add_prefix_space=False))
    found, vocabulary = tokens_of(tokenizer)
    assert len(found) == tokenizer.get_vocab_size()
    for text in TEXT:
        assert b"".join(found[i] for i in tokenizer.encode(text).ids) == text.encode()
    assert sorted(content for content in found.values() if len(content) == 1) == [bytes([b]) for b in range(256)]
    assert [(i, content) for i, content, special in vocabulary.tokens if special] == [(0, b"<|end of text|>")]
    assert all(found[merged] == found[left] + found[right] for _, merged, left, right in vocabulary.merges)
    assert [rank for rank, *_ in vocabulary.merges] == list(range(len(vocabulary.merges))) != []


def test_sentencepiece_bpe():
    """Llama's way: ▁ is a space, <0x0A> a byte."""
    pieces = ["<unk>", "<s>", *(f"<0x{b:02X}>" for b in range(256)), "▁", "a", "b", "▁a", "▁ab", "<0xZZ>", "é"]
    merges = [("▁", "a"), ("▁a", "b")]
    tokenizer = tokenizers.Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(["<s>"])
    found, vocabulary = tokens_of(tokenizer)
    assert [found[2 + b] for b in range(256)] == [bytes([b]) for b in range(256)]
    assert [found[i] for i in range(258, len(pieces))] == [b" ", b"a", b"b", b" a", b" ab", b"<0xZZ>", "é".encode()]
    assert vocabulary.merges == [(0, 261, 258, 259), (1, 262, 261, 260)]
    assert {i for i, _, special in vocabulary.tokens if special} == {1}


def test_unigram():
    tokenizer = trained(models.Unigram(), trainers.UnigramTrainer(vocab_size=60, special_tokens=["<unk>"], unk_token="<unk>"), decoders.Metaspace(), pre_tokenizers.Metaspace())
    found, vocabulary = tokens_of(tokenizer)
    for text in TEXT[::2]:
        assert b"".join(found[i] for i in tokenizer.encode(text).ids).decode() == " " + text
    assert vocabulary.merges == [] and len(found) == tokenizer.get_vocab_size()


def test_wordpiece():
    pieces = ["[UNK]", "the", "##ory", "##", "ory"]
    tokenizer = tokenizers.Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    assert tokens_of(tokenizer)[0] == {0: b"[UNK]", 1: b"the", 2: b"ory", 3: b"", 4: b"ory"}


def test_end_of_word_suffix():
    tokenizer = tokenizers.Tokenizer(models.BPE({"a": 0, "b</w>": 1, "ab</w>": 2}, [("a", "b</w>")], end_of_word_suffix="</w>"))
    tokenizer.decoder = decoders.BPEDecoder()
    found, vocabulary = tokens_of(tokenizer)
    assert found == {0: b"a", 1: b"b ", 2: b"ab "} and vocabulary.merges == [(0, 2, 0, 1)]


def test_ids_beyond_the_model_and_missing_ids():
    """What the model has no row for is left out, with the merges that need it; ids may be missing."""
    tokenizer = tokenizers.Tokenizer(models.BPE({"a": 0, "b": 3, "ab": 7, "abb": 12}, [("a", "b"), ("ab", "b")]))
    found, vocabulary = tokens_of(tokenizer, 8)
    assert found == {0: b"a", 3: b"b", 7: b"ab"} and vocabulary.merges == [(0, 7, 0, 3)]
    assert tokens_of(tokenizer, 1)[1].merges == []


def test_merges_spelt_as_texts():
    """Older files write a merge as one text."""
    content = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}, "decoder": None, "added_tokens": []}
    assert read_vocabulary(json.dumps(content).encode(), 3).merges == [(0, 2, 0, 1)]
    content["model"]["merges"] = ["b a"]
    with pytest.raises(HartError, match="merge 0"):
        read_vocabulary(json.dumps(content).encode(), 3)


def test_alphabet():
    """256 characters stand for bytes, the same as in tokenizers."""
    assert set(ALPHABET) == set(pre_tokenizers.ByteLevel.alphabet()) and sorted(ALPHABET.values()) == list(range(256))
    assert byte_level("ĠaÃ¤") == " aä".encode() and byte_level("日") == "日".encode()


@pytest.mark.parametrize("name", ["qwen2.5-tokenizer", "stories260K"])
def test_real_tokenizers(data, name):
    """Of real tokenizers every token that is a text is the one that their decoder makes of it."""
    content = (data / name / "tokenizer.json").read_bytes()
    tokenizer = tokenizers.Tokenizer.from_str(content.decode())
    vocabulary = read_vocabulary(content, 1 << 30)
    assert len(vocabulary.tokens) == tokenizer.get_vocab_size(with_added_tokens=True)
    compared = 0
    for number, found, special in vocabulary.tokens:
        # three of them, since the decoder may strip a space at the start
        alone = tokenizer.decode([number, number, number], skip_special_tokens=False)
        if "\ufffd" not in alone and not special:
            triple = (found * 3).decode()
            assert alone in (triple, triple.removeprefix(" ")), number
            compared += 1
    assert compared > 0.9 * len(vocabulary.tokens) - 256
