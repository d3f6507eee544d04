"""The figures of a run as a table."""

from statistics import median

from scores import score_rows
from tokenizing import tokenizing_rows

GOALS = {"share": 0.60, "prefill": 60, "ingest": 90}


def verdict(met):
    return "met" if met else "MISSED"


def shares(figures, threads):
    """Part of the read bandwidth that decoding reaches, round by round: each round compared with its own bandwidth."""
    pairs = zip(figures["decode"][threads], figures["bandwidth"][threads], strict=True)
    return [figures["bytes_per_token"] / median(times) / 1e6 / median(passes) for times, passes in pairs]


def bandwidth_rows(figures):
    for threads, rounds in figures["bandwidth"].items():
        passes = [rate for one in rounds for rate in one]
        yield f"read bandwidth, {threads} thread(s)", f"{median(passes):.1f} GB/s (best {max(passes):.1f})", ""


def decode_rows(figures):
    for threads, rounds in figures["decode"].items():
        times = [time for one in rounds for time in one]
        rates = f"{1000 / median(times):.1f} tokens/s (best {1000 / min(times):.1f})"
        yield f"decode at 64 tokens, {threads} thread(s)", rates, f"{median(times):.1f} ms a token"
        share = median(shares(figures, threads))
        goal = f"goal {GOALS['share']:.0%}: {verdict(share >= GOALS['share'])}" if threads == 2 else ""
        read = figures["bytes_per_token"] / median(times) / 1e6
        yield "    of the read bandwidth", f"{share:.0%} ({read:.1f} GB/s of weights)", goal


def batch_rows(figures):
    for threads, batches in figures["batch"].items():
        alone = 1000 / median(time for one in figures["decode"][threads] for time in one)
        for sequences, times in batches.items():
            rate = sequences * 1000 / median(times)
            name = f"decode of {sequences} sequences together, {threads} thread(s)"
            yield name, f"{rate:.1f} tokens/s", f"{rate / alone:.1f} times one alone"


def prefill_rows(figures):
    for threads, lengths in figures["prefill"].items():
        for length, times in lengths.items():
            rate = length / median(times) * 1000
            goal = f"goal {GOALS['prefill']}: {verdict(rate >= GOALS['prefill'])}" if (threads, length) == (2, 128) else ""
            yield f"prefill of {length} tokens, {threads} thread(s)", f"{rate:.0f} tokens/s", goal or f"{median(times):.0f} ms"


def ingest_rows(figures):
    ingest, calls = figures["ingest"], figures["calls"]
    rate = ingest["bytes_in"] / ingest["seconds"] / 1e6
    goal = f"goal {GOALS['ingest']} s: {verdict(ingest['seconds'] <= GOALS['ingest'])}"
    yield "ingest", f"{ingest['seconds']:.1f} s ({rate:.0f} MB/s)", goal
    yield "    memory of its backend, peak", f"{ingest['memory'] / 1e6:.0f} MB", ""
    stored = f"{ingest['bytes_stored'] / 1e6:.0f} MB"
    yield "size on disk", stored, f"{ingest['bytes_stored'] / ingest['bytes_in'] - 1:+.1%} of {ingest['bytes_in'] / 1e6:.0f} MB"
    yield "memory of a backend that generates, peak", f"{figures['memory'] / 1e6:.0f} MB", "beside the shared weights"
    yield "open and close a context", f"{median(figures['open']):.1f} ms", f"{calls['first_open']:.0f} ms in a new session"
    yield "generate one token", f"{calls['generate']:.0f} ms", f"{calls['first_generate']:.0f} ms in a new session"


def peer_rows(figures):
    for peer in figures["peers"]:
        name = f"{peer['name']}, {peer['threads']} thread(s)"
        prefill = ", ".join(f"{int(n) / time * 1000:.0f} (prompt of {n})" for n, time in peer["prefill"].items())
        yield name, f"{1000 / median(peer['decode']):.1f} tokens/s", f"prefill tokens/s: {prefill}"


def print_report(figures):
    """Aligned columns, good in a terminal and in a text file."""
    print(f"{figures['date']}, {figures['machine']}\n{figures['server']}\n")
    rows = [row for part in (bandwidth_rows, decode_rows, batch_rows, prefill_rows, ingest_rows, score_rows, tokenizing_rows, peer_rows) for row in part(figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for name, value, remark in rows:
        print(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {remark}".rstrip())
