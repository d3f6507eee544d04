"""Text of a generation as it grows, token by token: pieces of whole characters, nothing of a stop string.

What came out stays: the pieces joined are the text. A few tokens are decoded again with each new one, so that a decoder's rules about
spaces and characters of several tokens hold, at a cost that does not grow with the text.
"""

from .tokenizer import decode

REPLACEMENT = "\ufffd"
# Bytes of a character that may still be completed
PARTIAL = 3
# Tokens decoded again: shortened to a few when there are many
FEW, MANY = 4, 24


def complete(text):
    """The text without what may be a character that is not complete: one replacement for it, or for each of its bytes."""
    kept = len(text)
    while kept > max(len(text) - PARTIAL, 0) and text[kept - 1] == REPLACEMENT:
        kept -= 1
    return text[:kept]


def context(tokenizer, tokens):
    """The last few tokens, as many as make a text that begins with a whole character; and that text."""
    few = FEW
    while few < len(tokens):
        text = decode(tokenizer, tokens[-few:])
        if text and not text.startswith(REPLACEMENT):
            return tokens[-few:], text
        few = few + 1 if few < 2 * FEW else 2 * few
    return tokens, decode(tokenizer, tokens)


def next_piece(tokenizer, window, shown, pending, token, ends):
    """What a token adds; (piece, window, shown, pending).

    `window`: the last tokens, of which the last `pending` are not shown as a whole. `shown`: their text as far as it came out.
    """
    if token is not None:
        window, pending = window + [token], pending + 1
    text = decode(tokenizer, window)
    stable = text if ends else complete(text)
    if not stable.startswith(shown):
        if text.startswith(shown):
            # What is shown ends in a character that was not complete, and still is not.
            stable = shown
        elif (before := completed(tokenizer, window, shown, pending, stable)) is not None:
            shown = before
        elif pending <= PARTIAL and text.endswith(REPLACEMENT) and not ends:
            return "", window, shown, pending
        else:
            # Bytes after a character that make none: a decoder may take back the character with them. What came out stays.
            window, shown = window[len(window) - pending :], ""
            text = decode(tokenizer, window)
            stable = text if ends else complete(text)
    piece = stable[len(shown) :]
    if stable == text:
        pending = 0
        if len(window) > MANY:
            window, stable = context(tokenizer, window)
    if len(window) > 2 * MANY and not ends:
        # nothing but bytes that make no characters
        window, pending = window[-FEW:], min(pending, FEW)
        stable = complete(decode(tokenizer, window))
    return piece, window, stable, pending


def completed(tokenizer, window, shown, pending, stable):
    """The text before a character that a prompt ends in and that the tokens after it have completed; or None."""
    if shown.endswith(REPLACEMENT):
        for partial in range(1, PARTIAL + 1):
            before = decode(tokenizer, window[: max(len(window) - pending - partial, 0)])
            if not before.endswith(REPLACEMENT) and stable.startswith(before):
                return before
    return None


def cut_at_stop(text, stop):
    """(text before the first stop string, True), or (text, False) when there is none."""
    found = [at for at in (text.find(s) for s in stop) if at >= 0]
    return (text[: min(found)], True) if found else (text, False)


def hold_back(text, stop):
    """(what can come out, the longest end that may be the beginning of a stop string)."""
    for length in range(min(len(text), max(map(len, stop), default=1) - 1), 0, -1):
        end = text[len(text) - length :]
        if any(s.startswith(end) for s in stop):
            return text[: len(text) - length], end
    return text, ""
