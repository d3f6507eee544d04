"""Statements with parameters, their plans kept in the session."""


def rows(plpy, GD, sql, types=(), args=()):
    """Run a statement and return its rows."""
    return plpy.execute(plan(plpy, GD, sql, types), list(args))


def scalar(plpy, GD, sql, types=(), args=()):
    """The first column of the first row, None without a row. The column is named `value`."""
    result = rows(plpy, GD, sql, types, args)
    return result[0]["value"] if len(result) else None


def plan(plpy, GD, sql, types=()):
    """The prepared plan of a statement."""
    plans = GD.setdefault("hartonomous_plans", {})
    if sql not in plans:
        plans[sql] = plpy.prepare(sql, list(types))
    return plans[sql]
