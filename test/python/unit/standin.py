"""A stand-in for PL/Python's plpy: statements are answered by functions, and remembered."""

GD = dict


class Plpy:
    class Error(Exception):
        pass

    class SPIError(Exception):
        pass

    def __init__(self, atomic=False):
        self.answers = {}  # part of a statement → function of its arguments
        self.statements = []
        self.said = []
        self.atomic = atomic
        self.failing = {}  # part of a statement → exception
        termination = type("InvalidTransactionTermination", (self.SPIError,), {"sqlstate": "2D000"})
        self.spiexceptions = type("spiexceptions", (), {"InvalidTransactionTermination": termination})

    def prepare(self, sql, types):
        return sql

    def execute(self, sql, args=()):
        self.statements.append((sql, list(args)))
        for part, error in self.failing.items():
            if part in sql:
                raise error
        for part, answer in self.answers.items():
            if part in sql:
                return answer(*args)
        return []

    def count(self, part):
        return sum(part in sql for sql, _ in self.statements)

    def order(self, *parts):
        """Which of the parts came, in the order of the statements."""
        return [part for sql, _ in self.statements for part in parts if part in sql]

    def commit(self):
        self._end("COMMIT")

    def rollback(self):
        self._end("ROLLBACK")

    def _end(self, what):
        if self.atomic:
            raise self.spiexceptions.InvalidTransactionTermination("invalid transaction termination")
        self.statements.append((what, []))

    def notice(self, message, **_):
        self.said.append(message)

    warning = debug = notice

    def quote_ident(self, name):
        return f'"{name}"'
