"""What is measured round by round: every engine in turn, each figure beside the read bandwidth of the same moment."""

import dataclasses

from first_token import first_token
from hartonomous import NAME, quoted

SHORT, LONG = 64, 4096
# The engines that decode at the long context: running it once takes each of them a good part of a minute
FAR_SIGHTED = (NAME, "llama.cpp BF16", "llama.cpp Q8_0")


@dataclasses.dataclass
class Plan:
    """How much of everything is measured."""

    rounds: int
    threads: tuple = (1, 2)
    decoded: int = 24
    decoded_long: int = 16
    prompts: tuple = (128, 512)
    prefilled: int = 5
    sequences: tuple = (2, 4, 8, 16)
    steps: int = 8
    together: int = 16
    generated: int = 32
    opened: int = 5


def measure_engine(samples, plan, bandwidth, engine, threads):
    """Decoding, and sequences together; the bandwidth before and after decoding."""
    about = {"threads": threads}
    before = bandwidth(threads)
    times = engine.decode(threads, SHORT, plan.decoded)
    samples.add("decode", engine.name, times, size=SHORT, bandwidth=before + bandwidth(threads), **about)
    if threads < max(plan.threads):
        return
    if engine.name in FAR_SIGHTED:
        samples.add("decode", engine.name, engine.decode(threads, LONG, plan.decoded_long), size=LONG, **about)
    for sequences in plan.sequences:
        times = engine.batch(threads, sequences, plan.steps)
        samples.add("batch", engine.name, times, size=sequences, **about)


def measure_prompts(samples, plan, engines, threads):
    """Every engine runs a prompt before any runs the next: the processor's speed changes within seconds, and so falls on all of them."""
    for length in plan.prompts:
        times = {engine.name: [] for engine in engines}
        for _ in range(plan.prefilled):
            for engine in engines:
                times[engine.name] += engine.prefill(threads, length)
        for engine in engines:
            samples.add("prefill", engine.name, times[engine.name], size=length, threads=threads)


def measure_calls(samples, plan, engine, threads):
    """Whole calls of hart.generate and its like in a warm session."""
    about = {"threads": threads}

    def timed(statement):
        return engine.call(threads, f"pg_temp.timed({quoted(statement)})")

    opened = [timed("SELECT hart.close_context(hart.open_context())") for _ in range(plan.opened)]
    samples.add("open", engine.name, opened, **about)
    one = [timed("SELECT hart.generate_tokens(ARRAY[11], 1)") for _ in range(plan.opened)]
    samples.add("generate_one", engine.name, one, **about)
    n = plan.generated
    prompts = "ARRAY(SELECT 'The number ' || i FROM generate_series(1, {}) AS i)"
    for size in (1, plan.together):
        call = f"SELECT * FROM hart.generate_many({prompts.format(size)}, {n}, min_tokens => {n})"
        samples.add("generate_many", engine.name, [timed(call)], size=size, tokens=n * size, **about)


def warm_up(engines, threads):
    """Load what is loaded once: libraries, pages, and the long context, which then stays."""
    for engine in engines:
        engine.decode(threads, SHORT, 2)
        if engine.name in FAR_SIGHTED:
            engine.decode(threads, LONG, 2)


def measure_rounds(samples, plan, bandwidth, hartonomous, engines, text, say):
    """Each round begins with another engine, so that none always comes after the same one."""
    threads = max(plan.threads)
    warm_up(engines, threads)
    for number in range(plan.rounds):
        say(f"round {number + 1} of {plan.rounds}")
        samples.round = number + 1
        turn = number % len(engines)
        in_turn = engines[turn:] + engines[:turn]
        for engine in in_turn:
            for count in plan.threads:
                measure_engine(samples, plan, bandwidth, engine, count)
            first_token(samples, "first_token", engine, text, threads)
        for count in plan.threads:
            measure_prompts(samples, plan, in_turn, count)
        measure_calls(samples, plan, hartonomous, threads)
