"""The one exception that pure code raises, and the SQLSTATEs it uses."""

UNDEFINED_FILE = "58P01"
DUPLICATE_FILE = "58P02"
IO_ERROR = "58030"
INSUFFICIENT_PRIVILEGE = "42501"
BAD_FILE_FORMAT = "22P04"
FEATURE_NOT_SUPPORTED = "0A000"
INVALID_PARAMETER_VALUE = "22023"
NULL_VALUE_NOT_ALLOWED = "22004"
PROGRAM_LIMIT_EXCEEDED = "54000"
DATA_CORRUPTED = "XX001"
SERIALIZATION_FAILURE = "40001"
OBJECT_NOT_READY = "55000"
OUT_OF_RANGE = "22003"
OBJECT_IN_USE = "55006"
QUERY_CANCELED = "57014"
INVALID_NAME = "42602"
EXTERNAL_ROUTINE_EXCEPTION = "38000"


class HartError(Exception):
    """An error as PostgreSQL reports it; there is always something that the user can do."""

    def __init__(self, message, sqlstate, *, hint, detail=None):
        super().__init__(message)
        self.message = message
        self.sqlstate = sqlstate
        self.hint = hint
        self.detail = detail


def quoted(text, limit=120):
    """A name from a file or a user, safe to print: in double quotes, on one line, not endless."""
    text = str(text)
    if len(text) > limit:
        text = text[:limit] + "…"
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text) + '"'


def listed(names, limit=5):
    """The first few names, and how many more there are."""
    names = list(names)
    text = ", ".join(quoted(name) for name in names[:limit])
    return text if len(names) <= limit else f"{text} and {len(names) - limit} more"
