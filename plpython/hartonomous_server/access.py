"""Who may make the server read or write files, and where."""

from .database import rows, scalar
from .errors import FEATURE_NOT_SUPPORTED, INSUFFICIENT_PRIVILEGE, HartError


def check_role(plpy, GD, role, action):
    """The caller has the privileges of one of PostgreSQL's own roles for files; superusers have all."""
    allowed = rows(
        plpy,
        GD,
        "SELECT current_user AS name, pg_catalog.pg_has_role(current_user, $1, 'USAGE') AS allowed",
        ["name"],
        [role],
    )[0]
    if not allowed["allowed"]:
        raise HartError(
            f"permission denied to {action}",
            INSUFFICIENT_PRIVILEGE,
            detail=f"Only roles with the privileges of {role} may do that.",
            hint=f"Ask a superuser for: GRANT {role} TO {plpy.quote_ident(allowed['name'])}",
        )


def check_encoding(plpy, GD):
    """Any text a model may write fits only in UTF8."""
    encoding = scalar(plpy, GD, "SELECT pg_catalog.getdatabaseencoding() AS value")
    if encoding != "UTF8":
        raise HartError(
            f"models need a database with encoding UTF8, and this one has {encoding}",
            FEATURE_NOT_SUPPORTED,
            hint="Create a database with ENCODING 'UTF8' TEMPLATE template0.",
        )


def model_directory(plpy, GD):
    """Where relative paths start: the setting, or else None for the server's data directory."""
    return scalar(plpy, GD, "SELECT pg_catalog.current_setting('hart.model_directory', true) AS value") or None
