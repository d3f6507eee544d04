"""A psql that stays open: several measurements in one session, without a driver to install."""

import json
import subprocess

END = "--end of answer--"


class Psql:
    """One session of a database; messages is a file for what psql says beside the answers."""

    def __init__(self, program, environment, database, script=None, messages=None):
        command = [program, "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", database]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=messages, text=True, env=environment
        )
        if script:
            self.run(script)

    def send(self, sql):
        """Start statements; lines() waits for them."""
        self.sent = sql
        self.process.stdin.write(f"{sql}\n;\n\\echo {END}\n")
        self.process.stdin.flush()

    def lines(self):
        """What the statements sent last print."""
        lines = []
        for line in self.process.stdout:
            if line.rstrip("\n") == END:
                return lines
            lines.append(line.rstrip("\n"))
        raise SystemExit(f"psql stopped at: {self.sent.strip()}")

    def run(self, sql):
        """Run statements; the lines that they print."""
        self.send(sql)
        return self.lines()

    def ask(self, expression):
        """Start an expression; answer() waits for its value."""
        self.send(f"SELECT to_json({expression})")

    def answer(self):
        return json.loads("\n".join(self.lines()))

    def value(self, expression):
        """The value of an expression, by way of JSON."""
        self.ask(expression)
        return self.answer()

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
