"""JSON from a model's directory, read strictly: what is ambiguous is an error, not a guess."""

import json

from .errors import BAD_FILE_FORMAT, HartError, quoted


def parse_object(content, name):
    """The JSON object in these bytes."""
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except RecursionError:
        raise _malformed(name, "It is nested too deeply.") from None
    except UnicodeDecodeError as problem:
        raise _malformed(name, f"It is not UTF-8: {problem.reason} at byte {problem.start}.") from None
    except ValueError as problem:
        raise _malformed(name, f"{problem}.") from None
    if not isinstance(value, dict):
        raise _malformed(name, "It does not hold an object at its top.")
    return value


def _malformed(name, detail):
    return HartError(
        f"{name} is not valid JSON",
        BAD_FILE_FORMAT,
        detail=detail,
        hint="Download or save the model again.",
    )


def _no_duplicates(pairs):
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {quoted(twice)} appears twice")
    return result


def _no_constant(name):
    raise ValueError(f"{name} is not a JSON number")
