"""The table that `make bench` writes, from figures made up here: medians, ratios by round, goals met and missed."""
import pathlib
import sys

import pytest

sys.path.append(str(pathlib.Path(__file__).parents[2] / "bench"))

import goals
import report
from figures import Samples

OURS, BF16, Q8 = "hartonomous", "llama.cpp BF16", "llama.cpp Q8_0"


def decoded(samples, engine, times, size=64, threads=2, bandwidth=(20.0, 20.0)):
    """A round of decoding, each token in the same time."""
    samples.add("decode", engine, [times] * 3, size=size, threads=threads, bandwidth=list(bandwidth))


@pytest.fixture
def run():
    """Three rounds of two engines; the second round fell on a slow minute."""
    samples = Samples()
    for number, (ours, bf16) in enumerate([(40, 50), (80, 100), (50, 60)], start=1):
        samples.round = number
        decoded(samples, OURS, ours)
        decoded(samples, BF16, bf16)
        decoded(samples, OURS, 100, size=4096)
        for length, taken in ((128, 1000), (512, 2000)):
            samples.add("prefill", OURS, [taken], size=length, threads=2)
            samples.add("prefill", BF16, [taken * 0.8], size=length, threads=2)
        samples.add("generate_many", OURS, [1000], size=1, tokens=20, threads=2)
        samples.add("generate_many", OURS, [2500], size=16, tokens=320, threads=2)
        samples.add("first_token", OURS, [120 + number], threads=2)
        samples.add("first_token", BF16, [500], threads=2, imports=200, loaded=300)
        samples.add("generate_one", OURS, [75], threads=2)
    samples.add("cancel", OURS, [5, 51], phase="prompt")
    samples.add("cancel", OURS, [], phase="tokenizing")
    samples.add("logit_error", BF16, [0.008, 0.006], same=1, texts=2)
    samples.add("sessions", OURS, [1000], size=1, tokens=20, memory=[60e6])
    samples.add("sessions", OURS, [4000], size=4, tokens=80, memory=[60e6, 61e6, 101e6, 62e6])
    return {
        "date": "2026-01-02", "minutes": 3.2, "rounds": 3, "shared_buffers": "3GB", "huge_pages": True,
        "machine": {"cpu": "A Processor", "cores": 2, "flags": {"avx2": True, "amx_bf16": False}, "memory_gb": 24.6, "load": 0.25},
        "versions": {"hartonomous": "0.1.0", "llama-cpp-python": "0.3.36"},
        "model": {"name": "shape", "bytes": 988e6},
        "engines": {OURS: {"per_token": 800e6, "stored": 750e6}, BF16: {"per_token": 990e6, "stored": 990e6}},
        "remarks": ["llama.cpp Q8_0 was measured otherwise"],
        "samples": samples.all,
    }


def lines_of(text, beginning):
    """The cells of the rows of the tables that begin so."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return [row for row in cells if row[0].startswith(beginning)]


def verdicts(run):
    return {result.goal: result.met for result in goals.results(run, Samples(run["samples"]), 2)}


def test_speeds_are_medians_of_the_rounds(run):
    samples = Samples(run["samples"])
    assert samples.speed("decode", OURS, size=64) == 20
    assert samples.best_speed("decode", OURS, size=64) == 25
    assert samples.speed("prefill", OURS, size=512) == 256
    assert samples.speed("generate_many", OURS, size=16) == 128
    assert samples.speed("decode", Q8, size=64) is None


def test_a_ratio_is_the_median_of_those_of_each_round(run):
    samples = Samples(run["samples"])
    # 50/40, 100/80, 60/50: the slow minute fell on both
    assert samples.ratio("decode", OURS, BF16, size=64) == pytest.approx(1.25)
    assert samples.growth("decode", OURS, 4096, 64) == pytest.approx(0.5)
    assert samples.ratio("decode", OURS, Q8, size=64) is None


def test_a_ratio_at_equal_bandwidth():
    samples = Samples()
    samples.round = 1
    decoded(samples, OURS, 50, bandwidth=(20.0, 24.0))
    decoded(samples, BF16, 100, bandwidth=(10.0, 12.0))
    assert samples.ratio("decode", OURS, BF16, size=64) == pytest.approx(2)
    assert samples.ratio("decode", OURS, BF16, samples.per_bandwidth, size=64) == pytest.approx(1)


def test_a_round_without_the_peer_does_not_count(run):
    samples = Samples(run["samples"])
    samples.round = 4
    decoded(samples, OURS, 1)
    assert samples.ratio("decode", OURS, BF16, size=64) == pytest.approx(1.25)


def test_goals(run):
    met = verdicts(run)
    assert met["decoding, lossless ÷ llama.cpp BF16"] is True
    assert met["decoding, lossless ÷ llama.cpp Q8_0"] is None
    assert met["prompt of 128, default ÷ the better of llama.cpp BF16 and transformers bf16"] is False
    assert met["16 prompts by generate_many ÷ one"] is True
    assert met["decoding at 4,096 tokens ÷ at 64"] is False
    assert met["model on disk ÷ its safetensors file"] is True
    assert met["new connection to first token of a prompt of 13 tokens, ms"] is True
    assert met["fixed cost of a call of generate in a warm session, ms"] is True      # 75 less 50
    assert met["statement_timeout acts within, ms"] is False
    assert met["sum of the speeds of four sessions ÷ one"] is True
    assert met["private memory of a session, MB"] is False


def test_nothing_measured_is_not_a_goal_met(run):
    run["samples"] = [sample for sample in run["samples"] if sample["figure"] == "decode"]
    met = verdicts(run)
    assert met.pop("decoding, lossless ÷ llama.cpp BF16") is True
    assert met.pop("decoding at 4,096 tokens ÷ at 64") is False
    assert met.pop("model on disk ÷ its safetensors file") is True
    assert set(met.values()) == {None}


def test_the_better_peer_counts(run):
    samples = Samples(run["samples"])
    samples.round = 1
    samples.add("prefill", "transformers bf16", [3000], size=512, threads=2)
    samples.add("prefill", "transformers bf16", [500], size=128, threads=2)
    values = {result.goal: result.value for result in goals.speed_goals(samples, 2)}
    assert values["prompt of 512, default ÷ the better of llama.cpp BF16 and transformers bf16"] == pytest.approx(0.8)
    assert values["prompt of 128, default ÷ the better of llama.cpp BF16 and transformers bf16"] == pytest.approx(0.5)


def test_the_table(run):
    text = report.markdown(run)
    assert "A Processor, 2 cores, 25 GB" in text and "avx2 yes, amx_bf16 no" in text
    assert "20.0 GB/s with 2 threads" in text
    speeds, ratios = lines_of(text, "decoding at 64 tokens")
    assert speeds[1:] == ["20.0 (25.0)", "16.7 (20.0)"] and ratios[1:] == ["1.25"]
    assert lines_of(text, "decoding at 4,096")[1][1:] == ["10.0 (10.0)", "–"]
    # 800 MB in 40, 80 and 50 ms, of 20 GB/s
    assert lines_of(text, "of the read bandwidth")[0][1] == "80%"
    assert lines_of(text, "statement_timeout, tokenizing")[0][1] == "finished before"
    assert lines_of(text, "llama.cpp BF16")[0][1:] == ["500", "200", "–", "–"]
    assert lines_of(text, "llama.cpp BF16")[1][2:] == ["7.0e-03", "1 of 2"]
    assert "**missed**" in text and "not measured" in text


def test_hartonomous_alone(run):
    run["engines"] = {OURS: run["engines"][OURS]}
    run["samples"] = [sample for sample in run["samples"] if sample["engine"] == OURS]
    text = report.markdown(run)
    assert "÷ each" not in text
    assert lines_of(text, "decoding at 64 tokens")[0][1] == "20.0 (25.0)"


def test_every_row_of_a_table_is_as_wide_as_its_header(run):
    width = None
    for line in report.markdown(run).splitlines():
        width = None if not line.startswith("|") else width or line.count("|")
        assert width is None or line.count("|") == width


def test_a_document_gets_the_table_in_its_place(run, tmp_path):
    text, path = report.markdown(run), tmp_path / "document.md"
    path.write_text(f"Before.\n{report.BEGIN}old\n{report.END}After.\n", encoding="utf-8")
    for _ in range(2):
        report.write(path, text)
        assert path.read_text(encoding="utf-8") == f"Before.\n{report.BEGIN}\n{text}{report.END}After.\n"
    report.write(tmp_path / "table.md", text)
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == text
