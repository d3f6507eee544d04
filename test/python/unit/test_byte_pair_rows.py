"""Which tokenizers the server does by itself, and their patterns for PCRE2."""

import copy
import json

import pytest
from hartonomous_server.byte_level import ALPHABET
from hartonomous_server.byte_pairs import GPT2, byte_pair_rules, merge_rows
from hartonomous_server.patterns import SPACES, Unsuitable, translate

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
PLAIN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
VOCAB = {name: number for number, name in enumerate(sorted(ALPHABET))} | {"ab": 256, "abc": 257}


def file(**change):
    """A tokenizer.json that is suitable but for the change."""
    model = {"type": "BPE", "vocab": VOCAB, "merges": ["a b", "ab c"], "ignore_merges": False}
    added = [{"id": 258, "content": "<end>", **PLAIN}]
    return copy.deepcopy({"model": model, "added_tokens": added, "pre_tokenizer": BYTE_LEVEL, "decoder": BYTE_LEVEL, "normalizer": None, "post_processor": None} | change)


def model(**change):
    return {"model": file()["model"] | change}


def added(**change):
    return {"added_tokens": [{"id": 258, "content": "<end>", **PLAIN, **change}]}


def split(pattern, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def sequence(*steps):
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": list(steps)}}


def test_a_plain_one():
    rules = byte_pair_rules(file(), 259)
    assert rules.patterns == [translate(GPT2)] and not rules.nfc
    assert rules.byte_tokens[ord("a")] == VOCAB["a"] and rules.byte_tokens[32] == VOCAB["Ġ"]
    assert (rules.added, rules.added_tokens, rules.added_normalized, rules.words) == (["<end>"], [258], [], [])
    assert len(rules.values()) == len(rules.TYPES)


def test_parts_that_are_known():
    rules = byte_pair_rules(file(normalizer={"type": "NFC"}, **sequence({"type": "Digits", "individual_digits": False}, split({"Regex": "a+"}), BYTE_LEVEL | {"use_regex": False})), 300)
    assert rules.nfc and rules.patterns == [r"\p{N}+", "a+"]
    rules = byte_pair_rules(file(**added(normalized=True)), 259)
    assert (rules.added, rules.added_normalized) == ([], ["<end>"])


def test_a_template():
    template = {"type": "TemplateProcessing", "special_tokens": {"<end>": {"ids": [258]}}, "single": [{"SpecialToken": {"id": "<end>"}}, {"Sequence": {"id": "A"}}]}
    for processor in (template, {"type": "Sequence", "processors": [BYTE_LEVEL, template]}):
        rules = byte_pair_rules(file(post_processor=processor), 259)
        assert (rules.prefix, rules.suffix) == ([258], [])


def test_words_that_merges_do_not_make():
    rules = byte_pair_rules(file(**model(ignore_merges=True, merges=["a b"])), 259)
    assert (rules.words, rules.word_tokens) == ([b"abc"], [257])


def test_of_a_pair_that_is_listed_twice_the_last_counts():
    assert merge_rows([(0, 5, 3, 4), (1, 6, 1, 2), (2, 7, 3, 4)]) == [(1, 2, 6, 1), (3, 4, 7, 2)]


@pytest.mark.parametrize("change, reason", [
    (model(type="Unigram"), "Unigram"), (model(dropout=0.1), "dropout"), (model(continuing_subword_prefix="##"), "prefix"), (model(end_of_word_suffix="</w>"), "suffix"),
    (model(byte_fallback=True), "byte_fallback"), (model(vocab={name: number for name, number in VOCAB.items() if name != "b"}), "every byte"), (model(vocab=VOCAB | {"abc": 256}), "unique"),
    (model(vocab=VOCAB | {"abc": 999}), "beyond"), ({"decoder": None}, "decoder"), ({"decoder": {"type": "Metaspace"}}, "Metaspace"), ({"normalizer": {"type": "NFKC"}}, "NFKC"), ({"normalizer": {"type": "Sequence", "normalizers": []}}, "Sequence"),
    ({"pre_tokenizer": None}, "None"), ({"pre_tokenizer": {"type": "Whitespace"}}, "Whitespace"), ({"pre_tokenizer": BYTE_LEVEL | {"add_prefix_space": True}}, "space"),
    (sequence(split({"Regex": "a"}, "Removed"), BYTE_LEVEL), "another way"), (sequence(split({"Regex": "a"}, invert=True), BYTE_LEVEL), "another way"), (sequence(split({"String": "a"}), BYTE_LEVEL), "another way"),
    (sequence(BYTE_LEVEL, split({"Regex": "a"})), "ByteLevel"), (sequence(*[split({"Regex": "a"})] * 5, BYTE_LEVEL), "many steps"), (sequence(split({"Regex": r"\w+"}), BYTE_LEVEL), r"\\w"),
    (added(single_word=True), "beside"), (added(lstrip=True), "beside"), (added(rstrip=True), "beside"), (added(id=260), "another number"), (added(content="éé"), "decode"), (added(content=""), "decode"),
    ({"normalizer": {"type": "NFC"}, **added(content="<e\u0301\u2581>", normalized=True)}, "form"), ({"added_tokens": [{"id": 258, "content": "<end>", **PLAIN}] * 2}, "number"),
    ({"post_processor": {"type": "BertProcessing"}}, "BertProcessing"),
    ({"post_processor": {"type": "TemplateProcessing", "special_tokens": {"x": {"ids": [999]}}, "single": [{"SpecialToken": {"id": "x"}}, {"Sequence": {"id": "A"}}]}}, "beyond"),
    ({"post_processor": {"type": "TemplateProcessing", "special_tokens": {}, "single": [{"Sequence": {"id": "A"}}, {"Sequence": {"id": "A"}}]}}, "once"),
])
def test_others_keep_the_library(change, reason):
    with pytest.raises(Unsuitable, match=reason):
        byte_pair_rules(file(**change), 300)


@pytest.mark.parametrize("pattern, expected", [
    (r"\s", f"[{SPACES}]"), (r"\S+", f"[^{SPACES}]+"), (r"[^\s\p{L}]", rf"[^{SPACES}\p{{L}}]"), (r"(a|b)?", "(?:a|b)?"), (r"\d{1,3}", r"\p{Nd}{1,3}"), ("a++b?+c*?", "a++b?+c*?"), (r"\.\/", r"\x{2e}\x{2f}"), ("é|[à-ü_-]", r"\x{e9}|[\x{e0}-\x{fc}\x{5f}\x{2d}]"),
    (r"(?i:'s|[dmt])", r"(?i:'s|[dmt])"), ("(?=a)(?!b)", "(?=a)(?!b)"),
])
def test_patterns(pattern, expected):
    assert translate(pattern) == expected


@pytest.mark.parametrize("pattern", [r"\w", r"\b", r"\h", r"\p{Han}", r"\p{P}", r"\p{^L}", ".", "^a", "a$", "(?<=a)b", "(?<!a)b", "(?>a)", "(?i)a", "(?i:ss)", "(?i:a+)", "(?i:straße)", "(?i:first)", "a{2}+", "a{2}?", "a{,3}", "(?=a)*", "a**", "[a[b]]", "[a&&b]", r"[\S]",
                                     r"[\s-z]", "[]a]", "[a", "(a", "a)", "\\", r"\1", r"\x41", r"(?<n>a)", "{a"])
def test_patterns_that_may_mean_something_else(pattern):
    with pytest.raises(Unsuitable):
        translate(pattern)


def test_a_real_file(data):
    content = json.loads((data / "qwen2.5-tokenizer" / "tokenizer.json").read_text())
    rules = byte_pair_rules(content, 151936)
    assert rules.nfc and len(rules.added) == 22 and len(rules.patterns) == 1
