"""A psql that stays open: several measurements in one session, without a driver to install."""

import json
import subprocess

END = "--end of answer--"


class Psql:
    """One session of a database."""

    def __init__(self, program, environment, database, script=None, stderr=None):
        command = [program, "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", database]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment
        )
        if script:
            self.run(script)

    def run(self, sql):
        """Run statements; the lines that they print."""
        self.process.stdin.write(f"{sql}\n;\n\\echo {END}\n")
        self.process.stdin.flush()
        lines = []
        for line in self.process.stdout:
            if line.rstrip("\n") == END:
                return lines
            lines.append(line.rstrip("\n"))
        raise SystemExit(f"psql stopped at: {sql.strip()}")

    def value(self, expression):
        """The value of an expression, by way of JSON."""
        return json.loads("\n".join(self.run(f"SELECT to_json({expression})")))

    @property
    def pid(self):
        return self.value("pg_backend_pid()")

    def close(self):
        self.process.stdin.close()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
