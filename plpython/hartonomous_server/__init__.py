"""The server side of hartonomous in Python: called by its PL/Python functions, never run by itself.

Modules take `plpy` and `GD` as arguments, so that they can be imported, linted and tested outside a server.
"""

import os

# One thread: a library's own threads in a backend would receive the signals that are meant for the server.
# These variables are read when numpy and tokenizers are loaded, so they are set before anything else.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Nothing is ever fetched at run time.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from .packages import check_packages
from .report import reported

__all__ = ["check_packages", "load"]


@reported
def load(plpy, GD):
    """Check the requirements and remember in the session that this was done."""
    check_packages()
    GD["hartonomous"] = True
