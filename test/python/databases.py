"""A database of a test's own."""

from psycopg import sql

from server import Session, dsn_of


class Database:
    """A database with the extension, and the models ingested into it."""

    def __init__(self, dsn, name, folders):
        self.admin, self.name, self.folders, self.ready = dsn, name, folders, set()
        with Session.open(dsn) as s:
            s.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            s.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        self.dsn = dsn_of(dsn, dbname=name)
        with self.connect() as s:
            s.execute("SET client_min_messages = warning; CREATE EXTENSION hartonomous CASCADE")

    def connect(self, **settings):
        return Session.open(self.dsn, **settings)

    def model(self, name):
        """Ingest a model of models.py, once; its name."""
        if name not in self.ready:
            with self.connect() as s:
                s.execute("CALL hart.ingest_model(%s)", [str(self.folders(name))])
            self.ready.add(name)
        return name

    def drop(self):
        with Session.open(self.admin) as s:
            s.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(self.name)))
