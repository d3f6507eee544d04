"""From a checkpoint to a model in the database."""

import time

from hartonomous import MODEL, NAME, quoted
from machine import PeakMemory


def measure_ingest(samples, server, model):
    """A new database, with the model in it; default durability: fsync on, everything in the write-ahead log."""
    server.new_database()
    with server.session(script="SET client_min_messages = warning") as session:
        memory = PeakMemory(session.pid)
        started = time.perf_counter()
        session.run(f"CALL hart.ingest_model({quoted(str(model))}, '{MODEL}')")
        milliseconds = (time.perf_counter() - started) * 1000
        sizes = session.value("(SELECT m FROM (SELECT bytes_in, bytes_stored, parameters FROM hart.models) AS m)")
        samples.add("ingest", NAME, [milliseconds], memory=memory.stop(), **sizes)
