"""Text to token ids and back, with the tokenizer that is stored with a model."""

from collections import OrderedDict

from . import pieces
from . import tokenizer as library
from .database import rows, scalar
from .errors import (
    DATA_CORRUPTED,
    INVALID_PARAMETER_VALUE,
    NULL_VALUE_NOT_ALLOWED,
    HartError,
)
from .report import reported

# Tokenizers kept in a session: one takes some tens of MB.
CACHED = 4


@reported
def encode(plpy, GD, text, model, add_special_tokens=True):
    """hart.library_tokenize"""
    if text is None or add_special_tokens is None:
        return None
    return library.encode(session_tokenizer(plpy, GD, model)[0], text, add_special_tokens)


@reported
def decode(plpy, GD, ids, model):
    """hart.library_detokenize"""
    if ids is None:
        return None
    tokenizer, vocab_size = session_tokenizer(plpy, GD, model)
    check_ids(ids, vocab_size)
    return library.decode(tokenizer, ids)


@reported
def continuation(plpy, GD, prompt_ids, new_ids, model):
    """hart.library_detokenize_continuation"""
    if prompt_ids is None or new_ids is None:
        return None
    tokenizer, vocab_size = session_tokenizer(plpy, GD, model)
    check_ids(prompt_ids, vocab_size)
    check_ids(new_ids, vocab_size)
    return library.continuation(tokenizer, prompt_ids, new_ids)


@reported
def token_texts(plpy, GD, ids, model):
    """hart.library_token_texts"""
    if ids is None:
        return None
    tokenizer, vocab_size = session_tokenizer(plpy, GD, model)
    check_ids(ids, vocab_size)
    return library.token_texts(tokenizer, ids)


@reported
def begin_pieces(plpy, GD, prompt_ids, model):
    """hart.library_begin_pieces"""
    tokenizer, vocab_size = session_tokenizer(plpy, GD, model)
    check_ids(prompt_ids, vocab_size)
    window, shown = pieces.context(tokenizer, prompt_ids)
    key = next(reversed(GD["hartonomous_tokenizers"]))
    return {
        "tokenizer": f"{key[0]} {key[1].hex()}",
        "piece": "",
        "stopped": False,
        "window": window,
        "shown": shown,
        "pending": 0,
        "held": "",
        "partial": None,
    }


@reported
def next_piece(plpy, GD, text, token, stop, ends):
    """hart.library_next_piece"""
    model_id, sha256 = text["tokenizer"].split()
    tokenizer = cached_tokenizer(plpy, GD, (int(model_id), bytes.fromhex(sha256)))
    piece, text["window"], text["shown"], text["pending"] = pieces.next_piece(
        tokenizer, text["window"], text["shown"], text["pending"], token, ends
    )
    piece, text["stopped"] = pieces.cut_at_stop(text["held"] + piece, stop or ())
    text["piece"], text["held"] = (piece, "") if ends or text["stopped"] else pieces.hold_back(piece, stop or ())
    return text


def session_tokenizer(plpy, GD, model):
    """The model's tokenizer, from the session's cache when the stored file is still the same; and vocab_size."""
    key, vocab_size = stored_tokenizer(plpy, GD, model)
    return cached_tokenizer(plpy, GD, key), vocab_size


def stored_tokenizer(plpy, GD, model):
    """What the model's tokenizer is known by, (model_id, sha256) of its file; and vocab_size."""
    found = rows(
        plpy,
        GD,
        "SELECT f.model_id, f.sha256, m.vocab_size FROM hart.model_files f JOIN hart.model_registry m USING (model_id)"
        " WHERE f.model_id = hart.resolve_model($1) AND f.name = 'tokenizer.json'",
        ["text"],
        [model],
    )
    if not found:
        raise HartError("the model has no tokenizer", DATA_CORRUPTED, hint="Drop the model and ingest it again.")
    return (found[0]["model_id"], bytes(found[0]["sha256"])), found[0]["vocab_size"]


def cached_tokenizer(plpy, GD, key):
    """The tokenizer of a model whose file has this SHA-256: (model_id, sha256). Who knows that has been allowed to read it."""
    cache = GD.setdefault("hartonomous_tokenizers", OrderedDict())
    if key not in cache:
        content = stored_file(plpy, GD, *key)
        if content is None:
            raise HartError("the model has no tokenizer", DATA_CORRUPTED, hint="Drop the model and ingest it again.")
        cache[key] = library.load_tokenizer(content)
        while len(cache) > CACHED:
            cache.popitem(last=False)
    cache.move_to_end(key)
    return cache[key]


def stored_file(plpy, GD, model_id, sha256):
    """The bytes of the model's tokenizer.json with this SHA-256; None when there is no such file."""
    return scalar(
        plpy,
        GD,
        "SELECT content AS value FROM hart.model_files WHERE model_id = $1 AND name = 'tokenizer.json' AND sha256 = $2",
        ["int", "bytea"],
        [model_id, sha256],
    )


def check_ids(ids, vocab_size):
    """Ids are numbers from 0 up, below the size of the vocabulary."""
    for token in ids:
        if token is None:
            raise HartError(
                "token ids must not be null",
                NULL_VALUE_NOT_ALLOWED,
                hint="Remove the nulls, with array_remove for example.",
            )
        if isinstance(token, list):
            raise HartError(
                "token ids must be an array of one dimension", INVALID_PARAMETER_VALUE, hint="Decode one row at a time."
            )
        if not 0 <= token < vocab_size:
            raise HartError(
                f"token id {token} is out of range",
                INVALID_PARAMETER_VALUE,
                hint=f"The model's token ids are 0 to {vocab_size - 1}.",
            )
