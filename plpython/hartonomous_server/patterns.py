"""Regular expressions of tokenizers, which are Oniguruma's, as PCRE2 understands them in the same way.

Only constructs that mean the same to both are taken; others raise Unsuitable. Where a name means different characters,
these are listed: what is `\\s` to PCRE2 has U+180E besides. Both know the general categories taken here.
"""

import re

# White_Space of Unicode
SPACES = r"\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"
CATEGORIES = {"L", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Mn", "Mc", "Me", "N", "Nd", "Nl", "No"}
CONTROLS = {"r": r"\r", "n": r"\n", "t": r"\t", "f": r"\f"}

QUANTIFIER = re.compile(r"(?:[?*+][?+]?|\{[0-9]{1,4}(?:,[0-9]{0,4})?\}(?![?+*{]))")
PROPERTY = re.compile(r"\\([pP])\{([A-Za-z]+)\}")
# Letters whose small and capital forms are matched alike: alternatives of letters, or one set of them
CASELESS = re.compile(r"\(\?i:('?(?:[A-Za-z]+|\[[A-Za-z]+\])(?:\|'?(?:[A-Za-z]+|\[[A-Za-z]+\]))*)\)")
# Pairs of letters that Oniguruma also finds in one character, such as ß or ﬁ
LIGATURES = re.compile("ff|fi|fl|ss|st", re.IGNORECASE)


class Unsuitable(Exception):
    """The server's own tokenizer does not do this; the message says what."""


def translate(pattern):
    """The pattern for PCRE2, with the options UTF and UCP."""
    parser = Parser(pattern)
    translated = parser.alternatives()
    if parser.at < len(pattern):
        raise parser.unsuitable()
    return translated


class Parser:
    """Reads a pattern from left to right, and writes it again."""

    def __init__(self, pattern):
        self.pattern, self.at = pattern, 0

    def unsuitable(self):
        """The error for what stands here."""
        return Unsuitable(f"its pattern has {self.pattern[self.at : self.at + 12]!r}")

    def rest(self, length=1):
        """What stands here, without going on."""
        return self.pattern[self.at : self.at + length]

    def take(self, expression):
        """The match of an expression here, or None; goes on behind it."""
        if match := expression.match(self.pattern, self.at):
            self.at = match.end()
        return match

    def alternatives(self):
        """One or several sequences, up to a closing parenthesis or the end."""
        written = [self.sequence()]
        while self.rest() == "|":
            self.at += 1
            written.append(self.sequence())
        return "|".join(written)

    def sequence(self):
        """Atoms, each perhaps repeated."""
        written = []
        while self.rest() not in ("", "|", ")"):
            looks_ahead = self.rest(3) in ("(?=", "(?!")
            written.append(self.atom())
            quantifier = self.take(QUANTIFIER)
            if quantifier:
                if looks_ahead or self.rest() in ("?", "*", "+", "{"):
                    raise self.unsuitable()
                written.append(quantifier[0])
        return "".join(written)

    def atom(self):
        """A character, a set of characters or a group."""
        if caseless := self.take(CASELESS):
            if LIGATURES.search(caseless[1]):
                raise Unsuitable(f"its pattern has {caseless[0]!r}")
            return caseless[0]
        for opening in ("(?:", "(?=", "(?!", "("):
            if self.rest(len(opening)) == opening and (opening != "(" or self.rest(2) != "(?"):
                self.at += len(opening)
                inner = self.alternatives()
                if self.rest() != ")":
                    raise self.unsuitable()
                self.at += 1
                return (opening if opening != "(" else "(?:") + inner + ")"
        if self.rest() == "[":
            return self.bracket()
        if self.rest() == "\\":
            escape = self.escape()
            return {r"\s": f"[{SPACES}]", r"\S": f"[^{SPACES}]"}.get(escape, escape)
        if self.rest() in tuple(".^$*+?{}()[]|"):
            raise self.unsuitable()
        return self.literal()

    def literal(self):
        """One character that stands for itself."""
        character = self.rest()
        self.at += 1
        if character.isalnum() and character.isascii() or character in " '\"-_/,:;!@%~`=<>&":
            return character
        return f"\\x{{{ord(character):x}}}"

    def escape(self):
        """What begins with a backslash; \\s and \\S are left as they are."""
        if named := self.take(PROPERTY):
            if named[2] not in CATEGORIES:
                raise Unsuitable(f"its pattern has {named[0]!r}")
            return named[0]
        name = self.rest(2)[1:]
        if name in ("s", "S"):
            written = "\\" + name
        elif name in CONTROLS:
            written = CONTROLS[name]
        elif name == "d":
            written = r"\p{Nd}"
        elif name and name.isascii() and not name.isalnum():
            written = f"\\x{{{ord(name):x}}}"
        else:
            raise self.unsuitable()
        self.at += 2
        return written

    def bracket(self):
        """A set of characters in brackets."""
        self.at += 1
        written = "["
        if self.rest() == "^":
            self.at += 1
            written += "^"
        if self.rest() == "]":
            raise self.unsuitable()
        while self.rest() != "]":
            item = self.member()
            if self.rest() == "-" and self.rest(2)[1:] not in ("]", ""):
                if not self.is_single(item):
                    raise self.unsuitable()
                self.at += 1
                last = self.member()
                if not self.is_single(last):
                    raise self.unsuitable()
                item = f"{item}-{last}"
            written += item
        self.at += 1
        return written + "]"

    def member(self):
        """A character of a set, or a set in it."""
        if self.rest() in ("", "[") or self.rest(2) == "&&":
            raise self.unsuitable()
        if self.rest() != "\\":
            character = self.rest()
            self.at += 1
            return character if character.isalnum() and character.isascii() else f"\\x{{{ord(character):x}}}"
        escape = self.escape()
        if escape == r"\S":
            raise Unsuitable(r"its pattern has '\\S' in brackets")
        return SPACES if escape == r"\s" else escape

    @staticmethod
    def is_single(item):
        """Whether a member is one character."""
        return len(item) == 1 or item.startswith("\\x{") and item.count("\\") == 1 or item in CONTROLS.values()
