"""What tokens spell: the bytes that each adds to a text, and the tokens that continue a text."""

import json
import re
from collections import OrderedDict
from contextlib import contextmanager
from functools import cached_property

from .byte_level import byte_level
from .errors import BAD_FILE_FORMAT, HartError
from .tokenizer import DAMAGED, library_errors
from .tokens import session_tokenizer

CACHED = 4  # vocabularies kept in a session

# A character that tokenizers do not join with what follows. Behind it, they add no space before a first word.
ANCHOR = "\x02"


class Vocabulary:
    """The tokens of a model that spell text. Special tokens and the unused ids above the tokenizer's spell nothing."""

    def __init__(self, tokenizer, size):
        self.tokenizer = tokenizer
        self.size = size
        added = tokenizer.get_added_tokens_decoder()
        unknown = getattr(tokenizer.model, "unk_token", None)
        self.special = {i: str(t) if isinstance(t, str) else t.content for i, t in added.items() if t.special}
        if isinstance(unknown, str) and tokenizer.token_to_id(unknown) is not None:
            self.special[tokenizer.token_to_id(unknown)] = unknown
        self.unknown = tokenizer.token_to_id(unknown) if isinstance(unknown, str) else None
        self.kinds = decoder_kinds(tokenizer)

    @cached_property
    def bytes(self):
        """The bytes of each token in the middle of a text, none for tokens that are not text."""
        with library_errors("the model's tokenizer cannot decode its own tokens", BAD_FILE_FORMAT, DAMAGED):
            return self._spellings()

    def _spellings(self):
        names = [None] * self.size
        for name, token in self.tokenizer.get_vocab(with_added_tokens=True).items():
            if token < self.size and token not in self.special:
                names[token] = name
        if "ByteLevel" in self.kinds:
            return [b"" if name is None else byte_level(name) for name in names]
        return self._by_decoding(names, "ByteFallback" in self.kinds)

    def _by_decoding(self, names, byte_fallback):
        """What each token adds to the text of a token before it."""
        spelled = [b""] * self.size
        tokens = [token for token, name in enumerate(names) if name is not None]
        before = next((t for t in tokens if names[t].isascii() and names[t].isalnum()), None)
        if before is None:
            return spelled
        start = self.tokenizer.decode([before], skip_special_tokens=False)
        texts = self.tokenizer.decode_batch([[before, token] for token in tokens], skip_special_tokens=False)
        for token, text in zip(tokens, texts):
            byte = byte_fallback and re.fullmatch("<0x([0-9A-F]{2})>", names[token])
            if byte:
                spelled[token] = bytes.fromhex(byte[1])
            elif text.startswith(start):
                spelled[token] = text[len(start) :].encode()
        return spelled

    @cached_property
    def first(self):
        """The first token of each spelling."""
        first = {}
        for token, spelling in enumerate(self.bytes):
            if spelling:
                first.setdefault(spelling, token)
        return first

    @cached_property
    def longest(self):
        """Bytes of the longest spelling."""
        return max(map(len, self.first), default=0)

    @cached_property
    def anchored(self):
        """Tokens of ANCHOR when the tokenizer adds a space before a first word, which a continuation must not have."""
        with as_text(self.tokenizer):
            alone = self._ids(["a"])[0]
            anchor = self._ids([ANCHOR])[0]
        if "ByteLevel" in self.kinds:
            spelled = b"".join(byte_level(self.tokenizer.id_to_token(token)) for token in alone)
        else:
            spelled = self.spelling(alone)
        return [] if spelled == b"a" else anchor

    def spelling(self, ids):
        """The bytes that tokens spell together."""
        return b"".join(self.bytes[token] for token in ids if token < self.size)

    def _ids(self, texts):
        return [encoding.ids for encoding in self.tokenizer.encode_batch(texts, add_special_tokens=False)]

    def continuations(self, texts, at_start=False):
        """Token ids of texts that continue another one, or begin one: names of special tokens are plain text here."""
        problem = "the model's tokenizer cannot encode a text"
        with as_text(self.tokenizer), library_errors(problem, BAD_FILE_FORMAT, DAMAGED):
            anchor = [] if at_start else self.anchored
            if not anchor:
                return self._ids(texts)
            ids = self._ids([ANCHOR + text for text in texts])
        return [found[len(anchor) :] for found in ids]

    def spell(self, text):
        """Tokens that spell a text or bytes exactly: those of the tokenizer, or else the longest at each place."""
        try:
            ids = self.continuations([text])[0]
        except HartError:
            ids = []  # the caller is a library that must get an answer
        if self.spelling(ids) == text.encode():
            return ids
        rest, ids = text.encode(), []
        while rest:
            length = next((n for n in range(min(len(rest), self.longest), 0, -1) if rest[:n] in self.first), None)
            if length is None:
                break
            ids.append(self.first[rest[:length]])
            rest = rest[length:]
        return ids


def session_vocabulary(plpy, GD, model):
    """The vocabulary of a model, from the session's cache when its tokenizer is still the same."""
    tokenizer, size = session_tokenizer(plpy, GD, model)
    # A vocabulary keeps its tokenizer, so the id() is nobody else's.
    cache = GD.setdefault("hartonomous_vocabularies", OrderedDict())
    return kept(cache, (id(tokenizer), size), CACHED, lambda: Vocabulary(tokenizer, size))


def kept(cache, key, most, make):
    """What the cache has under a key, made when it is not there; the least recently used leave."""
    if key not in cache:
        cache[key] = make()
        while len(cache) > most:
            cache.popitem(last=False)
    cache.move_to_end(key)
    return cache[key]


@contextmanager
def as_text(tokenizer):
    """Names of special tokens are text like any other meanwhile."""
    before = tokenizer.encode_special_tokens
    tokenizer.encode_special_tokens = True
    try:
        yield
    finally:
        tokenizer.encode_special_tokens = before


def decoder_kinds(tokenizer):
    """Names of the decoders that make text of tokens."""
    if tokenizer.decoder is None:
        return set()
    decoder = json.loads(tokenizer.decoder.__getstate__())
    return {part["type"] for part in [decoder, *decoder.get("decoders", [])]}
