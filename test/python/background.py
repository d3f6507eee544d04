"""Statements that run in other sessions, and what they take meanwhile."""
import contextlib
import threading
import time

import psycopg

from server import Session

LONG = 60               # seconds after which a test gives up waiting


def wait_for(what, condition):
    """Poll until a condition holds; what it returned."""
    deadline = time.monotonic() + LONG
    while not (found := condition()):
        assert time.monotonic() < deadline, f"no {what} in {LONG} s"
        time.sleep(0.01)
    return found


class Background:
    """A statement that runs meanwhile, in a session of its own or in one that is given."""

    def __init__(self, where, statement, *args):
        self.session = where if isinstance(where, Session) else Session.open(where)
        self.error, self.result = None, None
        self.thread = threading.Thread(target=self._run, args=(statement, args))
        self.thread.start()

    def _run(self, statement, args):
        try:
            self.result = self.session.all(statement, *args)
        except psycopg.Error as error:
            self.error = error

    def join(self):
        self.thread.join(LONG)
        assert not self.thread.is_alive()
        return self

    def close(self):
        with contextlib.suppress(psycopg.Error):
            self.session.cancel()
        self.join()
        self.session.close()


def private_megabytes(pid):
    """Memory that a process has for itself: neither files nor shared buffers."""
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("RssAnon")) / 1024


class PeakMemory:
    """The largest private memory of a process while this runs."""

    def __init__(self, pid):
        self.pid, self.peak, self.stop = pid, 0.0, threading.Event()
        self.thread = threading.Thread(target=self._watch)

    def _watch(self):
        while not self.stop.is_set():
            self.peak = max(self.peak, private_megabytes(self.pid))
            time.sleep(0.005)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
