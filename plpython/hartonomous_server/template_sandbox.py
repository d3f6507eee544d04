"""The Jinja environment of chat templates: that of transformers, in which no template can keep the server busy for ever.

Names, filters, tags and settings follow transformers' utils/chat_template_utils.py (5.x), so that a template gives the
same text. A template comes with a model, from somebody else: on top of Jinja's sandbox, its time is the
statement's, and its memory is bounded.
"""

import json
import resource
import sys
import time
from contextlib import contextmanager
from datetime import datetime

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox
import jinja2.utils

from .errors import PROGRAM_LIMIT_EXCEEDED, HartError

MAX_LENGTH = 16 << 20  # characters of a string, elements of a list, that one operation may make
MAX_BITS = 1 << 16  # of a whole number
MAX_GROWTH = 512 << 10  # kB that the process may grow by while a template runs
INTERVAL = 0.05  # seconds between two looks at the statement's cancellation


class GenerationTag(jinja2.ext.Extension):
    """{% generation %} … {% endgeneration %} marks what the model says, for training: here it is just its content."""

    tags = frozenset(["generation"])

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.Scope(body).set_lineno(line)


class TemplateDict:
    """dict() without the attributes of the class."""

    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)

    def fromkeys(self, *args, **kwargs):
        return dict.fromkeys(*args, **kwargs)


class TemplateNamespace(jinja2.utils.Namespace):
    """namespace() that refuses names with an underscore in front."""

    def __init__(*args, **kwargs):  # without a named self, so that namespace(self=…) works
        self, args = args[0], args[1:]
        values = dict(*args, **kwargs)
        for name in values:
            TemplateNamespace.check_name(name)
        jinja2.utils.Namespace.__init__(self, values)

    def __setitem__(self, name, value):
        TemplateNamespace.check_name(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def check_name(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"namespace attribute {name!r} begins with an underscore")


class ChatEnvironment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """Jinja's sandbox, with bounds to what one operation can make."""

    intercepted_binops = frozenset(["+", "*", "**"])

    def call_binop(self, context, operator, left, right):
        if too_large(operator, left, right):
            raise too_much("One operation of the template would make a value that is too large.")
        return super().call_binop(context, operator, left, right)


def too_large(operator, left, right):
    """Whether the text, list or number that an operation makes is beyond the bounds."""
    numbers = isinstance(left, int) and isinstance(right, int)
    if operator == "+":
        return hasattr(left, "__len__") and hasattr(right, "__len__") and len(left) + len(right) > MAX_LENGTH
    if operator == "**":
        return numbers and left.bit_length() * right > MAX_BITS
    if numbers:
        return left.bit_length() + right.bit_length() > MAX_BITS
    count, sequence = (left, right) if isinstance(left, int) else (right, left)
    return isinstance(count, int) and hasattr(sequence, "__len__") and count * len(sequence) > MAX_LENGTH


def too_much(detail):
    """The error for a template that asks for more than it may have."""
    return HartError(
        "the model's chat template takes too much memory",
        PROGRAM_LIMIT_EXCEEDED,
        detail=detail,
        hint="Send fewer or shorter messages, or correct the template.",
    )


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    """JSON as json.dumps writes it: Jinja's own filter escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def strftime_now(format):
    return datetime.now().strftime(format)


def new_environment():
    """What templates are compiled in."""
    environment = ChatEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = strftime_now
    environment.globals["dict"] = TemplateDict()
    environment.globals["namespace"] = TemplateNamespace
    return environment


@contextmanager
def watched(check_interrupts):
    """While a template runs: call check_interrupts now and then, and end it when it takes too much memory.

    Python code cannot be interrupted by the server, so each line of the compiled template looks at the clock.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    due = time.monotonic() + INTERVAL

    def trace(frame, event, argument):
        nonlocal due
        now = time.monotonic()
        if now >= due:
            check_interrupts()
            due = time.monotonic() + INTERVAL
            if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > MAX_GROWTH:
                raise too_much("The server process has grown by half a gigabyte while the template ran.")
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(previous)
