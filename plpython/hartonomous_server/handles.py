"""Numbers that stand for something of a session in SQL, of use in the transaction that opened it."""

from collections import OrderedDict
from itertools import islice

from .database import scalar
from .errors import INVALID_PARAMETER_VALUE, HartError

MOST = 10000  # open at once; the least recently used leave first


class Handles:
    """What is open, the latest used last."""

    def __init__(self, name, hint):
        self.name, self.hint = name, hint
        self.things, self.last, self.transaction = OrderedDict(), 0, None

    def open(self, plpy, GD, thing):
        """The number of a new thing. Errors skip the closing: what earlier transactions left open is forgotten now."""
        transaction = scalar(plpy, GD, "SELECT pg_catalog.now() AS value")
        if transaction != self.transaction:
            self.things.clear()
            self.transaction = transaction
        self.last += 1
        self.things[self.last] = thing
        while len(self.things) > MOST:
            self.things.popitem(last=False)
        return self.last

    def find(self, handle):
        """What a number stands for."""
        if handle not in self.things:
            raise HartError(f"{self.name} {handle} is not open", INVALID_PARAMETER_VALUE, hint=self.hint)
        self.things.move_to_end(handle)
        return self.things[handle]

    def beyond(self, most):
        """What was used less recently than so many others; just one is new since the last call."""
        if len(self.things) <= most:
            return []
        return list(islice(reversed(self.things.values()), most, None))

    def close(self, handle):
        """Forget it, if it is there."""
        self.things.pop(handle, None)
