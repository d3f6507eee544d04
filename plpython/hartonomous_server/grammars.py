"""Regular expressions, JSON schemas and Lark grammars, checked and put in the form of the library llguidance."""

import json
import re

import llguidance

from .errors import (
    FEATURE_NOT_SUPPORTED,
    INVALID_PARAMETER_VALUE,
    PROGRAM_LIMIT_EXCEEDED,
    HartError,
)
from .schemas import Schema, parsed

INVALID_REGULAR_EXPRESSION = "2201B"
SYNTAX_ERROR = "42601"
# Names of the kinds in messages, the SQLSTATE of a wrong one, and how long its text may be.
KINDS = {
    "regex": ("regular expression", INVALID_REGULAR_EXPRESSION, 16384),
    "json_schema": ("JSON schema", INVALID_PARAMETER_VALUE, 262144),
    "grammar": ("grammar", SYNTAX_ERROR, 32768),
}
# No call of the library may take long: a statement cannot be cancelled meanwhile.
LIMITS = llguidance.LLParserLimits(
    step_max_items=10000, max_items_in_row=2000, max_lexer_states=50000, verbose_errors=False
)
MOST_RULES = 500  # with the nesting inside them: the library follows rules by recursion
JSON_OPTIONS = {
    "lenient": False,
    "coerce_one_of": False,
    "item_separator": ",",
    "key_separator": ":",
    # One space or a line break with its indentation. Models that may write any amount sometimes never stop.
    "whitespace_pattern": " |\n[ \t]{0,20}",
    # No \u: text can be written as it is, jsonb refuses \u0000, and an escape must not hide a key given already.
    "json_allowed_escapes": 'nrbtf\\"',
}
IGNORED_ATTRIBUTES = {
    "temperature": "Leave it out: the temperature is that of the whole text.",
    "stop": "Use suffix, which stays in the text, or lazy.",
}
# Strings, regular expressions and comments of a Lark grammar.
LARK_TEXT = re.compile(r'"(?:\\.|[^"\\\n])*"|/(?![/*])(?:\\.|[^/\\\n])+/|(?://|#)[^\n]*')


def library_grammar(kind, text, alphabet):
    """The grammar of one of KINDS for the library; characters outside a regular expression's alphabet are left out."""
    name, _, longest = KINDS[kind]
    if len(text) > longest:
        raise HartError(
            f"{name} of {len(text)} characters is too long",
            PROGRAM_LIMIT_EXCEEDED,
            hint=f"At most {longest} are supported; for an answer out of many, choices is faster.",
        )
    if alphabet is None and kind == "json_schema":
        schema = json.dumps(Schema(parsed(text)).value)
        return llguidance.LLMatcher.grammar_from_json_schema(schema, overrides=JSON_OPTIONS)
    if alphabet is None and kind == "regex":
        return llguidance.LLMatcher.grammar_from_regex(text)
    if kind == "json_schema":
        lark = "start: %json " + strict_json(parsed(text))
    elif kind == "regex":
        lark = f"start: TEXT\nTEXT: /{llguidance.regex_to_lark(text)}/ & /[{alphabet}]*/"
    else:
        lark = checked_lark(text)
    # What has to follow is spelled out in advance, which needs a token for each byte.
    forcing = "" if alphabet is None else '%llguidance {"no_forcing": true}\n'
    return llguidance.LLMatcher.grammar_from_lark(forcing + lark)


def checked_lark(text):
    """A Lark grammar, with what the library would ignore or break on refused, and its JSON schemas made strict."""
    text = with_strict_schemas(text)
    bare = LARK_TEXT.sub(" x ", text)
    for attributes in re.findall(r"^\s*[?!]?[A-Za-z_][\w:-]*\s*\[([^\]]*)\]\s*:", bare, re.MULTILINE):
        for name in re.findall(rf"\b({'|'.join(IGNORED_ATTRIBUTES)})\s*=", attributes):
            raise unsupported(f'attribute "{name}" of a grammar rule', IGNORED_ATTRIBUTES[name])
    if re.search(r"%llguidance\b", bare):
        raise unsupported("%llguidance in a grammar", "Leave it out.")
    if re.search(r"(^|[^\w])@\w", bare):
        raise unsupported("a reference to another grammar", "Put its rules into this one.")
    depth = sum(1 + nesting(rule) for rule in re.split(r"^(?=[^\n]*:)", bare, flags=re.MULTILINE))
    if depth > MOST_RULES:
        raise HartError(
            "grammar has too many rules",
            PROGRAM_LIMIT_EXCEEDED,
            detail=f"It has {depth} rules and nested groups; at most {MOST_RULES} are supported.",
            hint="Write long lists of alternatives in one rule, or use choices.",
        )
    return text


def with_strict_schemas(text):
    """The grammar with the schema of every %json checked and closed to other options."""
    parts, at = [], 0
    for found in re.finditer(r"%json\s*(?=\{)", text):
        if found.start() < at:
            continue
        try:
            value, end = json.JSONDecoder().raw_decode(text, found.end())
        except (ValueError, RecursionError) as problem:
            raise HartError(
                "JSON schema of %json cannot be read", SYNTAX_ERROR, detail=f"{problem}.", hint="Correct the schema."
            ) from None
        parts += [text[at : found.end()], strict_json(value)]
        at = end
    return "".join(parts) + text[at:]


def strict_json(schema):
    """A schema for %json, checked and closed to the library's other options."""
    return json.dumps({"x-guidance": JSON_OPTIONS} | Schema(schema).value)


def nesting(rule):
    """How deep its brackets go."""
    depth = deepest = 0
    for bracket in re.findall(r"[()\[\]{}]", rule):
        depth = depth + 1 if bracket in "([{" else max(depth - 1, 0)
        deepest = max(deepest, depth)
    return deepest


def unsupported(what, hint):
    return HartError(f"{what} is not supported", FEATURE_NOT_SUPPORTED, hint=hint)


def compiled(tokenizer, kind, text, alphabet):
    """A matcher at the start of the grammar; errors are the user's to correct."""
    name, sqlstate, _ = KINDS[kind]
    try:
        matcher = llguidance.LLMatcher(tokenizer, library_grammar(kind, text, alphabet), log_level=0, limits=LIMITS)
    except ValueError as problem:
        raise HartError(f"invalid {name}", sqlstate, detail=f"{problem}.", hint=f"Correct the {name}.") from None
    matcher.compute_bitmask()
    if not matcher.is_error():
        warnings = matcher.get_grammar_warnings()
        if warnings:
            raise unsupported(f"a part of the {name}", "; ".join(warnings))
        return matcher
    raise grammar_error(matcher, name, sqlstate)


def grammar_error(matcher, name, sqlstate):
    """The library's message as an error of ours."""
    message = matcher.get_error().split("<backtrace>")[0].split("<non-verbose/>")[0].strip()
    if message.startswith(("NoExtension", "Unsatisfiable")) or "nsatisfiable schema" in message:
        detail = None if message.startswith("NoExtension") else message
        return no_text(name, detail)
    if re.search(r"(?i)limit|too (big|large|many|deep|complex)|exhausted|max is|panic", message):
        return HartError(f"{name} is too complex", PROGRAM_LIMIT_EXCEEDED, detail=message, hint=f"Simplify the {name}.")
    if re.search(r"[Uu]nimplemented|not supported|only supported", message):
        return HartError(
            f"{name} uses what is not supported", FEATURE_NOT_SUPPORTED, detail=message, hint=f"Change the {name}."
        )
    return HartError(f"invalid {name}", sqlstate, detail=message, hint=f"Correct the {name}.")


def no_text(name, detail=None):
    return HartError(
        f"no text that the model can write matches the {name}",
        INVALID_PARAMETER_VALUE,
        detail=detail,
        hint=f"Check what the {name} asks for against the characters that the model's tokenizer has.",
    )
