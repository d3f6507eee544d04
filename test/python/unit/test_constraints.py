"""Masks: texts drawn at random among the tokens that they allow match what was asked for, with every kind of tokenizer."""

import json
import pathlib
import random
import re

import jsonschema
import numpy
import pytest
from hartonomous_server import constraints, grammars
from hartonomous_server import tokenizer as library
from hartonomous_server.vocabulary import Vocabulary

import tokenizers_of_kinds as kinds
from standin import GD, Plpy

DEMO = pathlib.Path(__file__).resolve().parents[3] / "demo" / "model" / "tokenizer.json"
CONTENTS = {
    "byte_level": (DEMO.read_bytes(), 4200),  # more ids than tokens
    "sentencepiece": (kinds.sentencepiece(), 400),
    "characters": (kinds.characters(), 140),
    "words": (kinds.words(), 40),
}


class Client:
    """The SQL functions, on a model of one tokenizer."""

    def __init__(self, kind, eos=(0,)):
        content, self.size = CONTENTS[kind]
        self.gd, self.plpy, self.now = GD(), Plpy(), 1
        self.plpy.answers = {
            "now()": lambda *_: [{"value": self.now}],
            "f.sha256": lambda *_: [{"model_id": 1, "sha256": b"x", "vocab_size": self.size}],
            "SELECT content": lambda *_: [{"value": content}],
            "eos_token_ids": lambda *_: [{"eos_token_ids": list(eos)}],
        }
        self.tokenizer = library.load_tokenizer(content)

    def open(self, regex=None, json_schema=None, grammar=None, stop_tokens=None):
        if isinstance(json_schema, (dict, bool)):
            json_schema = json.dumps(json_schema)
        return constraints.open_constraint(self.plpy, self.gd, None, regex, json_schema, grammar, stop_tokens)

    def mask(self, handle, tokens):
        """The tokens that may follow, and whether only the end can."""
        mask, finished = constraints.constraint_mask(self.plpy, self.gd, handle, list(tokens))
        assert len(mask) == (self.size + 7) // 8
        return numpy.flatnonzero(numpy.unpackbits(numpy.frombuffer(mask, numpy.uint8), bitorder="little")), finished

    def text(self, tokens):
        """What the tokens add to a text."""
        before = self.tokenizer.encode("a").ids
        return library.continuation(self.tokenizer, before, list(tokens))

    def draw(self, handle, seed, most=60):
        """A random text; None when it did not end by itself."""
        rng, tokens = random.Random(seed), []
        for _ in range(most):
            allowed, finished = self.mask(handle, tokens)
            if finished:
                assert list(allowed) == [0]
                return self.text(tokens)
            token = int(rng.choice(allowed))
            if token == 0:
                return self.text(tokens)
            tokens.append(token)
        return None


@pytest.fixture(scope="module")
def clients():
    return {kind: Client(kind) for kind in CONTENTS}


def random_regex(rng, depth=3):
    """A regular expression that Python and the library read alike."""
    kind = rng.randrange(8 if depth else 3)
    if kind < 3:
        return rng.choice(["a", "b", "the", "[a-f]", "[^a-y]", "x|y", r"\.", " ", "[0-9]", "e"])
    part = random_regex(rng, depth - 1)
    if kind == 3:
        return f"({part}|{random_regex(rng, depth - 1)})"
    if kind == 4:
        return f"({part}){rng.choice(['*', '+', '?', '{2}', '{1,3}', '{0,2}'])}"
    return f"({part})({random_regex(rng, depth - 1)})"


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece", "characters"])
def test_random_regexes(clients, kind):
    client, rng, ended = clients[kind], random.Random(5), 0
    for seed in range(120):
        regex = random_regex(rng)
        handle = client.open(regex=regex)
        text = client.draw(handle, seed)
        constraints.close_constraint(client.plpy, client.gd, handle)
        if text is not None:
            ended += 1
            assert re.fullmatch(regex, text), (regex, text)
    assert ended > 90


def test_words(clients):
    client = clients["words"]
    texts = {client.draw(client.open(regex="( the| a)( cat| dog){1,2}"), seed) for seed in range(30)}
    assert texts <= {f" {a} {b}" for a in ("the", "a") for b in ("cat", "dog", "cat cat", "cat dog", "dog cat", "dog dog")}
    assert len(texts) > 4


SCHEMAS = [
    {"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0, "maximum": 150}},
     "required": ["name", "age"], "additionalProperties": False},
    {"type": "array", "items": {"enum": ["red", "green", 3, None, {"a": [1]}]}, "minItems": 1, "maxItems": 3},
    {"anyOf": [{"type": "boolean"}, {"type": "number", "minimum": -2, "maximum": 2.5}, {"type": "string", "pattern": "^[a-c]{2,4}$"}]},
    {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "properties": {"v": {"type": "integer", "multipleOf": 7, "minimum": -70, "maximum": 70},
     "l": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/tree"}]}}, "required": ["v", "l"], "additionalProperties": False}}},
    {"type": "object", "patternProperties": {"^x_[a-z]{1,3}$": {"type": "boolean"}}, "additionalProperties": False, "maxProperties": 2},
    {"type": "object", "properties": {"when": {"type": "string", "format": "date"}, "id": {"type": "string", "format": "uuid"}},
     "required": ["id", "when"], "additionalProperties": False},
    {"oneOf": [{"type": "object", "properties": {"kind": {"const": "a"}, "n": {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 9}},
                "required": ["kind", "n"], "additionalProperties": False},
               {"type": "object", "properties": {"kind": {"const": "b"}}, "required": ["kind"], "additionalProperties": False}]},
    {"allOf": [{"type": "string", "minLength": 2}, {"type": "string", "maxLength": 4}]},
    {"type": "array", "prefixItems": [{"type": "integer", "minimum": 1, "maximum": 9}, {"const": "x"}], "items": False, "minItems": 2},
]


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece", "characters"])
@pytest.mark.parametrize("schema", SCHEMAS, ids=range(len(SCHEMAS)))
def test_schemas(clients, kind, schema):
    client, ended = clients[kind], 0
    for seed in range(25):
        text = client.draw(client.open(json_schema=schema), seed, most=120)
        if text is not None:
            ended += 1
            jsonschema.Draft202012Validator(schema).validate(json.loads(text))
    assert ended > 5


def test_keys_come_in_the_order_of_required(clients):
    schema = {"type": "object", "properties": {"a": {"const": 1}, "bb": {"const": 2}, "ccc": {"const": 3}},
              "required": ["ccc", "a", "bb"], "additionalProperties": False}
    for seed in range(10):
        assert list(json.loads(clients["byte_level"].draw(clients["byte_level"].open(json_schema=schema), seed))) == ["ccc", "a", "bb"]


def test_lark_with_a_schema(clients):
    client = clients["byte_level"]
    grammar = 'start: greeting " " rest\ngreeting: "Hello" | "Good " DAY\nDAY: /morning|evening/\nrest: %json {"type": "integer", "minimum": 1, "maximum": 12}'
    for seed in range(20):
        assert re.fullmatch("(Hello|Good (morning|evening)) ([1-9]|1[0-2])", client.draw(client.open(grammar=grammar), seed))


def test_special_tokens_are_not_text(clients):
    for kind, name in [("byte_level", "<|endoftext|>"), ("sentencepiece", "<s>"), ("characters", "</s>")]:
        client = clients[kind]
        tokens, handle = [], client.open(regex=re.escape(name))
        while not client.mask(handle, tokens)[1]:
            tokens.append(int(client.mask(handle, tokens)[0][-1]))
        assert client.text(tokens) == name and len(tokens) > 1
        allowed, _ = client.mask(client.open(regex=r"[\s\S]*"), [])
        special = {i for i, token in client.tokenizer.get_added_tokens_decoder().items() if token.special}
        assert special & set(allowed) <= {0}, "only the end"
        assert max(allowed) < client.tokenizer.get_vocab_size(), "no ids that are nobody's"


def test_bytes_that_text_cannot_hold(clients):
    vocabulary = Vocabulary(clients["byte_level"].tokenizer, 4200)
    allowed = set(clients["byte_level"].mask(clients["byte_level"].open(regex=r"[\s\S]*"), [])[0])
    assert not allowed & {vocabulary.first[b] for b in (b"\0", b"\xff", b"\xc0")}
    assert vocabulary.first[b"\xe2"] in allowed, "a character may come in parts"


def test_interleaved_and_rewound(clients):
    """What is kept between steps changes nothing: several at once, steps back, and far more than are kept."""
    client = clients["byte_level"]
    handles = [client.open(regex="[ab]{3}c?") for _ in range(constraints.MATCHERS + 20)]
    ids = client.tokenizer.encode("abac").ids
    one = client.open(regex="[ab]{3}c?")
    expected = [(list(client.mask(one, ids[:n])[0]), client.mask(one, ids[:n])[1]) for n in range(len(ids) + 1)]
    for n in [*range(len(ids) + 1), 1, 0, 2]:
        for handle in handles[::25]:
            allowed, finished = client.mask(handle, ids[:n])
            assert (list(allowed), finished) == expected[n]
    constraints.constraint_mask(client.plpy, client.gd, handles[0], [])
    with pytest.raises(Exception, match="does not continue"):
        client.mask(handles[0], client.tokenizer.encode("xyz").ids)
    assert list(client.mask(handles[0], [])[0]) == expected[0][0], "after an error too"


def test_end(clients):
    client = Client("byte_level", eos=(4095, 7, 99999))
    handle = client.open(regex="ab?")
    a, b = (client.tokenizer.encode(c).ids[0] for c in "ab")
    assert {7, 4095} <= set(client.mask(handle, [a])[0]) and not client.mask(handle, [a])[1]
    for tokens in ([a, b], [a, b, 7], [a, 4095]):
        allowed, finished = client.mask(handle, tokens)
        assert list(allowed) == [7, 4095] and finished
    without = Client("byte_level", eos=())
    allowed, finished = without.mask(without.open(regex="a"), [a])
    assert finished and not allowed.size


def test_nothing_outlives_its_transaction(refused):
    client = Client("byte_level")
    old = client.open(regex="a")
    client.now = 2
    new = client.open(regex="a")
    assert client.mask(new, [])[0].size
    with refused("22023", f"constraint {old} is not open"):
        constraints.session(client.plpy, client.gd).find(old)
    constraints.close_constraint(client.plpy, client.gd, new)
    assert not constraints.session(client.plpy, client.gd).constraints.things


@pytest.mark.parametrize("sqlstate, words, options", [
    ("22023", "cannot be used together", {"regex": "a", "grammar": 'start: "a"'}),
    ("2201B", "unclosed group", {"regex": "a(b"}),
    ("0A000", "look-around", {"regex": "(?=a)b"}),
    ("0A000", "backreferences", {"regex": r"(a)\1"}),
    ("54000", "too long", {"regex": "a" * 20000}),
    ("54000", "too complex", {"regex": "(a|bc)?" * 2300}),
    ("22023", "no text", {"regex": r"[^\s\S]"}),
    ("22023", "no text", {"grammar": 'start: start "a"'}),
    ("42601", "unknown name", {"grammar": 'start: "a" x'}),
    ("42601", "invalid grammar", {"grammar": ""}),
    ("42601", "%json", {"grammar": 'start: %json {"type": }'}),
    ("0A000", "temperature", {"grammar": 'start: x "b"\nx[temperature=0.5]: /a+/'}),
    ("0A000", "stop", {"grammar": 'start: x "b"\nx[stop="b"]: /a+/'}),
    ("0A000", "%llguidance", {"grammar": '%llguidance {"allow_invalid_utf8": true}\nstart: "a"'}),
    ("0A000", "another grammar", {"grammar": "start: @other"}),
    ("0A000", "uniqueItems", {"grammar": 'start: "a" %json {"uniqueItems": true}'}),
    ("54000", "rules", {"grammar": "start: r0\n" + "\n".join(f"r{i}: r{i + 1} \"x\"" for i in range(600)) + '\nr600: "y"'}),
    ("0A000", "uniqueItems", {"json_schema": {"type": "array", "uniqueItems": True}}),
    ("0A000", '"nullable"', {"json_schema": {"properties": {"a": {"nullable": True}}}}),
    ("0A000", "x-guidance", {"json_schema": {"x-guidance": {"lenient": True}}}),
    ("0A000", "reference", {"json_schema": {"$ref": "http://example.com/schema"}}),
    ("0A000", "oneOf", {"json_schema": {"oneOf": [{"type": "string", "maxLength": 3}, {"type": "string", "minLength": 2}]}}),
    ("22023", "Unknown format", {"json_schema": {"type": "string", "format": "nonsense"}}),
    ("22023", "Invalid type", {"json_schema": {"type": "text"}}),
    ("22023", "must be an object", {"json_schema": "[]"}),
    ("22023", "must be an object", {"json_schema": False}),
    ("22023", "must be an object", {"json_schema": {"properties": {"a": 1}}}),
    ("22023", "no text", {"json_schema": {"type": "integer", "minimum": 3, "maximum": 2}}),
    ("22023", "no text", {"json_schema": {"enum": []}}),
    ("54000", "remainders", {"json_schema": {"type": "integer", "multipleOf": 999983}}),
    ("54000", "nesting", {"json_schema": '{"items":' * 150 + "{}" + "}" * 150}),
    ("54000", "nesting", {"json_schema": {"$ref": "#/$defs/a0", "$defs": {f"a{i}": {"items": {"$ref": f"#/$defs/a{i + 1}"}} for i in range(300)} | {"a300": {}}}}),
    ("54000", "not required", {"json_schema": {"properties": {f"p{i}": {} for i in range(600)}}}),
    ("54000", "patternProperties", {"json_schema": {"patternProperties": {f"^p{i}$": {} for i in range(60)}}}),
    ("54000", "too long", {"json_schema": {"description": "x" * 300000}}),
])
def test_refused(clients, refused, sqlstate, words, options):
    client = clients["byte_level"]
    with refused(sqlstate, words):
        raise_as_is(client, **options)


def raise_as_is(client, regex=None, json_schema=None, grammar=None):
    """open_constraint without its translation of errors for PL/Python."""
    if json_schema is not None and not isinstance(json_schema, str):
        json_schema = json.dumps(json_schema)
    constraints.open_constraint.__wrapped__(client.plpy, client.gd, None, regex, json_schema, grammar, None)


def test_a_character_that_no_token_has(clients, refused):
    client = clients["characters"]
    assert client.draw(client.open(regex="a(é|b)"), 1) == "ab", "a way that leads nowhere is not taken"
    with refused("22023", "no text"):
        raise_as_is(client, regex="é")
    handle = client.open(json_schema={"const": "é"})
    tokens = client.tokenizer.encode('"').ids
    with refused("22023", "no token can continue", '"""'):
        constraints.constraint_mask.__wrapped__(client.plpy, client.gd, handle, tokens)


def test_no_constraint(clients):
    client = clients["byte_level"]
    assert client.open() is None
    assert constraints.constraint_mask(client.plpy, client.gd, None, [1]) == (None, False)


def test_forced_text_is_spelled_by_the_tokenizer(clients):
    client = clients["byte_level"]
    ids = client.tokenizer.encode("database server").ids
    handle = client.open(regex="database server")
    assert [list(client.mask(handle, ids[:n])[0]) for n in range(len(ids))] == [[token] for token in ids]


def test_grammar_text_is_stripped():
    assert grammars.nesting("a: ((b) | [c (d)])") == 3
