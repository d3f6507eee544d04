"""config.json and generation_config.json: what the model is, or why it cannot be run here."""

from dataclasses import dataclass

from .configkeys import HINT, check_keys, float_of, refused, shown
from .errors import INVALID_PARAMETER_VALUE, PROGRAM_LIMIT_EXCEEDED, HartError, quoted
from .families import Family, family_of
from .rope import inverse_frequencies

# Far above any model known, low enough that no product of two overflows a 64-bit number.
LIMITS = {
    "hidden_size": 1 << 20,
    "intermediate_size": 1 << 22,
    "num_hidden_layers": 1 << 12,
    "num_attention_heads": 1 << 14,
    "num_key_value_heads": 1 << 14,
    "head_dim": 1 << 14,
    "vocab_size": 1 << 24,
    "max_position_embeddings": 1 << 28,
}


@dataclass(frozen=True)
class Spec:
    """A model's sizes and options, under the names of the database's columns."""

    family: Family
    dim: int
    hidden_dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    vocab_size: int
    max_positions: int
    rms_norm_eps: float
    rope_inv_freq: list
    tied_embeddings: bool
    eos_token_ids: list
    o_bias: bool
    qkv_bias: bool
    mlp_bias: bool

    @property
    def architecture(self):
        return self.family.architecture


def parse_config(config, generation_config=None):
    """The spec of a model; refuses by name what is not supported."""
    family = family_of(config)
    check_keys(config)
    check_activation(config)
    n_layers = size(config, "num_hidden_layers")
    max_positions = size(config, "max_position_embeddings")
    check_window(config, family, n_layers, max_positions)
    dim = size(config, "hidden_size")
    n_heads = size(config, "num_attention_heads")
    head_dim = head_size(config, family, dim, n_heads)
    vocab_size = size(config, "vocab_size")
    attention_bias = flag(config, "attention_bias")
    mlp_bias = flag(config, "mlp_bias")
    # transformers ignores the keys in families that do not have them: so does qwen2, whose biases are fixed.
    if attention_bias and not family.attention_bias_key and not family.qkv_bias:
        raise refused("attention_bias", True, f"{family.class_name} has no such biases.")
    if mlp_bias and not family.mlp_bias_key:
        raise refused("mlp_bias", True, f"{family.class_name} has no such biases.")
    attention_bias = attention_bias and family.attention_bias_key
    return Spec(
        family=family,
        dim=dim,
        hidden_dim=size(config, "intermediate_size"),
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=kv_heads(config, family, n_heads),
        head_dim=head_dim,
        vocab_size=vocab_size,
        max_positions=max_positions,
        rms_norm_eps=epsilon(config),
        rope_inv_freq=inverse_frequencies(config, head_dim, max_positions),
        tied_embeddings=flag(config, "tie_word_embeddings"),
        eos_token_ids=eos_ids(config, generation_config, family, vocab_size),
        o_bias=attention_bias,
        qkv_bias=family.qkv_bias or attention_bias,
        mlp_bias=mlp_bias,
    )


def size(config, key, default=None):
    """A size: a whole number from 1 to its limit."""
    value = config.get(key)
    if value is None:
        if default is not None:
            return default
        raise HartError(f"config.json lacks {quoted(key)}", INVALID_PARAMETER_VALUE, hint=HINT)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise HartError(
            f"config.json key {quoted(key)} must be a whole number above 0, not {shown(value)}",
            INVALID_PARAMETER_VALUE,
            hint=HINT,
        )
    if value > LIMITS[key]:
        raise HartError(
            f"config.json key {quoted(key)} is {shown(value)}, above the limit of {LIMITS[key]}",
            PROGRAM_LIMIT_EXCEEDED,
            hint=HINT,
        )
    return value


def flag(config, key):
    """true or false; false when the key is missing."""
    value = config.get(key)
    if value not in (None, True, False) or isinstance(value, (int, float)) and not isinstance(value, bool):
        raise HartError(
            f"config.json key {quoted(key)} must be true or false, not {shown(value)}",
            INVALID_PARAMETER_VALUE,
            hint=HINT,
        )
    return bool(value)


def head_size(config, family, dim, n_heads):
    """head_dim, by default dim / n_heads; RoPE turns pairs, so it must be even."""
    default = family.default_head_dim
    if config.get("head_dim") is None and default is None:
        if dim % n_heads:
            raise HartError(
                f"config.json has hidden_size {dim}, which {n_heads} attention heads cannot share evenly",
                INVALID_PARAMETER_VALUE,
                hint=HINT,
            )
        default = dim // n_heads
    head_dim = size(config, "head_dim", default)
    if head_dim % 2:
        raise HartError(f"the head size must be even for RoPE, not {head_dim}", INVALID_PARAMETER_VALUE, hint=HINT)
    return head_dim


def kv_heads(config, family, n_heads):
    """The number of key and value heads, which must divide the number of heads."""
    default = n_heads if family.default_kv_heads or "num_key_value_heads" in config else None
    n_kv_heads = size(config, "num_key_value_heads", default)
    if n_heads % n_kv_heads:
        raise HartError(
            f"config.json has {n_heads} attention heads, which {n_kv_heads} key-value heads do not divide",
            INVALID_PARAMETER_VALUE,
            hint=HINT,
        )
    return n_kv_heads


def epsilon(config):
    """rms_norm_eps, 1e-6 when the key is missing as in transformers."""
    value = config.get("rms_norm_eps", 1e-6)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 1:
        raise HartError(
            f'config.json key "rms_norm_eps" must be a number between 0 and 1, not {shown(value)}',
            INVALID_PARAMETER_VALUE,
            hint=HINT,
        )
    return float_of(value)


def check_activation(config):
    """Only SiLU, under either of its names."""
    activation = config.get("hidden_act", "silu")
    if activation not in ("silu", "swish"):
        raise refused("hidden_act", activation, "Only the activation silu (also called swish) is supported.", hint=HINT)


def check_window(config, family, n_layers, max_positions):
    """Refuse attention to a window of the context, when it is in force in some layer."""
    types = config.get("layer_types")
    if types is not None:
        if not isinstance(types, list) or len(types) != n_layers:
            raise HartError(
                f'config.json key "layer_types" must list {n_layers} layers', INVALID_PARAMETER_VALUE, hint=HINT
            )
        for kind in types:
            if kind != "full_attention":
                raise refused("layer_types", [kind], "Only full attention is supported.", hint=HINT)
    window = config.get("sliding_window", family.default_window)
    if window is None or window is False or not uses_window(config, family, n_layers, types):
        return
    if not isinstance(window, int) or isinstance(window, bool) or window < 1:
        raise HartError(
            f'config.json key "sliding_window" must be a whole number above 0, not {shown(window)}',
            INVALID_PARAMETER_VALUE,
            hint=HINT,
        )
    # A window that holds the whole context hides nothing.
    if window < max_positions:
        raise refused(
            "sliding_window",
            window,
            f"Layers attend to the last {window} of {max_positions} positions; only full attention is supported.",
            hint=f"To run the model within its window, set max_position_embeddings to {window} in config.json.",
        )


def uses_window(config, family, n_layers, types):
    """Whether some layer looks at sliding_window at all."""
    if family.window_switch:
        first = config.get("max_window_layers", 28)
        if not isinstance(first, int) or isinstance(first, bool):
            raise HartError(
                f'config.json key "max_window_layers" must be a whole number, not {shown(first)}',
                INVALID_PARAMETER_VALUE,
                hint=HINT,
            )
        return flag(config, "use_sliding_window") and first < n_layers and types is None
    # Mistral has no switch. Llama has no window: one that is set and not switched off was meant by somebody.
    return family.default_window is not None or config.get("use_sliding_window") is not False


def eos_ids(config, generation_config, family, vocab_size):
    """The ids that end a text: generation_config.json's, else config.json's, else the family's."""
    name, value = "generation_config.json", (generation_config or {}).get("eos_token_id")
    if value is None:
        name = "config.json"
        value = config.get("eos_token_id", list(family.default_eos))
    ids = [] if value is None else value if isinstance(value, list) else [value]
    for token in ids:
        if not isinstance(token, int) or isinstance(token, bool) or token < 0:
            raise HartError(
                f'{name} key "eos_token_id" must hold token ids, not {shown(value)}', INVALID_PARAMETER_VALUE, hint=HINT
            )
    # An id beyond the vocabulary can never come up: some published models list one.
    return sorted({token for token in ids if token < vocab_size})
