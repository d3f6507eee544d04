"""How sessions share the machine: several at once, being cancelled, being idle, with small shared buffers."""

import contextlib
import subprocess
import tempfile
import time
from datetime import datetime, timedelta

from machine import PeakMemory, processor_seconds

SESSIONS, TOKENS = 4, 32
SMALL = "128MB"
FINISHED, CANCELLED = "00000", "57014"
TIMEOUTS = (100, 170, 240, 310)
PHASES = {
    "prompt": "SELECT pg_temp.prefill(512)",
    "decoding": "SELECT pg_temp.decode(264, 400)",
    "16 sequences": "SELECT pg_temp.batch(16, 60)",
    "opening": "SELECT hart.close_context(hart.open_context()) FROM generate_series(1, 1000)",
    "tokenizing": "SELECT hart.tokenize(repeat('A database is an organized collection of data. ', 20000))",
}


def measure_sessions(samples, engine, n):
    """Tokens a second of n sessions together, from one moment to the end of the last; the private memory of each."""
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(engine.new_session()) for _ in range(n)]
        memories = [PeakMemory(session.pid) for session in sessions]
        for session in sessions:
            session.run("SELECT hart.generate('A database is', 2)")
            session.run("SELECT hart.close_context(pg_temp.context_of(64))")  # which is remembered
        # all have opened their contexts by then
        moment = datetime.now().astimezone() + timedelta(seconds=1 + n / 2)
        for session in sessions:
            session.ask(f"pg_temp.decode_from('{moment.isoformat()}', {TOKENS})")
        slowest = max(session.answer() for session in sessions)
        memory = [memory.stop() for memory in memories]
        samples.add("sessions", engine.name, [slowest], size=n, tokens=n * TOKENS, memory=memory)


def measure_timeouts(samples, engine):
    """Milliseconds from statement_timeout to the error, in each phase; none where a statement was finished before."""
    with engine.new_session(messages=subprocess.DEVNULL) as session:  # what says that a statement was cancelled
        session.run("\\set ON_ERROR_STOP off\nSELECT pg_temp.decode(64, 2)")
        for phase, statement in PHASES.items():
            late = []
            for timeout in TIMEOUTS:
                session.run(f"SET statement_timeout = {timeout}")
                started = time.perf_counter()
                state = session.run(f"{statement}\n;\n\\echo :SQLSTATE")[-1]
                taken = (time.perf_counter() - started) * 1000
                session.run("RESET statement_timeout")
                if state == CANCELLED:
                    late.append(taken - timeout)
                elif state != FINISHED:
                    raise SystemExit(f"{statement} ended with {state}")
            samples.add("cancel", engine.name, late, phase=phase)


def measure_idle(samples, engine, seconds=2):
    """Processor time of a session that has generated and waits, in milliseconds a second."""
    with engine.new_session() as session:
        session.run("SELECT hart.generate('A database is', 2)")
        pid = session.pid
        before = processor_seconds(pid)
        time.sleep(seconds)
        samples.add("idle", engine.name, [(processor_seconds(pid) - before) * 1000 / seconds])


def measure_small(samples, server, engine, decoded=6):
    """Decoding with small shared buffers, and the notices of three calls; restarts the server."""
    server.start(shared_buffers=SMALL)
    with tempfile.TemporaryFile("w+") as messages:
        with engine.new_session(messages=messages) as session:
            times = session.value(f"pg_temp.decode(64, {decoded})")
            for _ in range(2):
                session.run("SELECT hart.generate('A database is', 1)")
        messages.seek(0)
        notices = sum("NOTICE" in line for line in messages)
    samples.add("small_buffers", engine.name, times, notices=notices)


def measure_citizenship(samples, server, engine):
    for n in (1, SESSIONS) * 2:
        measure_sessions(samples, engine, n)
    measure_timeouts(samples, engine)
    measure_idle(samples, engine)
    engine.stop()
    measure_small(samples, server, engine)
