"""Servers of our own, through dev/cluster.sh, and connections to any server."""
import os
import pathlib
import re
import subprocess

import psycopg

TOP = pathlib.Path(__file__).resolve().parents[2]
BINDIR = pathlib.Path(os.environ.get("HART_TEST_BINDIR", "/usr/lib/postgresql/15/bin"))
RUN_AS = os.environ.get("HART_TEST_RUN_AS", "")


class Session(psycopg.Connection):
    """A connection that keeps what the server says and knows a few shortcuts."""

    @classmethod
    def open(cls, dsn, **settings):
        session = cls.connect(dsn, autocommit=True, prepare_threshold=None, options=" ".join(f"-c {k}={v}" for k, v in settings.items()))
        session.said = []           # (severity, message, hint); what is handed to the handler does not outlive it
        session.add_notice_handler(lambda d: session.said.append((d.severity, d.message_primary, d.message_hint)))
        return session

    @property
    def warnings(self):
        """Leaked pins, for instance, are only a warning."""
        return [message for severity, message, _ in self.said if severity == "WARNING"]

    def all(self, sql, *args):
        """Rows of a query, or None where there are none."""
        cursor = self.execute(sql, args or None)
        return cursor.fetchall() if cursor.description else None

    def one(self, sql, *args):
        """The first column of the only row."""
        (row,) = self.all(sql, *args)
        return row[0]

    @property
    def pid(self):
        return self.info.backend_pid


def dsn_of(dsn, **changes):
    """A connection string with some parts replaced."""
    return psycopg.conninfo.make_conninfo(dsn, **changes)


def run(*command, check=True, **options):
    """Run a program of PostgreSQL as the server's user; its output."""
    as_user = ["runuser", "-u", RUN_AS, "--"] if RUN_AS and os.geteuid() == 0 else []
    done = subprocess.run([*as_user, *map(str, command)], check=False, cwd="/", text=True, capture_output=True, **options)
    assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


class Server:
    """A private server that can be restarted, killed and copied."""

    def __init__(self, name):
        self.name = name

    def _script(self, command, *args):
        environment = {**os.environ, **({"HART_RUN_AS": RUN_AS} if RUN_AS else {}), "PG_CONFIG": os.environ.get("PG_CONFIG", str(BINDIR / "pg_config"))}
        done = subprocess.run([TOP / "dev" / "cluster.sh", command, self.name, *args], check=False, text=True, capture_output=True, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, **settings):
        self._script("start", *(f"{k}={v}" for k, v in settings.items()))
        return self

    def stop(self):
        self._script("stop", "fast")

    def restart(self, **settings):
        self.stop()
        return self.start(**settings)

    def remove(self):
        self._script("remove")

    @property
    def environment(self):
        return dict(re.findall(r"(PG\w+)=(\S+)", self._script("env")))

    @property
    def data(self):
        return pathlib.Path(self.environment["PGDATA"])

    def dsn(self, dbname):
        e = self.environment
        return dsn_of("", host=e["PGHOST"], port=e["PGPORT"], user=e["PGUSER"], dbname=dbname)

    def standby(self, name):
        """A streaming copy of this server, started."""
        copy = Server(name)
        copy.remove()
        home = copy.data.parent
        home.mkdir(parents=True)
        if RUN_AS and os.geteuid() == 0:
            owner = self.data.stat()
            os.chown(home, owner.st_uid, owner.st_gid)
        e = self.environment
        run(BINDIR / "pg_basebackup", "-D", copy.data, "-R", "-X", "stream", "-c", "fast", "-h", e["PGHOST"], "-p", e["PGPORT"], "-U", e["PGUSER"])
        return copy.start()
