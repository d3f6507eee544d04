"""Text that grows token by token: pieces of whole characters, and nothing of a stop string."""

import json
import random

import pytest
from hartonomous_server import pieces
from hartonomous_server import tokenizer as library

from byte_tokenizers import byte_fallback, byte_level

TEXTS = ["Once upon a time", "naïve Zoë — “quoted” … ½", "日本語の文章です。", "🙂🙃👩‍👩‍👧‍👦🇪🇺", "e\u0301 a\u0308 ẛ̣", "  two  spaces\n\tand tabs ", "mixed 🜨x🜨 é"]


@pytest.fixture(params=[byte_level, byte_fallback])
def tokenizer(request):
    return library.load_tokenizer(json.dumps(request.param()).encode())


def grown(tokenizer, prompt, new):
    """The pieces that new tokens make after a prompt."""
    window, shown = pieces.context(tokenizer, prompt)
    pending, made = 0, []
    for n, token in enumerate(new, 1):
        piece, window, shown, pending = pieces.next_piece(tokenizer, window, shown, pending, token, n == len(new))
        made.append(piece)
        assert n == len(new) or len(window) <= max(2 * pieces.MANY, len(prompt)) + pieces.PARTIAL
    return made


def after(tokenizer, prompt, new):
    """What new tokens make of the text, from the last complete character of the prompt on."""
    whole = library.decode(tokenizer, prompt + new)
    before = library.decode(tokenizer, prompt)
    for partial in range(1, 4):
        if whole.startswith(before):
            break
        before = library.decode(tokenizer, prompt[:-partial])
    assert whole.startswith(before)
    return whole[len(before):]


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_the_text(tokenizer, text):
    """Wherever the prompt ends, also inside a character or with nothing but special tokens."""
    ids = library.encode(tokenizer, text * 12)
    for cut in (0, 1, 2, 3, 5, 8, 13, len(ids) // 2, len(ids) - 1):
        assert "".join(grown(tokenizer, ids[:cut], ids[cut:])) == after(tokenizer, ids[:cut], ids[cut:])


def test_pieces_are_whole_characters(tokenizer):
    ids = library.encode(tokenizer, "é🙂x" * 20)
    start = len(library.encode(tokenizer, ""))
    made = grown(tokenizer, ids[:start], ids[start:])
    assert "\ufffd" not in "".join(made)
    # a token that ends inside a character waits; what is complete does not
    assert {len(piece) for piece in made} == {0, 1}
    assert sum(map(len, made)) == 60


def test_replacement_character(tokenizer):
    """U+FFFD is a character too: it only comes out later."""
    ids = library.encode(tokenizer, "a\ufffd is \ufffd\ufffd one\ufffd")
    start = len(library.encode(tokenizer, ""))
    assert "".join(grown(tokenizer, ids[:start], ids[start:])) == "a\ufffd is \ufffd\ufffd one\ufffd"
    assert "".join(grown(tokenizer, ids, library.encode(tokenizer, "x")[start:])).strip() == "x"


def test_special_tokens_add_nothing(tokenizer):
    end = tokenizer.token_to_id("<end>") or tokenizer.token_to_id("</s>")
    ids = library.encode(tokenizer, "a time")
    with_ends = [token for i in ids for token in (i, end)]
    assert "".join(grown(tokenizer, [end] * 30, with_ends)) == library.continuation(tokenizer, [end] * 30, with_ends)


def test_any_bytes():
    """Bytes that are no text: what the decoder makes of all of them at once, piece by piece."""
    tokenizer = library.load_tokenizer(json.dumps(byte_level()).encode())
    rng = random.Random(4)
    for _ in range(300):
        ids = [rng.choice([rng.randrange(257), 65, 66]) for _ in range(rng.randrange(2, 80))]
        cut = rng.randrange(len(ids))
        assert "".join(grown(tokenizer, ids[:cut], ids[cut:])) == library.continuation(tokenizer, ids[:cut], ids[cut:])


def test_what_came_out_stays():
    """This decoder replaces every byte of a run that is not valid: characters that came out before are not taken back, what follows is not lost."""
    tokenizer = library.load_tokenizer(json.dumps(byte_fallback()).encode())
    byte = {b: tokenizer.token_to_id(f"<0x{b:02X}>") for b in range(256)}
    words = library.encode(tokenizer, "time")
    made = grown(tokenizer, words, [byte[0xC3], byte[0xA9], byte[0xFF], *words])
    assert made[:2] == ["", "é"]
    assert "".join(made) == "é\ufffd time"
    rng = random.Random(5)
    for _ in range(200):
        ids = [rng.choice([*byte.values(), *words, *words]) for _ in range(120)]
        assert "".join(grown(tokenizer, words, [*ids, *words])).endswith("time")


@pytest.mark.parametrize("name", ["qwen2.5-tokenizer", "stories260K"])
def test_real_tokenizers(data, name):
    tokenizer = library.load_tokenizer((data / name / "tokenizer.json").read_bytes())
    rng = random.Random(6)
    for text in [*TEXTS, " ".join(TEXTS)]:
        ids = library.encode(tokenizer, text * 5)
        for cut in (0, 1, 2, len(ids) // 3):
            assert "".join(grown(tokenizer, ids[:cut], ids[cut:])) == after(tokenizer, ids[:cut], ids[cut:])
    if name.startswith("qwen"):
        for _ in range(100):
            ids = [rng.randrange(tokenizer.get_vocab_size()) for _ in range(60)]
            assert "".join(grown(tokenizer, ids[:9], ids[9:])) == library.continuation(tokenizer, ids[:9], ids[9:])


def streamed(text, stop, cuts):
    """(what came out, whether it stopped) of a text in pieces, as hart.next_piece does it; nothing may be seen too early."""
    out, held = "", ""
    for piece in cuts:
        piece, stopped = pieces.cut_at_stop(held + piece, stop)
        if stopped:
            return out + piece, True
        piece, held = pieces.hold_back(piece, stop)
        out += piece
        assert text.startswith(out) and not any(s in out for s in stop)
    return out + held, False


def test_stop_strings_never_leak():
    """However the text is cut: it ends before the first stop string, and what is held back comes out when there is none."""
    rng = random.Random(7)
    for _ in range(2000):
        text = "".join(rng.choice("ab\n#é") for _ in range(rng.randrange(1, 25)))
        stop = ["".join(rng.choice("ab\n#é") for _ in range(rng.randrange(1, 6))) for _ in range(rng.randrange(1, 4))]
        cuts, at = [], 0
        while at < len(text):
            n = rng.randrange(0, 5)
            cuts.append(text[at : at + n])
            at += n
        out, stopped = streamed(text, stop, cuts)
        # the first to be complete ends it, so a longer one that begins earlier may be cut short only by one inside it
        complete = min((text.find(s) + len(s) for s in stop if s in text), default=None)
        assert stopped == (complete is not None)
        assert text.startswith(out) and not any(s in out for s in stop)
        if not stopped:
            assert out == text


def test_hold_back():
    assert pieces.hold_back("abc", ["cde"]) == ("ab", "c")
    assert pieces.hold_back("abcd", ["cde", "d"]) == ("ab", "cd")
    assert pieces.hold_back("abcx", ["cde"]) == ("abcx", "")
    assert pieces.hold_back("aaa", ["aaaa"]) == ("", "aaa")
    assert pieces.hold_back("abc", []) == ("abc", "")
    assert pieces.hold_back("", ["a"]) == ("", "")
    assert pieces.cut_at_stop("xaby", ["b", "ab"]) == ("x", True)
    assert pieces.cut_at_stop("xy", ["b"]) == ("xy", False)
