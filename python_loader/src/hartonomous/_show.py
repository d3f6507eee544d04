"""What the command writes: results to standard output, everything else to standard error."""

import sys
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

# Into a pipe lines are as long as they are.
output = Console(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else 1000)
errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

MISSING = ("3F000", "42P01", "42883")  # schema, table, function


def said(severity, style, message, detail=None, hint=None):
    """A message of the server, in the form psql shows it."""
    errors.print(Text(f"{severity}: ", style=style).append(message, style="default"))
    for label, text in (("DETAIL", detail), ("HINT", hint)):
        if text:
            errors.print(f"{label}: {text}")


def error(problem):
    """An error: of the server with its detail and hint, or of the connection."""
    diagnosis = problem.diag
    hint = diagnosis.message_hint
    if problem.sqlstate in MISSING and "hart" in diagnosis.message_primary:
        hint = "Run CREATE EXTENSION hartonomous CASCADE in this database."
    elif diagnosis.message_primary is None:
        hint = "Name the server with --dsn, or with PGHOST, PGPORT, PGDATABASE and PGUSER."
    said("ERROR", "bold red", diagnosis.message_primary or str(problem).strip(), diagnosis.message_detail, hint)


def notice(diagnosis):
    """A notice or warning."""
    said(diagnosis.severity, "bold yellow", diagnosis.message_primary, diagnosis.message_detail, diagnosis.message_hint)


@contextmanager
def progress_bar():
    """A bar that the caller feeds with what hart.ingest_progress says."""
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[tensor]}", style="dim", markup=False),
    ]
    with Progress(*columns, console=errors) as bar:
        task = bar.add_task("ingesting", total=None, tensor="")

        def update(progress):
            tensor = f"tensor {progress.tensors_done + 1} of {progress.tensors_total}" if progress.current_tensor else ""
            bar.update(task, completed=progress.bytes_done, total=progress.bytes_total, tensor=tensor)

        yield update
        total = bar.tasks[task].total
        if total is None:  # over before the first look, so there is nothing that a bar could show
            bar.remove_task(task)
            errors.print("ready")
        else:
            bar.update(task, description="ready", completed=total, tensor="")


def short(count, unit):
    """A large number in at most four digits."""
    if count is None:
        return ""
    power, prefix = next((p, c) for p, c in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")) if count >= p or p == 1)
    return f"{count / power:.3g} {prefix}{unit}".rstrip()


def models(rows):
    """Models as a table."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("name", "architecture"):
        table.add_column(title, no_wrap=True)
    for title in ("parameters", "bytes in", "stored", "context"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for row in rows:
        numbers = (short(row.parameters, ""), short(row.bytes_in, "B"), short(row.bytes_stored, "B"), str(row.context_length))
        table.add_row(Text(row.name), row.architecture, *numbers, row.state)
    output.print(table)


def generation(answer):
    """The continuation, and how fast it came."""
    output.print(answer.text)
    count = len(answer.tokens)
    errors.print(f"({count} tokens in {answer.seconds:.2f} s: {answer.tokens_per_second:.1f} tokens per second)", style="dim")


def tokens(rows):
    """Tokens, one a line; the piece in quotes, so that spaces are seen."""
    width = max((len(str(row.id)) for row in rows), default=0)
    for row in rows:
        output.print(f"{row.id:>{width}}  {row.piece!r}")
