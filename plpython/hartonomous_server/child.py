"""The Python that programs beside the server run with."""

import os
import sys

from .database import scalar


def interpreter(plpy, GD):
    """The setting hart.geometry_python, else the interpreter of the Python that the server has loaded."""
    chosen = scalar(plpy, GD, "SELECT pg_catalog.current_setting('hart.geometry_python', true) AS value")
    # sys.executable of an embedded Python may be anything.
    return chosen or os.path.join(sys.base_exec_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
