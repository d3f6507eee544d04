"""The command `hartonomous`: the verbs of the client, for a terminal."""

import sys
from typing import Annotated, Optional

import psycopg
import typer

from . import _show
from ._client import Client

app = typer.Typer(
    help="Language models in PostgreSQL. Paths are paths of the server.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ModelOption = Annotated[Optional[str], typer.Option("--model", "-m", help="Name of the model; may be left out when there is only one.")]


@app.callback()
def connection(
    context: typer.Context,
    dsn: Annotated[str, typer.Option(help="Connection string or URI; what it leaves out comes from PGHOST, PGDATABASE, PGUSER, …")] = "",
):
    context.obj = dsn


def connected(context: typer.Context) -> Client:
    """The client of this command, closed at its end."""
    return context.with_resource(Client(context.obj, on_notice=_show.notice))


@app.command()
def ingest(
    context: typer.Context,
    path: Annotated[str, typer.Argument(help="Directory with config.json, tokenizer.json and safetensors files.")],
    name: Annotated[Optional[str], typer.Option(help="Name of the model (default: the directory's).")] = None,
):
    """Read a model into the database."""
    client = connected(context)
    with _show.progress_bar() as update:
        client.ingest(path, name, update)


@app.command()
def export(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the model.")],
    path: Annotated[str, typer.Argument(help="Directory to write to.")],
):
    """Write a model's files to a directory, as they were ingested."""
    connected(context).export(name, path)


@app.command()
def drop(context: typer.Context, name: Annotated[str, typer.Argument(help="Name of the model.")]):
    """Drop a model, at once."""
    connected(context).drop(name)


@app.command()
def models(context: typer.Context):
    """List the models of the database."""
    _show.models(connected(context).models())


@app.command()
def generate(
    context: typer.Context,
    prompt: Annotated[str, typer.Argument(help="Text to continue; - reads it from standard input.")],
    max_tokens: Annotated[int, typer.Option("--max-tokens", "-n", help="Tokens to generate at most.")] = 64,
    model: ModelOption = None,
):
    """Continue a prompt; tokens per second go to standard error."""
    prompt = sys.stdin.read() if prompt == "-" else prompt
    _show.generation(connected(context).generate(prompt, max_tokens, model))


@app.command()
def tokenize(
    context: typer.Context,
    text: Annotated[str, typer.Argument(help="Text to cut; - reads it from standard input.")],
    model: ModelOption = None,
):
    """Show the tokens of a text: id and piece, one a line."""
    text = sys.stdin.read() if text == "-" else text
    _show.tokens(connected(context).tokenize(text, model))


def main():
    """Run the command; an error of the database ends it with status 1."""
    try:
        app()
    except psycopg.Error as error:
        _show.error(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
