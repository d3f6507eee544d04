"""JSON schemas that a grammar can keep: every keyword is obeyed, or the schema is refused."""

import json
import math
import re
from fractions import Fraction

from .errors import FEATURE_NOT_SUPPORTED, INVALID_PARAMETER_VALUE, PROGRAM_LIMIT_EXCEEDED, HartError, quoted

ONE_SCHEMA = ("items", "additionalItems", "additionalProperties")
LISTS_OF_SCHEMAS = ("items", "prefixItems", "anyOf", "oneOf", "allOf")
MAPS_OF_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions")
ASSERTIONS = {
    *("$ref", "const", "enum", "type", "minItems", "maxItems", "required", "minProperties", "maxProperties"),
    *("minLength", "maxLength", "pattern", "format", "multipleOf"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *ONE_SCHEMA,
    *LISTS_OF_SCHEMAS,
    *MAPS_OF_SCHEMAS,
}
ANNOTATIONS = {
    *("$comment", "title", "description", "default", "examples", "deprecated"),
    *("readOnly", "writeOnly", "contentMediaType", "contentEncoding"),
}
OF_THE_ROOT = {"$schema", "$id", "id"}  # deeper they would change what references mean
# The grammar library follows references by recursion, compares patterns pairwise and makes states of remainders.
MOST_DEPTH, MOST_PATTERNS, LONGEST_PATTERNS, MOST_REMAINDERS = 400, 50, 16384, 20000
MOST_OPTIONAL, MOST_ALTERNATIVES = 500, 1000  # in one place


class Schema:
    """A schema whose keywords were all checked. `value` is what the grammar library gets."""

    def __init__(self, value):
        if value is True:
            value = {}
        if not isinstance(value, dict):
            raise HartError(
                "JSON schema must be an object", INVALID_PARAMETER_VALUE, hint='Begin with {"type": "object", …}.'
            )
        self.patterns, self.pattern_length, self.multiples = 0, 0, []
        self.depths = {}
        self.value = self._checked(value, "#", 1)
        depth = sum(self.depths.values())
        parts = [m.numerator for m in self.multiples], [m.denominator for m in self.multiples]
        remainders = math.lcm(*parts[0]) * math.lcm(*parts[1])
        self._limit(depth, MOST_DEPTH, "levels of nesting, those of what it refers to included")
        self._limit(self.patterns, MOST_PATTERNS, "patternProperties")
        self._limit(self.pattern_length, LONGEST_PATTERNS, "characters of patterns")
        self._limit(remainders, MOST_REMAINDERS, "remainders of multipleOf")

    def _limit(self, value, most, of_what):
        if value > most:
            raise HartError(
                "JSON schema is too complex",
                PROGRAM_LIMIT_EXCEEDED,
                detail=f"It has {value} {of_what}; at most {most} are supported.",
                hint="Simplify the schema, or generate the parts one by one.",
            )

    def _checked(self, schema, path, depth):
        """The schema with its properties in the order of `required`, then as they are; counts what it costs."""
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise HartError(
                f"JSON schema at {quoted(path)} must be an object or a boolean",
                INVALID_PARAMETER_VALUE,
                hint="Correct the schema.",
            )
        self._limit(depth, 100, "levels of nesting")
        # A definition is a way of its own, which a reference continues: all of them together bound the longest.
        part = "/".join(path.split("/")[:3]) if re.match("#/([$]defs|definitions)/", path) else "#"
        self.depths[part] = max(self.depths.get(part, 0), depth)
        for keyword in schema:
            if keyword not in ASSERTIONS and not (keyword in ANNOTATIONS or keyword in OF_THE_ROOT and path == "#"):
                raise HartError(
                    f"JSON schema keyword {quoted(keyword)} is not supported",
                    FEATURE_NOT_SUPPORTED,
                    detail=f"It is at {quoted(path)}.",
                    hint=f"Leave it out. These are obeyed: {', '.join(sorted(ASSERTIONS))}.",
                )
        self._count(schema, path)
        result = dict(schema)
        for keyword in MAPS_OF_SCHEMAS:
            if isinstance(schema.get(keyword), dict):
                result[keyword] = {
                    name: self._checked(part, f"{path}/{keyword}/{escaped(name)}", depth + 1)
                    for name, part in schema[keyword].items()
                }
        for keyword in {*ONE_SCHEMA, *LISTS_OF_SCHEMAS} & schema.keys():
            parts = schema[keyword]
            if isinstance(parts, list) and keyword in LISTS_OF_SCHEMAS:
                result[keyword] = [
                    self._checked(part, f"{path}/{keyword}/{n}", depth + 1) for n, part in enumerate(parts)
                ]
            elif keyword in ONE_SCHEMA:
                result[keyword] = self._checked(parts, f"{path}/{keyword}", depth + 1)
        return in_order(result)

    def _count(self, schema, path):
        """Add up what makes a grammar dear."""
        reference = schema.get("$ref")
        if isinstance(reference, str) and not re.fullmatch("#(/([$]defs|definitions)/[^/]*)?", reference):
            raise HartError(
                f"JSON schema reference {quoted(reference)} is not supported",
                FEATURE_NOT_SUPPORTED,
                detail=f"It is at {quoted(path)}.",
                hint='References to "#", "#/$defs/name" and "#/definitions/name" are followed.',
            )
        for keyword in ("anyOf", "oneOf", "allOf"):
            if isinstance(schema.get(keyword), list):
                self._limit(len(schema[keyword]), MOST_ALTERNATIVES, f"schemas in {keyword}")
        properties, required = schema.get("properties"), schema.get("required")
        if isinstance(properties, dict):
            names = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
            self._limit(len(properties.keys() - names), MOST_OPTIONAL, "properties that are not required")
        patterns = schema.get("patternProperties")
        texts = [schema.get("pattern"), *(patterns if isinstance(patterns, dict) else ())]
        self.patterns += len(texts) - 1
        self.pattern_length += sum(len(text) for text in texts if isinstance(text, str))
        multiple = schema.get("multipleOf")
        if isinstance(multiple, (int, float)) and not isinstance(multiple, bool) and 0 < multiple < float("inf"):
            self.multiples.append(Fraction(repr(multiple)))


def escaped(name):
    """A name as a part of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def in_order(schema):
    """The properties that are required first, in the order of that list: jsonb keeps no order of keys."""
    properties, required = schema.get("properties"), schema.get("required")
    if isinstance(properties, dict) and isinstance(required, list):
        first = {name: properties[name] for name in required if isinstance(name, str) and name in properties}
        schema["properties"] = first | properties
    return schema


def parsed(text):
    """The value of a schema's text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise HartError(
            "JSON schema cannot be read", INVALID_PARAMETER_VALUE, detail=f"{problem}.", hint="Correct the schema."
        ) from None
