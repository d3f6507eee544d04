"""Constrained output: which tokens may come next so that the text matches a grammar.

A constraint is a handle of this session, of use in the transaction that opened it. It is told the tokens so far at
every step, so what is kept between steps only saves work: it can be made anew from them at any time.
"""

import re
from collections import OrderedDict

import llguidance
import numpy

from .database import rows
from .errors import INVALID_PARAMETER_VALUE, NULL_VALUE_NOT_ALLOWED, HartError, quoted
from .grammars import KINDS, compiled, grammar_error, no_text
from .handles import Handles
from .report import reported
from .vocabulary import kept, session_vocabulary

TOKENIZERS, GRAMMARS, MATCHERS = 2, 32, 256  # kept in a session
NEVER = re.compile(b"[\0\xc0\xc1\xf5-\xff]")  # not in UTF-8, and U+0000 not in PostgreSQL's text


@reported
def open_constraint(plpy, GD, model, regex, json_schema, grammar, stop_tokens):
    """hart.open_constraint"""
    given = {
        kind: text
        for kind, text in {"regex": regex, "json_schema": json_schema, "grammar": grammar}.items()
        if text is not None
    }
    if not given:
        return None
    if len(given) > 1:
        raise HartError(
            f"{' and '.join(given)} cannot be used together",
            INVALID_PARAMETER_VALUE,
            hint="Give one of regex, json_schema and grammar; a grammar may contain the others.",
        )
    ((kind, text),) = given.items()
    return session(plpy, GD).open(plpy, GD, model, kind, text, stop_tokens or [])


@reported
def constraint_mask(plpy, GD, handle, tokens):
    """hart.constraint_mask"""
    if handle is None:
        return None, False
    if tokens is None:
        raise HartError("tokens must not be null", NULL_VALUE_NOT_ALLOWED, hint="Pass an empty array before the first.")
    return session(plpy, GD).find(handle).mask(tokens)


@reported
def close_constraint(plpy, GD, handle):
    """hart.close_constraint"""
    session(plpy, GD).close(handle)


def session(plpy, GD):
    """The constraints of this session."""
    if "hartonomous_constraints" not in GD:
        GD["hartonomous_constraints"] = Session()
    return GD["hartonomous_constraints"]


class Session:
    """What a session keeps: vocabularies in the library's form, grammars at their start, and open constraints."""

    def __init__(self):
        self.tokenizers, self.grammars = OrderedDict(), OrderedDict()
        self.constraints = Handles("constraint", "Open it with hart.open_constraint in this transaction.")

    def open(self, plpy, GD, model, kind, text, stop_tokens):
        """The handle of a new constraint."""
        vocabulary = session_vocabulary(plpy, GD, model)
        words = kept(self.tokenizers, vocabulary, TOKENIZERS, lambda: Words(vocabulary))
        grammar = kept(self.grammars, (words, kind, text), GRAMMARS, lambda: Grammar(words, kind, text))
        found = rows(
            plpy,
            GD,
            "SELECT eos_token_ids FROM hart.model_registry WHERE model_id = hart.resolve_model($1)",
            ["text"],
            [model],
        )
        return self.constraints.open(plpy, GD, Constraint(grammar, (found[0]["eos_token_ids"] or []) + stop_tokens))

    def find(self, handle):
        """An open constraint; the least recently used ones lose what only saves work."""
        found = self.constraints.find(handle)
        for old in self.constraints.beyond(MATCHERS):
            old.matcher = None
        return found

    def close(self, handle):
        """Forget a constraint, if it is there."""
        self.constraints.close(handle)


class Words:
    """A vocabulary as the grammar library wants it. Its end of text is an id of its own, above all of the model's."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, vocabulary):
        size = vocabulary.size
        self.vocabulary, self.size = vocabulary, size
        self.tokens = [b"" if NEVER.search(spelling) else spelling for spelling in vocabulary.bytes]
        self.tokens.append(b"end of text")
        for token, name in self.vocabulary.special.items():
            if token < size:
                self.tokens[token] = name.encode()
        self.eos_token_id = size
        self.special_token_ids = [*(token for token in self.vocabulary.special if token < size), size]
        self.usable = packed([token for token, spelling in enumerate(self.tokens[:size]) if spelling], size)
        self.alphabet = alphabet(self.vocabulary)
        self.library = llguidance.LLTokenizer(self)

    def __call__(self, text):
        """Tokens of what a grammar forces."""
        return self.vocabulary.spell(text)


class Grammar:
    """A grammar over a vocabulary, before the first token."""

    def __init__(self, words, kind, text):
        self.words = words
        self.name, self.sqlstate, _ = KINDS[kind]
        self.start = compiled(words.library, kind, text, words.alphabet)


class Constraint:
    """A text on its way, and what may follow."""

    def __init__(self, grammar, ends):
        self.grammar = grammar
        self.ends = {token for token in ends if token < grammar.words.size}
        self.end_bits = packed(self.ends, grammar.words.size)
        self.text_bits = grammar.words.usable & ~self.end_bits
        self.matcher, self.tokens = None, []
        if not any(self.mask([])[0]) and not self.matcher.is_accepting():
            raise no_text(grammar.name)

    def mask(self, tokens):
        """Bits of the tokens that may follow, the lowest bit of a byte first, and whether the text is finished."""
        if tokens and tokens[-1] in self.ends:
            self._advance(tokens[:-1])
            if not self.matcher.is_accepting():
                raise self._refused(tokens[-1])
            return self.end_bits.tobytes(), True
        self._advance(tokens)
        bits = numpy.frombuffer(self.matcher.compute_bitmask(), numpy.uint8)[: len(self.text_bits)] & self.text_bits
        stuck = self.matcher.get_error().startswith("NoExtension")
        if self.matcher.is_error() and not (stuck and tokens):
            raise self._failed()
        finished = not bits.any()
        if self.matcher.is_accepting():
            bits |= self.end_bits
        elif (finished or stuck) and tokens:
            self.matcher = None
            raise HartError(
                f"no token can continue a text that has to match the {self.grammar.name}",
                INVALID_PARAMETER_VALUE,
                detail=f"The text so far is {quoted(self._text(tokens))}.",
                hint=f"Ask for characters that the model's tokenizer has, or change the {self.grammar.name}.",
            )
        return bits.tobytes(), finished

    def _advance(self, tokens):
        """Bring the matcher behind these tokens."""
        known = len(self.tokens)
        if self.matcher is None or tokens[:known] != self.tokens:
            self.matcher, known = self.grammar.start.deep_copy(), 0
        self.tokens = []
        for token in tokens[known:]:
            if token is None or not 0 <= token < self.grammar.words.size or not self.matcher.consume_token(token):
                raise self._refused(token)
        self.tokens = list(tokens)

    def _refused(self, token):
        self.matcher = None
        return HartError(
            f"token {token} does not continue a text that matches the {self.grammar.name}",
            INVALID_PARAMETER_VALUE,
            hint="Choose among the tokens of hart.constraint_mask.",
        )

    def _failed(self):
        error = grammar_error(self.matcher, self.grammar.name, self.grammar.sqlstate)
        self.matcher = None
        return error

    def _text(self, tokens):
        return self.grammar.words.vocabulary.spelling(tokens).decode("utf-8", "replace")


def packed(tokens, size):
    """A bit for each token of a vocabulary, those given set."""
    bits = numpy.zeros(size, numpy.uint8)
    bits[list(tokens)] = 1
    return numpy.packbits(bits, bitorder="little")


def alphabet(vocabulary):
    """The characters of a vocabulary as the inside of a regular expression's brackets; None when it has every byte."""
    if all(bytes([b]) in vocabulary.first for b in range(1, 0xF5) if b not in (0xC0, 0xC1)):
        return None
    characters = set().union(*(spelling.decode("utf-8", "ignore") for spelling in vocabulary.first)) - {"\0"}
    return "".join(f"\\x{{{ord(c):X}}}" for c in sorted(characters))
