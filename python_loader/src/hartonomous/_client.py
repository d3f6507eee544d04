"""The verbs of the extension, as methods."""

import time
from pathlib import PurePosixPath
from typing import Callable, List, Optional

import psycopg
from psycopg.errors import Diagnostic
from psycopg.rows import class_row

from ._background import Call
from ._results import Generation, Model, Progress, Token

POLL_SECONDS = 0.2

# The prompt is tokenized once, and the answer's tokens are counted.
GENERATE = """
WITH prompt AS MATERIALIZED (SELECT hart.tokenize(%(prompt)s, %(model)s) AS tokens),
     answer AS MATERIALIZED (SELECT tokens, hart.generate_tokens(tokens, %(max_tokens)s, %(model)s) AS continuation FROM prompt)
SELECT hart.detokenize_continuation(tokens, continuation, %(model)s), continuation FROM answer
"""

TOKENIZE = """
SELECT id, hart.detokenize(ARRAY[id], %(model)s) AS piece
FROM unnest(hart.tokenize(%(text)s, %(model)s)) WITH ORDINALITY AS t (id, n) ORDER BY n
"""

MODELS = """
SELECT name, architecture, parameters, bytes_in, bytes_stored, state, ready_at, context_length FROM hart.models ORDER BY name
"""

PROGRESS = """
SELECT name, tensors_done, tensors_total, current_tensor,
       (mb_done * 1000000)::bigint AS bytes_done, (mb_total * 1000000)::bigint AS bytes_total, time_left
FROM hart.ingest_progress WHERE pid = %(pid)s
"""


class Client:
    """A connection to a database that has the extension.

    Errors are psycopg's: their `diag` has the server's message, detail and hint.
    """

    def __init__(self, dsn: str = "", on_notice: Optional[Callable[[Diagnostic], None]] = None):
        """Connect. What the connection string leaves out comes from libpq's environment variables (PGHOST, PGDATABASE, …).

        on_notice is called with every notice and warning of the server, which it may look at during the call.
        """
        self._dsn = dsn
        self._on_notice = on_notice
        self._connection = self._connect()

    def _connect(self) -> psycopg.Connection:
        """A session of its own; CALL hart.ingest_model commits as it goes, so no transaction may be open around it."""
        connection = psycopg.connect(self._dsn, autocommit=True, fallback_application_name="hartonomous")
        if self._on_notice:
            connection.add_notice_handler(self._on_notice)
        return connection

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()

    def ingest(self, path: str, name: Optional[str] = None, on_progress: Optional[Callable[[Progress], None]] = None) -> None:
        """Read a model from a directory of the server. The name defaults to the directory's.

        on_progress is called a few times a second. Interrupted (KeyboardInterrupt), the ingestion is cancelled and leaves nothing.
        """
        with self._connect() as connection:
            # what the server says line by line is shown as progress instead
            connection.execute("SET client_min_messages = warning")
            pid = connection.info.backend_pid
            with Call(connection, "CALL hart.ingest_model(%s, %s)", [path, name or PurePosixPath(path).name]) as call:
                while not call.wait(POLL_SECONDS):
                    progress = self._rows(Progress, PROGRESS, pid=pid)
                    if progress and on_progress:
                        on_progress(progress[0])

    def export(self, name: str, path: str) -> None:
        """Write the files of a model to a directory of the server, as they were ingested."""
        self._connection.execute("CALL hart.export_model(%s, %s)", [name, path])

    def drop(self, name: str) -> None:
        """Drop a model."""
        self._connection.execute("CALL hart.drop_model(%s)", [name])

    def models(self) -> List[Model]:
        """The models of the database, by name; also those on their way in."""
        return self._rows(Model, MODELS)

    def generate(self, prompt: str, max_tokens: int = 64, model: Optional[str] = None) -> Generation:
        """Continue a prompt. The model may be left out when the setting hart.model names one, or there is only one."""
        started = time.perf_counter()
        arguments = {"prompt": prompt, "max_tokens": max_tokens, "model": model}
        text, tokens = self._connection.execute(GENERATE, arguments).fetchone()
        return Generation(text, tokens, time.perf_counter() - started)

    def tokenize(self, text: str, model: Optional[str] = None) -> List[Token]:
        """The tokens of a text."""
        return self._rows(Token, TOKENIZE, text=text, model=model)

    def _rows(self, kind: type, sql: str, **arguments) -> list:
        with self._connection.cursor(row_factory=class_row(kind)) as cursor:
            return cursor.execute(sql, arguments).fetchall()
