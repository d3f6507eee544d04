"""What the supported families have in common and where they differ."""

from dataclasses import dataclass

from .errors import FEATURE_NOT_SUPPORTED, INVALID_PARAMETER_VALUE, HartError, quoted


@dataclass(frozen=True)
class Family:
    """One model_type of transformers, as far as the mathematics is concerned."""

    architecture: str  # what the database calls it: llama, qwen2 or qwen3
    class_name: str  # in config.json's "architectures"
    qkv_bias: bool = False  # biases on q, k and v, whatever the config says
    attention_bias_key: bool = False  # config key attention_bias adds biases on q, k, v and o
    mlp_bias_key: bool = False  # config key mlp_bias adds biases to the feed-forward layers
    qk_norm: bool = False  # RMS norm of each head of q and k
    default_window: int | None = None  # sliding_window when config.json has no such key
    window_switch: bool = False  # the window counts only with use_sliding_window, from layer max_window_layers on
    default_head_dim: int | None = None  # without the key: dim / n_heads
    default_kv_heads: bool = False  # num_key_value_heads may be left out: n_heads
    default_eos: tuple = ()  # when config.json has no eos_token_id


FAMILIES = {
    "llama": Family(
        "llama", "LlamaForCausalLM", attention_bias_key=True, mlp_bias_key=True, default_kv_heads=True, default_eos=(2,)
    ),
    "mistral": Family("llama", "MistralForCausalLM", default_window=4096, default_eos=(2,)),
    "qwen2": Family("qwen2", "Qwen2ForCausalLM", qkv_bias=True, default_window=4096, window_switch=True),
    "qwen3": Family(
        "qwen3",
        "Qwen3ForCausalLM",
        attention_bias_key=True,
        qk_norm=True,
        default_window=4096,
        window_switch=True,
        default_head_dim=128,
    ),
}

HINT = "Supported are " + ", ".join(family.class_name for family in FAMILIES.values()) + "."


def family_of(config):
    """The family that config.json names; "architectures" and "model_type" must agree."""
    by_type = _by_model_type(config.get("model_type"))
    by_class = _by_class(config.get("architectures"))
    if by_type is None and by_class is None:
        raise HartError(
            'config.json names no architecture: it lacks "architectures" and "model_type"',
            INVALID_PARAMETER_VALUE,
            hint=HINT,
        )
    if by_type is not None and by_class is not None and by_type is not by_class:
        raise HartError(
            f"config.json names architecture {quoted(by_class.class_name)} "
            f"and model_type {quoted(config['model_type'])}, which do not belong together",
            INVALID_PARAMETER_VALUE,
            hint="Correct the one that is wrong.",
        )
    return by_type or by_class


def _by_model_type(name):
    if name is None:
        return None
    if not isinstance(name, str) or name not in FAMILIES:
        raise HartError(f"model type {quoted(name)} is not supported", FEATURE_NOT_SUPPORTED, hint=HINT)
    return FAMILIES[name]


def _by_class(names):
    if names is None or names == []:
        return None
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        raise HartError('config.json key "architectures" must hold one name', INVALID_PARAMETER_VALUE, hint=HINT)
    for family in FAMILIES.values():
        if family.class_name == names[0]:
            return family
    raise HartError(f"architecture {quoted(names[0])} is not supported", FEATURE_NOT_SUPPORTED, hint=HINT)
