"""A run as Markdown: the machine, the goals, the speeds of all engines and their ratios, waiting, memory."""

from statistics import median

from figures import Samples
from goals import OURS, fixed_cost, overhead, results

BEGIN, END = "<!-- table of make bench: begin -->\n", "<!-- table of make bench: end -->\n"


def table(header, rows):
    """A Markdown table; numbers to the right."""
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


def number(value):
    """Three digits are what such measurements give."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def passes_of(s, threads):
    """The machine's read bandwidth, all passes around all engines."""
    return [rate for sample in s.find("decode", threads=threads) for rate in sample.get("bandwidth", [])]


def share_of_bandwidth(run, s, engine, threads):
    """Part of the read bandwidth that decoding uses; each round beside the bandwidth of its own moment."""
    shares = []
    for sample in s.find("decode", engine, threads=threads, size=64):
        read = run["engines"][engine]["per_token"] / median(sample["values"]) / 1e6
        shares.append(read / median(sample["bandwidth"]))
    return median(shares) if shares else None


def machine_lines(run, s, counts):
    machine = run["machine"]
    flags = ", ".join(f"{name} {'yes' if there else 'no'}" for name, there in machine["flags"].items())
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    bandwidth = []
    for threads in counts:
        passes = passes_of(s, threads)
        bandwidth.append(f"{median(passes):.1f} GB/s with {threads} thread{'s' * (threads > 1)} ({min(passes):.1f} to {max(passes):.1f})")
    yield f"- {run['date']}; {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']:.0f} GB of memory ({flags})."
    yield f"- {versions}; shared_buffers {run['shared_buffers']}, {'in' if run['huge_pages'] else 'not in'} huge pages."
    yield f"- {run['rounds']} round(s) in {run['minutes']:.0f} minutes; load of the machine before: {machine['load']:.1f}."
    yield f"- Read bandwidth of memory in the same run: {'; '.join(bandwidth)}."
    yield f"- Model: {run['model']['name']}, {run['model']['bytes'] / 1e6:.0f} MB."
    yield from (f"- {remark}." for remark in run["remarks"])
    yield ""


def goal_lines(run, s, threads):
    rows = []
    for result in results(run, s, threads):
        bound = f"{'≥' if result.at_least else '≤'} {result.bound:g}"
        rows.append([result.goal, result.write(result.value), bound, result.verdict])
    return [f"Goals, with {threads} threads where they count:", "", *table(["goal", "measured", "wanted", ""], rows)]


def speed_figures(s, threads):
    """Title and what it is of, for each line of the table of speeds."""
    def sizes(figure):
        return sorted({sample["size"] for sample in s.find(figure, threads=threads)})

    for size in sizes("decode"):
        yield f"decoding at {size:,} tokens", "decode", size
    for size in sizes("prefill"):
        yield f"prompt of {size}", "prefill", size
    for size in sizes("batch"):
        yield f"{size} sequences together", "batch", size


def speed_lines(run, s, threads):
    """Tokens a second, the median of the rounds and the best single one, and how many times as fast Hartonomous is."""
    engines = [name for name in run["engines"] if s.find("decode", name, threads=threads)]
    speeds, ratios = [], []
    for title, figure, size in speed_figures(s, threads):
        about = {"threads": threads, "size": size}
        cells = []
        for engine in engines:
            speed = s.speed(figure, engine, **about)
            cells.append("–" if speed is None else f"{number(speed)} ({number(s.best_speed(figure, engine, **about))})")
        speeds.append([title, *cells])
        ratios.append([title, *(number(s.ratio(figure, OURS, engine, **about)) for engine in engines if engine != OURS)])
    shares = (share_of_bandwidth(run, s, engine, threads) for engine in engines)
    speeds.insert(1, ["of the read bandwidth", *("–" if share is None else f"{share:.0%}" for share in shares)])
    lines = [f"Tokens a second with {threads} thread{'s' * (threads > 1)}, median (best):", "", *table(["", *engines], speeds)]
    others = [engine for engine in engines if engine != OURS]
    paired = (s.ratio("decode", OURS, engine, s.per_bandwidth, threads=threads, size=64) for engine in others)
    ratios.insert(1, ["at equal read bandwidth", *map(number, paired)])
    if others:
        lines += [f"{OURS} ÷ each, {threads} thread{'s' * (threads > 1)}:", ""]
        lines += table(["", *others], ratios)
    return lines


def waiting_lines(run, s):
    """From nothing to the first token, ms."""
    columns = {
        "new process, warm": lambda engine: s.median("first_token", engine),
        "of that, Python and its imports": lambda engine: median_of(s, "first_token", engine, "imports"),
        "after a start of the server": lambda engine: s.median("first_token_after_start", engine),
        "read from disk": lambda engine: s.median("first_token_from_disk", engine),
    }
    rows = [[engine, *(number(column(engine)) for column in columns.values())] for engine in run["engines"]]
    return ["First token of a prompt of 13 tokens, ms:", "", *table(["", *columns], rows)]


def median_of(s, figure, engine, field):
    values = [sample[field] for sample in s.find(figure, engine) if field in sample]
    return median(values) if values else None


def size_lines(run, s):
    rows = []
    for engine, sizes in run["engines"].items():
        errors = s.values("logit_error", engine)
        same = s.find("logit_error", engine)
        rows.append([
            engine,
            f"{sizes['stored'] / 1e6:.0f} ({sizes['stored'] / run['model']['bytes']:.2f})",
            f"{median(errors):.1e}" if errors else "–",
            f"{same[0]['same']} of {same[0]['texts']}" if same else "–",
        ])
    header = ["", "MB on disk (÷ safetensors)", "error of logits", "same likeliest token"]
    return ["Size, and relative L2 error of the logits against transformers fp32:", "", *table(header, rows)]


def own_rows(run, s, threads):
    """What concerns Hartonomous alone."""
    for sample in s.find("ingest"):
        seconds = sample["values"][0] / 1000
        yield "ingest, default durability", f"{seconds:.1f} s, {sample['bytes_in'] / seconds / 1e6:.0f} MB/s"
        yield "memory of the ingesting session, peak", f"{sample['memory'] / 1e6:.0f} MB"
        after = s.median("first_token", OURS)
        if after is not None:
            yield "from checkpoint to first token", f"{seconds + after / 1000:.1f} s"
    for figure, title in (("open", "open and close a context, warm"), ("generate_one", "generate one token after one, warm")):
        if s.find(figure):
            yield title, f"{s.median(figure, OURS):.1f} ms"
    cost = fixed_cost(s, threads)
    if cost is not None:
        yield "of that not the token", f"{cost:.1f} ms"
    for size in sorted({sample["size"] for sample in s.find("generate_many")}):
        yield f"generate_many of {size} prompt(s)", f"{number(s.speed('generate_many', OURS, size=size))} tokens/s"
    for size in sorted({sample["size"] for sample in s.find("sessions")}):
        memory = [used / 1e6 for sample in s.find("sessions", size=size) for used in sample["memory"]]
        yield f"{size} session(s) at once", f"{number(s.speed('sessions', OURS, size=size))} tokens/s, private memory to {max(memory):.0f} MB"
    for sample in s.find("cancel"):
        late = sample["values"]
        yield f"statement_timeout, {sample['phase']}", f"acts within {max(late):.0f} ms" if late else "finished before"
    share = overhead(s, threads)
    if share is not None:
        forward, generate = s.median("thin_forward"), s.median("thin_generate")
        yield "a token through as many layers with hardly any weights", f"{forward:.2f} ms, {share['thin_forward']:.1%} of a real one"
        yield "the same in the loop of generate", f"{generate:.2f} ms, {share['thin_generate']:.1%}"
    for sample in s.find("small_buffers"):
        yield "decoding with 128 MB of shared buffers", f"{number(1000 / median(sample['values']))} tokens/s, {sample['notices']} notice(s)"
    for call in dict.fromkeys(sample["call"] for sample in s.find("call")):
        yield call, f"{number(s.median('call', call=call))} ms"


def markdown(run):
    s = Samples(run["samples"])
    counts = sorted({sample["threads"] for sample in s.find("decode")})
    lines = [*machine_lines(run, s, counts), *goal_lines(run, s, counts[-1])]
    for threads in reversed(counts):
        lines += speed_lines(run, s, threads)
    lines += [*waiting_lines(run, s), *size_lines(run, s)]
    lines += [f"{OURS} alone:", "", *table(["", ""], [list(row) for row in own_rows(run, s, counts[-1])])]
    return "\n".join(lines)


def write(path, text):
    """Write the table to a file; in one that has the marks, between them."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    if BEGIN in old and END in old:
        text = old[: old.index(BEGIN)] + BEGIN + "\n" + text + END + old.partition(END)[2]
    path.write_text(text, encoding="utf-8")
