"""hart.sample and hart.candidates again, in numpy and by sorting: to read, and to test the C against."""
import numpy as np

DEFAULTS = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0, "repetition_penalty": 1.0,
            "presence_penalty": 0.0, "frequency_penalty": 0.0, "logit_bias": None, "min_tokens": 0}


def processed(logits, o, prompt=(), tokens=(), ending=(), allowed=None):
    """Logits after what is added to them and what is forbidden."""
    x = np.array(logits, np.float32)
    for token, bias in (o["logit_bias"] or {}).items():
        x[int(token)] = -np.inf if bias is False else x[int(token)] + np.float32(bias)
    if o["repetition_penalty"] != 1:
        for token in {*prompt, *tokens}:
            x[token] = x[token] * np.float32(o["repetition_penalty"]) if x[token] < 0 else x[token] / np.float32(o["repetition_penalty"])
    for token in set(tokens):
        x[token] -= np.float32(list(tokens).count(token) * o["frequency_penalty"] + o["presence_penalty"])
    if len(tokens) < o["min_tokens"]:
        x[list(ending)] = -np.inf
    if allowed is not None:
        x[~np.asarray(allowed)] = -np.inf
    x[np.isnan(x)] = -np.inf
    return x


def softmax(x):
    with np.errstate(over="ignore"):
        e = np.exp(x.astype(np.float64) - x.max())
    return e / e.sum()


def candidates(logits, *args, **options):
    """{token: probability} of what may come next."""
    o = DEFAULTS | options
    x = processed(logits, o, *args)
    if o["temperature"] == 0:
        return {int(x.argmax()): 1.0}
    x = ((x - x.max()) / o["temperature"]).astype(np.float32)
    if o["top_k"]:
        x[x < np.sort(x)[-min(o["top_k"], x.size)]] = -np.inf
    if o["top_p"] < 1:
        ascending = np.lexsort((-np.arange(x.size), x))       # the first of equal ones is kept longest
        out = np.cumsum(softmax(x)[ascending]) <= 1 - o["top_p"]
        out[-1] = False
        x[ascending[out]] = -np.inf
    if o["min_p"]:
        x[softmax(x) < o["min_p"] * softmax(x).max()] = -np.inf
    if o["typical_p"] < 1:
        p = softmax(x)
        with np.errstate(divide="ignore", invalid="ignore"):
            information = -np.log(p)
            distance = np.abs(information - np.nansum(np.where(p > 0, p * information, 0))).astype(np.float32)
        nearest = np.argsort(distance, kind="stable")
        last = min(int((np.cumsum(p[nearest]) < o["typical_p"]).sum()), x.size - 1)
        x[distance > distance[nearest[last]]] = -np.inf
    p = softmax(x)
    return {int(t): float(p[t]) for t in np.flatnonzero(x > -np.inf)}


def philox(seed, sequence, step):
    """Philox4x32-10; four numbers of 32 bits."""
    c, k = [step, sequence, 0, 0], [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [b >> 32 ^ c[1] ^ k[0], b & 0xFFFFFFFF, a >> 32 ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def uniform(seed, sequence, step):
    a, b, *_ = philox(seed, sequence, step)
    return ((a << 32 | b) >> 11) * 2.0 ** -53


def draw(chances, seed, sequence, step):
    """The token at a share of the probability, tokens in ascending order; None where rounding could decide."""
    tokens = sorted(chances)
    ends = np.cumsum([chances[t] for t in tokens])
    u = uniform(seed, sequence, step) * ends[-1]
    if np.abs(ends[:-1] - u).min(initial=1) < 1e-6:
        return None
    return tokens[int((ends <= u).sum())]
