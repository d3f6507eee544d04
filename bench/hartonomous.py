"""Hartonomous as an engine: a session of the server on one model, and the modes that this version has.

All times are lists of milliseconds.
"""

import functools
import pathlib

HERE = pathlib.Path(__file__).resolve().parent
NAME, MODEL = "hartonomous", "bench"
# Of the keys and values of the contexts that are measured a session keeps a copy
KEPT = "256MB"


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


class Hartonomous:
    """A session of the server, on one model with some settings."""

    def __init__(self, name, server, model, settings=None):
        self.name, self.server = name, server
        self.settings = {"hart.model": model, **(settings or {})}

    @functools.cached_property
    def session(self):
        """The one that measures, opened when it is first needed."""
        return self.new_session({"hart.prefix_cache": KEPT})

    def sizes(self):
        """Bytes of weights that a token needs, and of the model on disk."""
        stored = f"(SELECT bytes_stored FROM hart.models WHERE name = '{self.settings['hart.model']}')"
        return {"per_token": self.session.value("pg_temp.bytes_per_token()"), "stored": self.session.value(stored)}

    def new_session(self, settings=None, messages=None):
        """Another session like that, with the functions of measure.sql."""
        session = self.server.session(script=(HERE / "measure.sql").read_text(), messages=messages)
        for name, value in (self.settings | (settings or {})).items():
            session.run(f"SET {name} = '{value}'")
        return session

    def call(self, threads, expression):
        self.session.run(f"SET hart.threads = {threads}")
        return self.session.value(expression)

    def decode(self, threads, context, n):
        return self.call(threads, f"pg_temp.decode({context}, {n})")

    def prefill(self, threads, length):
        return self.call(threads, f"pg_temp.prefill({length})")

    def batch(self, threads, sequences, n):
        return self.call(threads, f"pg_temp.batch({sequences}, {n})")

    def logits(self, tokens):
        return self.session.value(f"hart.logits('{{{','.join(map(str, tokens))}}}')")

    def first_token_command(self, text, threads):
        """Command line and environment of a new connection that generates one token."""
        options = {**self.settings, "hart.threads": threads}
        environment = {**self.server.environment, "PGOPTIONS": " ".join(f"-c {n}={v}" for n, v in options.items())}
        return self.server.command(f"SELECT hart.generate({quoted(text)}, 1)"), environment

    def stop(self):
        if "session" in self.__dict__:
            self.session.close()
            del self.session


def has_setting(session, name):
    session.run("SELECT hart.library_version()")  # settings come with the library
    return session.value(f"EXISTS (SELECT FROM pg_settings WHERE name = '{name}')")


def modes(server, model):
    """Other ways to run the model, as far as this version has them; what they need is made here."""
    found = []
    with server.session(script="SET client_min_messages = warning") as session:
        if has_setting(session, "hart.tile_encoding"):
            session.run("SET hart.tile_encoding = plain")
            session.run(f"CALL hart.ingest_model({quoted(str(model))}, '{MODEL}_plain')")
            found.append(Hartonomous(f"{NAME} plain tiles", server, f"{MODEL}_plain"))
        if has_setting(session, "hart.activations"):
            found += [Hartonomous(f"{NAME} {value} activations", server, MODEL, {"hart.activations": value}) for value in ("float32", "bf16")]
        if session.value("to_regproc('hart.quantize_model') IS NOT NULL"):
            session.run(f"CALL hart.quantize_model('{MODEL}', 'q8', '{MODEL}_q8')")
            found.append(Hartonomous(f"{NAME} q8", server, f"{MODEL}_q8"))
    return found
