"""What is to be reached, and whether a run reached it."""

import dataclasses

from weights import NEAREST

OURS = "hartonomous"
BF16, Q8, TRANSFORMERS = "llama.cpp BF16", "llama.cpp Q8_0", "transformers bf16"


@dataclasses.dataclass
class Result:
    """A goal's text, the figure that decides, its bound, how to write them, and whether more is better."""

    goal: str
    value: float  # None when it was not measured
    bound: float
    form: str = "{:.2f}"
    at_least: bool = True

    @property
    def met(self):
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    @property
    def verdict(self):
        return {None: "not measured", True: "met", False: "**missed**"}[self.met]

    def write(self, value):
        return "–" if value is None else self.form.format(value)


def smallest(values):
    """The least of those that there are."""
    return min((value for value in values if value is not None), default=None)


def speed_goals(s, threads):
    about = {"threads": threads}

    def decoding(engine, other):
        return s.ratio("decode", engine, other, size=64, **about)

    yield Result("decoding, lossless ÷ llama.cpp BF16", decoding(OURS, BF16), 1.2)
    yield Result("decoding, lossless ÷ llama.cpp Q8_0", decoding(OURS, Q8), 0.8)
    yield Result("decoding, q8 ÷ llama.cpp Q8_0", decoding(f"{OURS} q8", Q8), 1.25)
    for name, engine, bound in (("default", OURS, 0.9), ("fastest", f"{OURS} bf16 activations", 1.2)):
        for length in (128, 512):
            ratios = [s.ratio("prefill", engine, other, size=length, **about) for other in (BF16, TRANSFORMERS)]
            yield Result(f"prompt of {length}, {name} ÷ the better of llama.cpp BF16 and transformers bf16", smallest(ratios), bound)
    together = s.growth("generate_many", OURS, 16, 1, **about)
    yield Result("16 prompts by generate_many ÷ one", together, 6, "{:.1f}")
    yield Result("decoding at 4,096 tokens ÷ at 64", s.growth("decode", OURS, 4096, 64, **about), 0.6)


def waiting_goals(s, threads):
    first = s.median("first_token", OURS)
    yield Result("new connection to first token of a prompt of 13 tokens, ms", first, 150, "{:.0f}", at_least=False)
    yield Result("fixed cost of a call of generate in a warm session, ms", fixed_cost(s, threads), 35, "{:.0f}", at_least=False)
    yield Result(f"{NEAREST}, ms", s.median("call", OURS, call=NEAREST), 15, "{:.1f}", at_least=False)
    late = s.values("cancel", OURS)
    yield Result("statement_timeout acts within, ms", max(late, default=None), 50, "{:.0f}", at_least=False)


def sharing_goals(s):
    yield Result("sum of the speeds of four sessions ÷ one", s.growth("sessions", OURS, 4, 1), 0.9)
    memory = [used / 1e6 for sample in s.find("sessions", OURS) for used in sample["memory"]]
    yield Result("private memory of a session, MB", max(memory, default=None), 100, "{:.0f}", at_least=False)
    yield Result("processor time of an idle session, ms a second", s.median("idle", OURS), 1, "{:.0f}", at_least=False)
    notices = [sample["notices"] for sample in s.find("small_buffers", OURS)]
    yield Result("notices of a session with small shared buffers", max(notices, default=None), 1, "{:.0f}", at_least=False)


def fixed_cost(s, threads):
    """Milliseconds of generating one token after a prompt of one, less the time of a token."""
    call, token = s.median("generate_one", OURS), s.speed("decode", OURS, size=64, threads=threads)
    return None if call is None or token is None else call - 1000 / token


def overhead(s, threads):
    """Share of a token's time that the layers in PL/pgSQL take, and the whole loop of generate; at most, by a model of hardly any weights."""
    token = s.speed("decode", OURS, size=64, threads=threads)
    if token is None or not s.find("thin_forward"):
        return None
    return {figure: s.median(figure) * token / 1000 for figure in ("thin_forward", "thin_generate")}


def results(run, s, threads):
    """All goals, in the order of the table."""
    stored = run["engines"].get(OURS, {}).get("stored")
    yield from speed_goals(s, threads)
    yield Result("model on disk ÷ its safetensors file", stored and stored / run["model"]["bytes"], 0.80, at_least=False)
    yield from waiting_goals(s, threads)
    yield from sharing_goals(s)
    share = overhead(s, threads)
    yield Result("PL/pgSQL's share of a token, at most, %", share and 100 * share["thin_forward"], 5, "{:.1f}", at_least=False)
