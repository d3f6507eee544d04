"""Tiny random models, the same bytes on every machine.

A tensor's values come from SHAKE-128 of "seed/tensor name": two bytes of the hash a weight, spread evenly around zero
(around one for norms). A hash has no version and no platform, unlike a library's random numbers; what follows it is one
exact multiplication and a rounding to nearest even, which IEEE 754 fixes. The goldens hold the SHA-256 of every file.
"""
import dataclasses
import hashlib
import json
import pathlib
import struct

import numpy as np

ARCHITECTURES = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM",
                 "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
MIXED = {"norm": "F32", "bias": "F16", "embed": "F16", "k_proj": "F32", "": "BF16"}
UNK, BOS, EOS = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class Model:
    """One tiny model; the defaults are the plainest llama."""
    name: str
    family: str = "llama"
    dim: int = 64
    hidden: int = 172
    layers: int = 2
    heads: int = 4
    kv_heads: int = 4
    head_dim: int = 16
    vocab: int = 131
    max_positions: int = 512
    tied: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    eps: float = 1e-5
    dtypes: object = "F32"              # one name, or {part of a tensor's name: dtype}, first match wins
    shards: int = 1
    bos: bool = True                    # whether the tokenizer puts <s> before a text
    config: dict = dataclasses.field(default_factory=dict, hash=False)
    omit: tuple = ()                    # keys left out of config.json, so that the family's default holds
    lengths: tuple = (1, 2, 17, 130, 310)   # of the prompts in the goldens
    weights_of: str = ""                # draws its weights as the model of this name does

    def dtype(self, tensor):
        """The storage type of one tensor."""
        if isinstance(self.dtypes, str):
            return self.dtypes
        return next(d for part, d in self.dtypes.items() if part in tensor)


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}

TINY = [
    Model("llama_f32", vocab=137),
    Model("llama_f16", dtypes="F16", tied=True, kv_heads=2),
    Model("llama_bf16", dtypes="BF16", kv_heads=1),
    Model("llama_bias", dim=36, hidden=50, kv_heads=2, head_dim=10, attention_bias=True, mlp_bias=True, dtypes="F16"),
    Model("llama_odd", dim=35, hidden=51, heads=5, kv_heads=1, head_dim=6, vocab=101, dtypes="BF16", layers=3),
    Model("llama_minimal", dim=40, hidden=50, kv_heads=4, head_dim=10, eps=1e-6, max_positions=2048, lengths=(17, 512, 513, 1100),
          omit=("num_key_value_heads", "head_dim", "rms_norm_eps", "rope_theta", "tie_word_embeddings",
                "hidden_act", "attention_bias", "mlp_bias")),
    Model("llama_rope3_scaling", kv_heads=2, dtypes="BF16",
          config={"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}}),
    Model("llama_rope3_parameters", kv_heads=2, dtypes="BF16", weights_of="llama_rope3_scaling", omit=("rope_theta",),
          config={"rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, **LLAMA3}}),
    Model("llama_rope_linear", dtypes=MIXED, config={"rope_scaling": {"type": "linear", "factor": 2.5}}),
    Model("llama_rope_default", dtypes="F32", dim=48, hidden=50, head_dim=12, omit=("rope_theta",),
          config={"rope_parameters": {"rope_type": "default", "rope_theta": 1000.0}}),
    Model("llama_wide", hidden=5000, layers=1, kv_heads=2, tied=True, dtypes={"down": "BF16", "": "F32"}),
    Model("llama_broad", dim=4100, hidden=20, layers=1, kv_heads=2, head_dim=8, vocab=103, dtypes="F16", tied=True),
    Model("mistral_bf16", "mistral", dim=64, hidden=50, heads=8, kv_heads=2, head_dim=8, dtypes="BF16",
          config={"sliding_window": None}),
    Model("mistral_deep", "mistral", dim=24, hidden=30, layers=12, heads=2, kv_heads=1, head_dim=16, dtypes="F16",
          shards=3, config={"sliding_window": None}),
    Model("qwen2_tied", "qwen2", dim=42, hidden=50, heads=7, kv_heads=1, head_dim=6, dtypes="BF16", tied=True, bos=False),
    Model("qwen2_untied", "qwen2", dim=48, hidden=50, heads=8, kv_heads=2, head_dim=6, dtypes=MIXED, shards=2,
          config={"use_sliding_window": False, "sliding_window": 64, "max_window_layers": 1}),
    Model("qwen2_f32", "qwen2", dim=36, hidden=50, kv_heads=1, heads=6, head_dim=6, dtypes="F32", tied=True),
    Model("qwen3_f32", "qwen3", dim=40, hidden=50, kv_heads=2, head_dim=12, tied=True, bos=False),
    Model("qwen3_f16", "qwen3", dim=36, hidden=50, heads=4, kv_heads=1, head_dim=20, dtypes="F16", shards=2),
    Model("qwen3_bias", "qwen3", dim=36, hidden=50, kv_heads=2, head_dim=10, attention_bias=True, dtypes="BF16"),
    Model("qwen3_mixed", "qwen3", dim=56, hidden=60, heads=7, kv_heads=1, head_dim=10, dtypes=MIXED, layers=3),
]
# The shape of Qwen2.5-0.5B with two of its 24 layers: 332 MB.
QWEN_SHAPE = Model("qwen_shape", "qwen2", dim=896, hidden=4864, layers=2, heads=14, kv_heads=2, head_dim=64, vocab=151936,
                   max_positions=32768, tied=True, eps=1e-6, dtypes="BF16", bos=False, lengths=(2, 17, 130), config={"rope_theta": 1000000.0})
BY_NAME = {m.name: m for m in [*TINY, QWEN_SHAPE]}


def tensor_shapes(m):
    """Every tensor of a model as (name, shape), in the order of the file."""
    q, kv = m.heads * m.head_dim, m.kv_heads * m.head_dim
    qkv_bias = m.attention_bias or m.family == "qwen2"
    yield "model.embed_tokens.weight", (m.vocab, m.dim)
    for i in range(m.layers):
        p = f"model.layers.{i}."
        yield p + "input_layernorm.weight", (m.dim,)
        for part, rows, cols, bias in (("self_attn.q_proj", q, m.dim, qkv_bias), ("self_attn.k_proj", kv, m.dim, qkv_bias),
                                       ("self_attn.v_proj", kv, m.dim, qkv_bias), ("self_attn.o_proj", m.dim, q, m.attention_bias),
                                       ("mlp.gate_proj", m.hidden, m.dim, m.mlp_bias), ("mlp.up_proj", m.hidden, m.dim, m.mlp_bias),
                                       ("mlp.down_proj", m.dim, m.hidden, m.mlp_bias)):
            yield p + part + ".weight", (rows, cols)
            if bias:
                yield p + part + ".bias", (rows,)
        if m.family == "qwen3":
            yield p + "self_attn.q_norm.weight", (m.head_dim,)
            yield p + "self_attn.k_norm.weight", (m.head_dim,)
        yield p + "post_attention_layernorm.weight", (m.dim,)
    yield "model.norm.weight", (m.dim,)
    if not m.tied:
        yield "lm_head.weight", (m.vocab, m.dim)


def spread(name, shape):
    """(centre, standard deviation) of a tensor: logits of a few units, attention neither flat nor on one token."""
    if "norm" in name:
        return (1.5 if "q_norm" in name or "k_norm" in name else 1.0), 0.2
    if "bias" in name:
        return 0.0, 0.3
    gain = 3.0 if "embed" in name or "lm_head" in name else 1.5
    return 0.0, gain / shape[-1] ** 0.5


def encode(values, dtype):
    """float32 array to stored little-endian numbers, rounded to nearest even."""
    if dtype == "BF16":
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return values.astype({"F16": "<f2", "F32": "<f4"}[dtype])


def tensor_bytes(seed, name, shape, dtype):
    """The raw bytes of one tensor."""
    centre, deviation = spread(name, shape)
    steps = np.arange(65536, dtype=np.float32) - np.float32(32767.5)
    values = np.float32(centre) + steps * np.float32(deviation * 3 ** 0.5 / 32768)
    count = int(np.prod(shape))
    drawn = np.frombuffer(hashlib.shake_128(f"{seed}/{name}".encode()).digest(2 * count), "<u2")
    return encode(values, dtype)[drawn].tobytes()


def config_json(m):
    """The model's config.json as a dict."""
    config = {"architectures": [ARCHITECTURES[m.family]], "model_type": m.family, "hidden_size": m.dim,
              "intermediate_size": m.hidden, "num_hidden_layers": m.layers, "num_attention_heads": m.heads,
              "num_key_value_heads": m.kv_heads, "head_dim": m.head_dim, "vocab_size": m.vocab,
              "max_position_embeddings": m.max_positions, "rms_norm_eps": m.eps, "rope_theta": 10000.0,
              "hidden_act": "silu", "tie_word_embeddings": m.tied, "bos_token_id": BOS, "eos_token_id": EOS,
              "torch_dtype": "float32"}
    if m.family in ("llama", "qwen3"):
        config["attention_bias"] = m.attention_bias
    if m.family == "llama":
        config["mlp_bias"] = m.mlp_bias
    if m.family == "qwen2":
        del config["head_dim"]
    config |= m.config
    return {k: v for k, v in config.items() if k not in m.omit}


def tokenizer_json(m):
    """A BPE over printable ASCII with some merges: 98 tokens and up to 20 longer ones, all below the model's vocabulary."""
    tokens = ["<unk>", "<s>", "</s>"] + [chr(c) for c in range(32, 127)]
    merges = ["t h", "th e", "i n", "a n", "an d", "o f", "e r", "o n", "r e", "a t", "e n", "i t", "e s", "a l", "o r",
              "t o", "i s", "a r", "s t", "q u"][:m.vocab - len(tokens)]
    vocab = {t: i for i, t in enumerate(tokens + [p.replace(" ", "") for p in merges])}
    special = [{"id": i, "content": tokens[i], "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True} for i in (UNK, BOS, EOS)]
    start = {"type": "TemplateProcessing", "special_tokens": {"<s>": {"id": "<s>", "ids": [BOS], "tokens": ["<s>"]}},
             "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
             "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}]}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
            "pre_tokenizer": None, "post_processor": start if m.bos else None, "decoder": {"type": "Fuse"},
            "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": vocab, "merges": merges}}


def safetensors_header(entries, metadata=True):
    """(header bytes with their length, offsets are in file order) for [(name, dtype, shape, size)]."""
    header, at = ({"__metadata__": {"format": "pt"}} if metadata else {}), 0
    for name, dtype, shape, size in entries:
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def write_safetensors(path, m, seed, names=None):
    """One safetensors file of the model, or of some of its tensors."""
    tensors = [(n, s) for n, s in tensor_shapes(m) if names is None or n in names]
    width = {"F32": 4, "F16": 2, "BF16": 2}
    entries = [(n, m.dtype(n), s, int(np.prod(s)) * width[m.dtype(n)]) for n, s in tensors]
    digest = hashlib.sha256()
    with open(path, "wb") as f:
        for piece in (safetensors_header(entries), *(tensor_bytes(seed, n, s, d) for n, d, s, _ in entries)):
            f.write(piece)
            digest.update(piece)
    return digest.hexdigest()


def write_model(folder, m, seed):
    """Write the whole model folder; {safetensors file: SHA-256}."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_json(m), indent=1))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json(m)))
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}))
    if m.shards == 1:
        return {"model.safetensors": write_safetensors(folder / "model.safetensors", m, seed)}
    names = [n for n, _ in tensor_shapes(m)]
    # Dealt out in turn, so that a layer's tensors lie in different files.
    files = {f"model-{k + 1:05}-of-{m.shards:05}.safetensors": names[k::m.shards] for k in range(m.shards)}
    index = {"metadata": {}, "weight_map": {n: f for f, part in files.items() for n in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
    return {f: write_safetensors(folder / f, m, seed, part) for f, part in files.items()}


def prompt_ids(m, length):
    """A prompt of so many tokens, none of them special."""
    drawn = np.frombuffer(hashlib.shake_128(f"prompt {length}".encode()).digest(4 * length), "<u4")
    return [int(3 + d % (m.vocab - 3)) for d in drawn]
