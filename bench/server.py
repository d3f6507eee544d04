"""The private PostgreSQL server that is measured, made by dev/cluster.sh."""

import os
import pathlib
import shlex
import subprocess

from psql import Psql

HERE = pathlib.Path(__file__).resolve().parent
CLUSTER_SCRIPT = HERE.parent / "dev" / "cluster.sh"
DATABASE = "bench"


class Server:
    def __init__(self, name, shared_buffers):
        self.name, self.shared_buffers = name, shared_buffers
        self.start()
        exports = (word.split("=", 1) for word in shlex.split(self.script("env")) if "=" in word)
        self.environment = {**os.environ, **dict(exports)}
        bindir = subprocess.check_output([os.environ.get("PG_CONFIG", "pg_config"), "--bindir"], text=True).strip()
        self.program = f"{bindir}/psql"

    def script(self, command, *arguments):
        command = ["bash", CLUSTER_SCRIPT, command, self.name, *arguments]
        return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout

    def start(self, shared_buffers=None):
        """Start anew, with empty shared buffers."""
        self.stop()
        self.script("start", f"shared_buffers={shared_buffers or self.shared_buffers}")

    def huge_pages(self):
        """Pages of 2 MB that its shared memory fills; 0 where the server does not say."""
        with self.session("postgres") as session:
            # -1 where the system has none
            return int(session.value("greatest(nullif(current_setting('shared_memory_size_in_huge_pages', true), '')::int, 0)"))

    def stop(self):
        self.script("stop")

    def session(self, database=DATABASE, script=None, messages=None):
        return Psql(self.program, self.environment, database, script, messages)

    def new_database(self):
        """An empty database with the extension."""
        with self.session("postgres", "SET client_min_messages = warning") as session:
            session.run(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
            session.run(f"CREATE DATABASE {DATABASE}")
        with self.session(script="SET client_min_messages = warning") as session:
            session.run("CREATE EXTENSION hartonomous CASCADE")
            session.run(f"ALTER DATABASE {DATABASE} SET hart.model = 'bench'")

    def command(self, sql):
        """The command line of a psql that runs this alone, to be timed with everything that a new connection costs."""
        return [self.program, "-X", "-q", "-At", "-d", DATABASE, "-c", sql]
