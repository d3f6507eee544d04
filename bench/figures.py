"""The record of a run: every figure that was measured, each with what it is of; and what is read from it."""

from statistics import median


class Samples:
    """A list of samples, all of the round that is under way."""

    def __init__(self, samples=None):
        self.all, self.round = list(samples or []), 0

    def add(self, figure, engine, values, **about):
        """Values are milliseconds unless the figure says otherwise; about: threads, size, bandwidth and the like."""
        self.all.append({"figure": figure, "engine": engine, "round": self.round, "values": values, **about})

    def find(self, figure, engine=None, **about):
        wanted = {"figure": figure, **({"engine": engine} if engine else {}), **about}
        return [sample for sample in self.all if wanted.items() <= sample.items()]

    def values(self, figure, engine=None, **about):
        return [value for sample in self.find(figure, engine, **about) for value in sample["values"]]

    def median(self, figure, engine=None, **about):
        values = self.values(figure, engine, **about)
        return median(values) if values else None

    def speeds(self, figure, engine, **about):
        """Tokens a second of each round: what a step or call makes, by the median of its times."""
        found = {}
        for sample in self.find(figure, engine, **about):
            found.setdefault(sample["round"], []).append(1000 * tokens_of(sample) / median(sample["values"]))
        return {number: median(speeds) for number, speeds in found.items()}

    def speed(self, figure, engine, **about):
        """Median of the rounds, or None when nothing was measured."""
        speeds = self.speeds(figure, engine, **about)
        return median(speeds.values()) if speeds else None

    def best_speed(self, figure, engine, **about):
        return max(1000 * tokens_of(s) / min(s["values"]) for s in self.find(figure, engine, **about))

    def per_bandwidth(self, figure, engine, **about):
        """The same for each GB/s at which memory could be read around the measurement."""
        found = {}
        for sample in self.find(figure, engine, **about):
            found.setdefault(sample["round"], []).extend(sample["bandwidth"])
        return {number: speed / median(found[number]) for number, speed in self.speeds(figure, engine, **about).items()}

    def ratio(self, figure, engine, other, measure=None, **about):
        """How many times as fast as the other: the median of the rounds' ratios, since a slow minute falls on both."""
        measure = measure or self.speeds
        ours, theirs = measure(figure, engine, **about), measure(figure, other, **about)
        both = [ours[number] / theirs[number] for number in ours if number in theirs]
        return median(both) if both else None

    def growth(self, figure, engine, size, base, **about):
        """How many times as fast with one size as with another, round by round."""
        grown = self.speeds(figure, engine, size=size, **about)
        before = self.speeds(figure, engine, size=base, **about)
        both = [grown[number] / before[number] for number in grown if number in before]
        return median(both) if both else None


def tokens_of(sample):
    """How many tokens the time of a sample is for."""
    if "tokens" in sample:
        return sample["tokens"]
    return sample["size"] if sample["figure"] in ("prefill", "batch") else 1
