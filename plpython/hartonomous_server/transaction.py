"""Commit as the work goes where that is allowed: not inside a transaction block of the caller."""


class Transaction:
    """The procedure's transaction control; `own` tells whether there is any, once commit() was called."""

    def __init__(self, plpy):
        self.plpy = plpy
        self.own = None

    def commit(self):
        """Commit; when the caller holds the transaction, do nothing and never try again."""
        if self.own is False:
            return
        try:
            self.plpy.commit()
            self.own = True
        except self.plpy.spiexceptions.InvalidTransactionTermination:
            if self.own:
                raise
            self.own = False

    def rollback(self):
        """Undo what was not committed, where the procedure may; the caller's transaction is the caller's."""
        if self.own is not False:
            try:
                self.plpy.rollback()
            except self.plpy.spiexceptions.InvalidTransactionTermination:
                self.own = False
