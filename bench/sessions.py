"""Four sessions that generate at once, beside one alone: their speeds, and the memory that each has for itself.

    python3 bench/sessions.py --database bench --sessions 4

asks the server that PGHOST, PGPORT and PGUSER name, in a database with one model (`make bench` leaves one in the cluster
"bench"); it must run on the server's machine, as its user or root, to read what each process has. One session alone and all
together take turns, so that a slow minute of the machine falls on both.
"""

import argparse
import os
import pathlib
import time
from statistics import median

from psql import Psql

HERE = pathlib.Path(__file__).resolve().parent


def private_memory(pid):
    """Bytes that a process shares with nobody: what is shared is the server's program and shared buffers."""
    fields = (line.split() for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return sum(int(words[1]) * 1024 for words in fields if words[0] in ("Private_Clean:", "Private_Dirty:"))


def processor_seconds(pid):
    """Processor time of a process and its threads."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def together(sessions, statement):
    """Run a statement that gives a number in all sessions at the same time; the numbers."""
    for session in sessions:
        session.process.stdin.write(f"SELECT {statement};\n")
    for session in sessions:
        session.process.stdin.flush()
    return [float(session.process.stdout.readline()) for session in sessions]


def measure_sessions(open_session, n_sessions, n_tokens, rounds):
    """Tokens/s alone and together, bytes of each session, processor time of an idle second after it all."""
    script = (HERE / "measure.sql").read_text() + (HERE / "sessions.sql").read_text()
    sessions = [open_session(script) for _ in range(n_sessions)]
    pids = [session.pid for session in sessions]
    speed = f"pg_temp.speed({n_tokens})"
    together(sessions, "pg_temp.speed(2)")
    alone, all_together, memory = [], [], []
    for _ in range(rounds):
        alone += together(sessions[:1], speed)
        all_together.append(sum(together(sessions, speed)))
        memory += [private_memory(pid) for pid in pids]
    before = sum(map(processor_seconds, pids))
    time.sleep(1)
    idle = sum(map(processor_seconds, pids)) - before
    return {"alone": median(alone), "together": median(all_together), "memory": max(memory), "idle": idle}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", default="bench")
    parser.add_argument("--psql", default="psql", help="the program psql")
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=32, help="that each session generates in a round (default: 32)")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    def open_session(script):
        return Psql(options.psql, dict(os.environ), options.database, script)

    found = measure_sessions(open_session, options.sessions, options.tokens, options.rounds)
    print(f"one session: {found['alone']:.1f} tokens/s")
    print(f"{options.sessions} sessions: {found['together']:.1f} tokens/s in all, {found['together'] / found['alone']:.2f} of one")
    print(f"memory of a session for itself: {found['memory'] / 1e6:.0f} MB at most, afterwards {found['idle']:.2f} s of processor time in an idle second")


if __name__ == "__main__":
    main()
