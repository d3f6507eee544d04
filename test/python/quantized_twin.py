"""The 8-bit arithmetic in numpy: weights as src_c/q8.h packs them, activations as it rounds them, and a qwen2 that computes with both."""
import numpy as np

BLOCK, GROUP, TILE_BLOCKS, HEADER = 64, 16, 122, 256


def scales(blocks):
    """The smallest bfloat16 that reaches the largest magnitude of each block with 127; (n,) for (n, 64)."""
    largest = np.abs(blocks).max(axis=1)
    bits = (largest / np.float32(127)).view(np.uint32)
    halves = ((bits + np.uint32(0xFFFF)) >> 16).astype(np.uint32)
    short = (halves << 16).view(np.float32) * np.float32(127) < largest
    return ((halves + short) << 16).astype(np.uint32).view(np.float32)


def round_weights(matrix):
    """A matrix as 8-bit tiles hold it, in float32 again."""
    blocks = matrix.reshape(-1, BLOCK)
    scale = scales(blocks)[:, None]
    return (np.rint(np.divide(blocks, scale, where=scale > 0, out=np.zeros_like(blocks))) * scale).reshape(matrix.shape)


def unpack_tile(payload, row_blocks, first_block, n_blocks):
    """The weights of a tile, written from the description in q8.h alone."""
    scale = (np.frombuffer(payload, "<u2", n_blocks).astype(np.uint32) << 16).view(np.float32)
    assert np.frombuffer(payload, "<u4", 2, 244).tolist() == [row_blocks, first_block]
    assert np.frombuffer(payload, "<u2", 2, 252).tolist() == [n_blocks, 0]
    values, block = [], 0
    while block < n_blocks:
        in_row = (first_block + block) % row_blocks
        n = min(GROUP - in_row % GROUP, row_blocks - in_row, n_blocks - block)
        run = np.frombuffer(payload, np.uint8, n * BLOCK, HEADER + block * BLOCK).reshape(BLOCK // 4, n, 4)
        quants = run.transpose(1, 0, 2).reshape(n, BLOCK).astype(np.int32) - 128
        values.append(quants.astype(np.float32) * scale[block : block + n, None])
        block += n
    return np.concatenate(values).ravel()


def round_x(x):
    """Activations in 14 bits, a scale for every 64."""
    blocks = x.astype(np.float32).reshape(-1, BLOCK)
    largest = np.abs(blocks).max(axis=1, keepdims=True)
    factor = np.divide(np.float32(8191), largest, where=largest > 1e-30, out=np.zeros_like(largest))
    return (np.rint(blocks * factor).astype(np.float64) * (largest / np.float32(8191))).reshape(x.shape)


def forward(m, weights, encodings, ids):
    """Logits (len(ids), vocab) of a qwen2 model in float64 but for what is rounded to 8 and 14 bits."""

    def linear(name, x):
        w = weights[name + ".weight"]
        product = (round_x(x) if encodings[name + ".weight"] == "q8" else x) @ w.T.astype(np.float64)
        return product + weights[name + ".bias"][0] if name + ".bias" in weights else product

    def norm(name, x):
        return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + m.eps) * weights[name + ".weight"][0]

    def rotate(x):
        """x: (positions, heads, head_dim)"""
        angles = np.arange(len(x))[:, None] * 10000.0 ** (-np.arange(0, m.head_dim, 2) / m.head_dim)
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        a, b = np.split(x, 2, axis=-1)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    def attention(p, x):
        n = len(x)
        q = rotate(linear(p + "q_proj", x).reshape(n, m.heads, m.head_dim))
        k = rotate(linear(p + "k_proj", x).reshape(n, m.kv_heads, m.head_dim)).repeat(m.heads // m.kv_heads, axis=1)
        v = linear(p + "v_proj", x).reshape(n, m.kv_heads, m.head_dim).repeat(m.heads // m.kv_heads, axis=1)
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(m.head_dim)
        scores = np.where(np.tril(np.ones((n, n), bool)), scores, -np.inf)
        e = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return linear(p + "o_proj", np.einsum("hij,jhd->ihd", e / e.sum(axis=-1, keepdims=True), v).reshape(n, -1))

    x = weights["model.embed_tokens.weight"][ids].astype(np.float64)
    for layer in range(m.layers):
        p = f"model.layers.{layer}."
        x = x + attention(p + "self_attn.", norm(p + "input_layernorm", x))
        h = norm(p + "post_attention_layernorm", x)
        gate = linear(p + "mlp.gate_proj", h)
        x = x + linear(p + "mlp.down_proj", gate / (1 + np.exp(-gate)) * linear(p + "mlp.up_proj", h))
    return linear("model.embed_tokens" if m.tied else "lm_head", norm("model.norm", x))
