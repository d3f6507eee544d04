#!/usr/bin/env python3
"""Write src_c/word_characters.h: which characters make words, by Unicode 14.0.

The ids of words depend on the table, so it is made once and for all; the script is kept to show how.
"""

import sys
import unicodedata

VERSION = "14.0.0"
JOINERS = (0x200C, 0x200D)


def kind(code_point):
    """How a character divides a text: it makes words, belongs to what it follows, or is anything else (None)."""
    category = unicodedata.category(chr(code_point))
    if category[0] == "M" or code_point in JOINERS:
        return "HART_EXTENDS"
    if category[0] in "LN" or category == "Pc":
        return "HART_WORD"
    return None


def ranges():
    """(first, last, kind) of the characters beyond ASCII."""
    result = []
    for code_point in range(0x80, 0x110000):
        this = kind(code_point)
        if this and result and result[-1][1] == code_point - 1 and result[-1][2] == this:
            result[-1][1] = code_point
        elif this:
            result.append([code_point, code_point, this])
    return result


def main():
    """Print the header."""
    if unicodedata.unidata_version != VERSION:
        sys.exit(f"this Python has Unicode {unicodedata.unidata_version}, not {VERSION}")
    print(f"""/*
 * word_characters.h
 *		Characters beyond ASCII that make words, by Unicode {VERSION}.
 *
 * Written by dev/word_characters.py.  The ids of words depend on it: never change it.
 */
static const struct
{{
	uint32_t	first;
	uint32_t	last;
	HartCharacterKind kind;
}}			word_characters[] = {{""")
    for first, last, this in ranges():
        print(f"\t{{0x{first:04X}, 0x{last:04X}, {this}}},")
    print("};")


if __name__ == "__main__":
    main()
