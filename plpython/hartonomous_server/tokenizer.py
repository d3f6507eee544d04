"""A Hugging Face tokenizer from the bytes of its tokenizer.json."""

from contextlib import contextmanager

import tokenizers

from .errors import BAD_FILE_FORMAT, HartError

DAMAGED = "Check tokenizer.json of the model: its vocabulary lacks what its own rules ask for."


@contextmanager
def library_errors(message, sqlstate, hint):
    """Turn what the library raises into an error with a hint. Its panics are BaseException; others of that kind are not ours to catch."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise HartError(message, sqlstate, detail=f"{error}.", hint=hint) from None


def load_tokenizer(content):
    """The tokenizer, without the truncation and padding that its file may ask for."""
    with library_errors("tokenizer.json is not valid", BAD_FILE_FORMAT, "Download or save the model again."):
        tokenizer = tokenizers.Tokenizer.from_str(content.decode("utf-8"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def largest_id(tokenizer):
    """The largest token id, -1 in an empty vocabulary."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)


def encode(tokenizer, text, add_special_tokens=True):
    """Token ids of a text, with or without the special tokens that the tokenizer adds; those in the text are recognised."""
    with library_errors("the model's tokenizer cannot encode this text", BAD_FILE_FORMAT, DAMAGED):
        return tokenizer.encode(text, add_special_tokens=add_special_tokens).ids


def decode(tokenizer, ids):
    """Text of token ids, without special tokens. PostgreSQL's text cannot hold U+0000: U+FFFD stands for it."""
    with library_errors("the model's tokenizer cannot decode these tokens", BAD_FILE_FORMAT, DAMAGED):
        return tokenizer.decode(ids, skip_special_tokens=True).replace("\0", "\ufffd")


def continuation(tokenizer, prompt_ids, new_ids):
    """What the new ids add to the text of the prompt.

    Decoding them alone would lose the space before a first word, which some decoders strip.
    """
    whole, prompt = decode(tokenizer, prompt_ids + new_ids), decode(tokenizer, prompt_ids)
    if not whole.startswith(prompt):
        # A prompt that ends amid a character ends in a replacement that the new ids may complete.
        prompt = prompt.rstrip("\ufffd")
    return whole[len(prompt) :] if whole.startswith(prompt) else decode(tokenizer, new_ids)


def token_texts(tokenizer, ids):
    """What each id adds to the text of the one before it; special tokens by their names."""
    special = {id: token.content for id, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    return [
        special[id] if id in special else continuation(tokenizer, ids[max(at - 1, 0) : at], [id])
        for at, id in enumerate(ids)
    ]
