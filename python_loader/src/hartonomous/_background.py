"""A statement that runs while the caller does something else."""

import threading


class Call:
    """Runs one statement in a thread; leaving the block early cancels it, leaving it in time raises its error."""

    def __init__(self, connection, sql, arguments):
        self._connection = connection
        self._error = None
        # not Thread.join: when a signal interrupts that, the thread may count as ended (CPython before 3.13)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(sql, arguments), daemon=True)

    def _run(self, sql, arguments):
        try:
            self._connection.execute(sql, arguments)
        except BaseException as error:
            self._error = error
        finally:
            self._done.set()

    def wait(self, seconds):
        """Wait at most so long; whether it is done."""
        return self._done.wait(seconds)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        patience = 1  # seconds
        while kind and not self._done.is_set():
            # again, since one sent before the statement began is lost; ever later, since the server may be tidying up
            self._connection.cancel()
            self._done.wait(patience)
            patience *= 2
        if self._error and not kind:
            raise self._error
