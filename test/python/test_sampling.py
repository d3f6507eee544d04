"""From logits to the next token, against transformers (goldens/sampling.json) and against numpy (sampling_twin.py)."""
import json
import pathlib

import numpy as np
import pytest

import sampling_twin as twin
from sampling_cases import ENDING, PROMPT, TOKENS, logits

GOLDENS = json.loads((pathlib.Path(__file__).parent / "goldens" / "sampling.json").read_text())["cases"]
CANDIDATES = """SELECT token, probability FROM hart.candidates(%s::real[]::hart.matrix, (SELECT o FROM hart.generation_options({}) AS o), %s::int[], %s::int[], %s::int[], %s)"""


def options_sql(options):
    """Options as named arguments, and their values."""
    given = {k: json.dumps(v) if k == "logit_bias" else v for k, v in options.items()}
    return ", ".join(f"{k} => %s" + ("::jsonb" if k == "logit_bias" else "") for k in given), list(given.values())


def candidates(conn, row, options, prompt=PROMPT, tokens=TOKENS, ending=ENDING, mask=None):
    names, values = options_sql(options)
    return conn.all(CANDIDATES.format(names), list(map(float, row)), *values, prompt, tokens, ending, mask)


def sample(conn, row, seed=0, sequence=0, tokens=(), **options):
    names, values = options_sql(options)
    return conn.all(f"""SELECT * FROM hart.sample(%s::real[]::hart.matrix, (SELECT o FROM hart.generation_options({names}) AS o), tokens => %s::int[],
                        seed => %s, sequence => %s)""", list(map(float, row)), *values, list(tokens), seed, sequence)[0]


@pytest.mark.parametrize("case", GOLDENS, ids=lambda c: f"{c['logits']}-{json.dumps(c['options'], separators=(',', ':'))}")
def test_as_transformers(conn, case):
    got = candidates(conn, logits(case["logits"]), case["options"])
    # which of equal logits top_p leaves depends on torch's sort: only their probabilities are compared
    assert case["logits"] == "ties" or {t for t, _ in got} == {t for t, _ in case["left"]}
    assert len(got) == len(case["left"])
    # 1e-5: transformers computes the softmax of its warpers in float32
    assert np.abs(np.array([p for _, p in got]) - np.array([p for _, p in case["left"]])).max() < 1e-5


def test_as_transformers_live():
    """The goldens are what the installed transformers says too."""
    make = pytest.importorskip("make_sampling_goldens", exc_type=ImportError)
    for case in GOLDENS:
        now = make.left(case)
        assert [p for _, p in now] == pytest.approx([p for _, p in case["left"]], abs=1e-6)


def test_against_numpy(conn):
    """All options at once, at random, also those that transformers has not."""
    rng = np.random.default_rng(1)
    for _ in range(150):
        n = int(rng.integers(1, 400))
        row = rng.normal(0, rng.choice([0.01, 2, 30]), n).astype(np.float32)
        options = {"temperature": float(rng.uniform(0.1, 3)), "max_tokens": 100}
        for name, value in {"top_k": int(rng.integers(1, n + 2)), "top_p": float(rng.uniform(0.01, 1)), "min_p": float(rng.uniform(0, 0.3)),
                            "typical_p": float(rng.uniform(0.05, 1)), "repetition_penalty": float(rng.uniform(0.5, 2)),
                            "presence_penalty": float(rng.uniform(-2, 2)), "frequency_penalty": float(rng.uniform(-2, 2)), "min_tokens": int(rng.integers(0, 12)),
                            "logit_bias": {str(int(t)): round(float(b), 2) for t, b in zip(rng.integers(0, n, 3), rng.uniform(-20, 20, 3))}}.items():
            if rng.random() < 0.5:
                options[name] = value
        prompt, tokens, ending = (rng.integers(0, n, k).tolist() for k in (4, 6, 1))
        allowed = rng.random(n) < 0.8 if rng.random() < 0.5 and n > 50 else None
        mask = None if allowed is None else np.packbits(allowed, bitorder="little").tobytes()
        if n == 1:
            ending = []
        expected = twin.candidates(row, prompt, tokens, ending, allowed, **{k: v for k, v in options.items() if k != "max_tokens"})
        got = dict(candidates(conn, row, options, prompt, tokens, ending, mask))
        # a candidate that rounding alone puts in or out weighs next to nothing of a boundary
        assert set(got) == set(expected), options
        assert max(abs(got[t] - expected[t]) for t in got) < 1e-5


def test_draws_follow_the_probabilities(conn):
    """Frequencies of 20,000 draws: chi-square below its 99.9 % quantile; seeds are fixed, so the answer is always the same."""
    row, options = logits("normal"), {"temperature": 1.3, "top_k": 12}
    expected = dict(candidates(conn, row, options, [], [], []))
    drawn = dict(conn.all("""SELECT token, count(*) FROM generate_series(1, 20000) AS seed,
        LATERAL hart.sample(%s::real[]::hart.matrix, hart.generation_options(temperature => 1.3, top_k => 12), seed => seed) GROUP BY token""", list(map(float, row))))
    assert set(drawn) <= set(expected)
    chi_square = sum((drawn.get(t, 0) - 20000 * p) ** 2 / (20000 * p) for t, p in expected.items())
    assert chi_square < 31.26       # 11 degrees of freedom


def test_draws_are_those_of_philox(conn):
    """Known answers of the generator's authors (Random123, kat_vectors), and token for token the same draws as numpy's."""
    assert twin.philox(0, 0, 0) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert twin.philox(2 ** 64 - 1, 0, 0) != twin.philox(0, 0, 0)
    row = logits("normal")
    decided = 0
    for seed, sequence, step in [(s, q, t) for s in (0, 1, -1, 2 ** 62 + 12345, -2 ** 63) for q in (0, 1, 7) for t in (0, 1, 2, 300)]:
        chances = twin.candidates(row, (), [5] * step, temperature=1.0)
        expected = twin.draw(chances, seed, sequence, step)
        if expected is not None:
            decided += 1
            assert sample(conn, row, seed, sequence, [5] * step, temperature=1.0)[0] == expected
    assert decided > 50


def test_logprob_is_of_the_logits_alone(conn):
    row = logits("normal")
    p = twin.softmax(row)
    for options in ({}, {"temperature": 2.0}, {"logit_bias": {"33": 100}}, {"temperature": 0.5, "top_k": 3}):
        token, logprob = sample(conn, row, **options)
        assert logprob == pytest.approx(np.log(p[token]), abs=1e-5)
    token, logprob = sample(conn, np.float32([0, -300, 5]), logit_bias={"0": -100, "2": False, "1": 100})
    assert (token, logprob) == (0, pytest.approx(-5.0067, abs=1e-3))
    token, logprob = sample(conn, np.float32([0, -300, 5]), logit_bias={"0": False, "2": False})
    assert (token, logprob) == (1, pytest.approx(-305.0067, abs=1e-3))


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("row, temperature, expected", [
    ([NAN, 1, 3, NAN], 0.0, {2: 1}), ([NAN, 1, NAN, NAN], 1.0, {1: 1}), ([-INF, 1, 1, -INF], 1.0, {1: 0.5, 2: 0.5}), ([INF, 1, INF, NAN], 1.0, {0: 0.5, 1: 0, 2: 0.5}),
    ([INF, 1, INF], 0.0, {0: 1}), ([3e38, -3e38, 3e38], 0.5, {0: 0.5, 1: 0, 2: 0.5}), ([1, 2, 3], 1e-300, {0: 0, 1: 0, 2: 1}), ([1, 2, 3], 1e300, {0: 1 / 3, 1: 1 / 3, 2: 1 / 3}),
    ([-5.0], 1.0, {0: 1}), ([0] * 8, 1.0, {i: 1 / 8 for i in range(8)})])
def test_extreme_logits(conn, row, temperature, expected):
    got = {t: p for t, p in candidates(conn, row, {"temperature": temperature}, [], [], []) if p > 0}
    assert got == pytest.approx({t: p for t, p in expected.items() if p > 0}, abs=1e-6)
    token, logprob = sample(conn, row, temperature=temperature)
    assert expected[token] > 0 and logprob <= 0


@pytest.mark.parametrize("row", [[NAN, NAN], [-INF, -INF]])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_no_token_is_left(conn, refused, row, temperature):
    refused(conn, "22000", f"SELECT hart.sample(%s::real[]::hart.matrix, hart.generation_options(temperature => {temperature}))", row)


def test_all_tokens_forbidden(conn, refused):
    for what in ("logit_bias => '{\"0\": false, \"1\": false}'", "min_tokens => 1"):
        refused(conn, "22000", f"SELECT hart.sample('[1,2]', hart.generation_options({what}), ending => '{{0,1}}')")
    refused(conn, "22000", "SELECT hart.sample('[1,2]', hart.generation_options(), mask => '\\x00')")
    assert conn.one("SELECT token FROM hart.sample('[1,2]', hart.generation_options(), mask => '\\x01')") == 0


def test_a_large_vocabulary(conn):
    """The size of Qwen's: selections agree with numpy's sort."""
    row = np.random.default_rng(5).normal(0, 2, 151936).astype(np.float32)
    for options in ({"top_k": 50}, {"top_p": 0.3}, {"top_p": 0.95}, {"min_p": 0.01}, {"typical_p": 0.5}, {"top_k": 70000, "top_p": 0.9, "typical_p": 0.9}):
        expected = twin.candidates(row, temperature=1.0, **options)
        got = dict(candidates(conn, row, {"temperature": 1.0, **options}, [], [], []))
        # at the boundary numbers of 1e-6 decide, and sums are taken in another order
        assert len(set(got) ^ set(expected)) <= 2, options
