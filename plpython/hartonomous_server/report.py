"""Turn exceptions into PostgreSQL errors with their SQLSTATE, detail and hint."""

import functools

from .errors import EXTERNAL_ROUTINE_EXCEPTION, HartError


def reported(function):
    """Decorate f(plpy, …): HartError and errors from SQL end as clean errors, without a Python traceback."""

    @functools.wraps(function)
    def wrapper(plpy, *args, **kwargs):
        try:
            return function(plpy, *args, **kwargs)
        except HartError as error:
            problem = postgres_error(plpy, error.message, error.sqlstate, error.detail, error.hint)
        except plpy.SPIError as error:
            problem = from_spi(plpy, error)
        except plpy.Error as error:
            problem = error
        except MemoryError:
            problem = postgres_error(plpy, "out of memory", "53200", None, "Run fewer or smaller statements at once.")
        raise problem.with_traceback(None) from None

    return wrapper


def postgres_error(plpy, message, sqlstate, detail=None, hint=None):
    """An exception that PL/Python reports as `ERROR: hartonomous: message`."""
    # PL/Python puts the class's name before the message, and "plpy.Error: " would say nothing.
    error_class = type("hartonomous", (plpy.Error,), {"__module__": "builtins"})
    error = error_class(printable(message))
    error.sqlstate = sqlstate
    error.detail = printable(detail)
    error.hint = printable(hint)
    for name in ("schema_name", "table_name", "column_name", "datatype_name", "constraint_name"):
        setattr(error, name, None)
    return error


def from_spi(plpy, error):
    """The same for an error that a statement run through plpy.execute ended with."""
    detail, hint = None, None
    if getattr(error, "spidata", None):
        detail, hint = error.spidata[1], error.spidata[2]
    return postgres_error(plpy, str(error), sqlstate_of(error), detail, hint)


def sqlstate_of(error):
    """The SQLSTATE of an exception raised by plpy.execute."""
    sqlstate = getattr(error, "sqlstate", None)
    if isinstance(sqlstate, str):
        return sqlstate
    if getattr(error, "spidata", None):
        # PostgreSQL packs the five characters in six bits each.
        return "".join(chr(((error.spidata[0] >> (6 * i)) & 0x3F) + ord("0")) for i in range(5))
    return EXTERNAL_ROUTINE_EXCEPTION


def printable(text):
    """PostgreSQL's text cannot hold a NUL, nor half a surrogate pair."""
    if text is None:
        return None
    return str(text).replace("\0", "\\0").encode("utf-8", "backslashreplace").decode("utf-8")
