"""config.json: what is understood, and what is refused by name."""

import numpy
import pytest
from hartonomous_server.config import LIMITS, parse_config
from hartonomous_server.families import FAMILIES
from hartonomous_server.tensors import expected_shapes

QWEN2 = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
QWEN3 = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}
MISTRAL = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": None}


def test_sizes(config):
    spec = parse_config(config())
    assert (spec.architecture, spec.dim, spec.hidden_dim, spec.n_layers) == ("llama", 8, 12, 2)
    assert (spec.n_heads, spec.n_kv_heads, spec.head_dim, spec.vocab_size, spec.max_positions) == (2, 1, 4, 5, 64)
    assert spec.tied_embeddings and spec.eos_token_ids == [2] and spec.rms_norm_eps == 1e-5
    assert not (spec.qkv_bias or spec.o_bias or spec.mlp_bias)


@pytest.mark.parametrize("family", [QWEN2, QWEN3, MISTRAL])
def test_families(config, family):
    spec = parse_config(config(**family))
    assert spec.architecture == FAMILIES[family["model_type"]].architecture
    assert spec.qkv_bias == (family is QWEN2)
    assert spec.family.qk_norm == (family is QWEN3)
    assert spec.head_dim == (128 if family is QWEN3 else 4)


@pytest.mark.parametrize("missing", ["model_type", "architectures"])
def test_one_name_is_enough(config, missing):
    assert parse_config(config(**{missing: ...})).architecture == "llama"


def test_defaults(config):
    spec = parse_config(
        config(
            num_key_value_heads=...,
            rms_norm_eps=...,
            rope_theta=...,
            hidden_act=...,
            tie_word_embeddings=...,
            eos_token_id=...,
        )
    )
    assert spec.n_kv_heads == 2 and spec.rms_norm_eps == 1e-6 and not spec.tied_embeddings
    assert spec.eos_token_ids == [2]
    assert parse_config(config(eos_token_id=..., **QWEN2)).eos_token_ids == []
    assert parse_config(config(num_key_value_heads=None, **QWEN2)).n_kv_heads == 2


@pytest.mark.parametrize(
    "change, word",
    [
        ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, "gpt2"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification"),
        ({"model_type": "mixtral", "architectures": ...}, "mixtral"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"hidden_act": None}, "hidden_act"),
        ({"hidden_act": ["silu"]}, "hidden_act"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"pretraining_tp": 2}, "pretraining_tp"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ({"embedding_multiplier": 12.0}, "embedding_multiplier"),
        ({"residual_multiplier": 0.22}, "residual_multiplier"),
        ({"logits_scaling": 8.0}, "logits_scaling"),
        ({"attention_multiplier": 0.015}, "attention_multiplier"),
        ({"query_pre_attn_scalar": 256}, "query_pre_attn_scalar"),
        ({"num_experts": 8}, "num_experts"),
        ({"num_local_experts": 8, "num_experts_per_tok": 2}, "num_local_experts"),
        ({"auto_map": {"AutoModelForCausalLM": "modeling.Own"}}, "auto_map"),
        ({"rope_interleaved": True}, "rope_interleaved"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder"),
        ({"no_such_key": "x"}, "no_such_key"),
        ({"no\nsuch\0key": 1}, "no\\nsuch\\x00key"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding_attention"),
        ({"sliding_window": 32}, "sliding_window"),
        ({**MISTRAL, "sliding_window": 63}, "sliding_window"),
        ({**MISTRAL, "sliding_window": ..., "max_position_embeddings": 4097}, "sliding_window"),
        ({**MISTRAL, "attention_bias": True}, "attention_bias"),
        ({**MISTRAL, "mlp_bias": True}, "mlp_bias"),
        ({**QWEN2, "use_sliding_window": True, "sliding_window": 32, "max_window_layers": 1}, "sliding_window"),
        (
            {**QWEN2, "use_sliding_window": True, "max_window_layers": 0, "max_position_embeddings": 4097},
            "sliding_window",
        ),
        ({**QWEN3, "use_sliding_window": True, "sliding_window": 32, "max_window_layers": 0}, "sliding_window"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_refused_by_name(config, refused, change, word):
    with refused("0A000", word):
        parse_config(config(**change))


@pytest.mark.parametrize(
    "change",
    [
        {"pretraining_tp": 1},
        {"partial_rotary_factor": 1.0},
        {"embedding_multiplier": 1},
        {"quantization_config": None},
        {"no_such_key": None},
        {"no_such_key": False},
        {"no_such_key": 0},
        {"no_such_key": []},
        {"torch_dtype": "bfloat16", "use_cache": True, "transformers_version": "5.0.0", "_name_or_path": "x"},
        {"id2label": {"0": "A"}, "temperature": 0.7, "unsloth_fixed": True},
        {"sliding_window": 32, "use_sliding_window": False},
        {"sliding_window": 64},
        {"layer_types": ["full_attention", "full_attention"]},
        {**MISTRAL},
        {**MISTRAL, "sliding_window": 64},
        {**MISTRAL, "sliding_window": ...},
        {**QWEN2, "sliding_window": 32, "use_sliding_window": False},
        {**QWEN2, "sliding_window": 32},
        {**QWEN2, "sliding_window": 32, "use_sliding_window": True, "max_window_layers": 2},
        {**QWEN2, "attention_bias": True},
        {"hidden_act": "swish"},
    ],
    ids=lambda value: str(value)[:50],
)
def test_changes_nothing(config, change):
    parse_config(config(**change))


@pytest.mark.parametrize("key", LIMITS)
@pytest.mark.parametrize(
    "value", [0, -1, 1.0, 1.5, True, False, "8", [8], {}, 2**40, 2**64, 10**400, -(10**400)], ids=lambda v: str(v)[:20]
)
def test_absurd_sizes(config, refused, key, value):
    big = isinstance(value, int) and value > 1
    with refused("54000" if big else "22023", key):
        parse_config(config(**{key: value}))


REQUIRED = [
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
    "max_position_embeddings",
]


@pytest.mark.parametrize("key", REQUIRED)
def test_missing_sizes(config, refused, key):
    with refused("22023", key):
        parse_config(config(**{key: ...}))


@pytest.mark.parametrize(
    "change",
    [
        {"architectures": ..., "model_type": ...},
        {"architectures": ["Qwen2ForCausalLM"]},
        {"architectures": []} | {"model_type": ...},
        {"architectures": "LlamaForCausalLM"},
        {"architectures": ["LlamaForCausalLM", "LlamaForCausalLM"]},
        {"num_attention_heads": 3},
        {"num_key_value_heads": 3, "num_attention_heads": 4},
        {"head_dim": 3},
        {"hidden_size": 6},
        {"num_key_value_heads": ..., **QWEN2},
        {"rms_norm_eps": 0},
        {"rms_norm_eps": -1e-5},
        {"rms_norm_eps": "1e-5"},
        {"rms_norm_eps": True},
        {"rms_norm_eps": 10**400},
        {"tie_word_embeddings": 1},
        {"tie_word_embeddings": "true"},
        {"attention_bias": "yes"},
        {"eos_token_id": -1},
        {"eos_token_id": "2"},
        {"eos_token_id": True},
        {"eos_token_id": [2, None]},
        {"eos_token_id": 2.0},
        {"layer_types": ["full_attention"]},
        {"layer_types": "full_attention"},
        {**MISTRAL, "sliding_window": "64"},
        {**MISTRAL, "sliding_window": -1},
        {**QWEN2, "use_sliding_window": True, "max_window_layers": "2"},
    ],
    ids=lambda value: str(value)[:50],
)
def test_contradictions(config, refused, change):
    with refused("22023"):
        parse_config(config(**change))


def test_head_dim_of_its_own(config):
    """Not dim / heads, which need not even be a whole number."""
    spec = parse_config(config(head_dim=6, num_attention_heads=3, num_key_value_heads=3))
    assert expected_shapes(spec)["model.layers.1.self_attn.o_proj.weight"] == (8, 18)


def test_biases(config):
    spec = parse_config(config(attention_bias=True, mlp_bias=True))
    shapes = expected_shapes(spec)
    assert shapes["model.layers.0.self_attn.o_proj.bias"] == (8,)
    assert shapes["model.layers.0.self_attn.k_proj.bias"] == (4,)
    assert shapes["model.layers.0.mlp.up_proj.bias"] == (12,)
    qwen2 = expected_shapes(parse_config(config(**QWEN2)))
    assert "model.layers.0.self_attn.q_proj.bias" in qwen2 and "model.layers.0.self_attn.o_proj.bias" not in qwen2
    qwen3 = expected_shapes(parse_config(config(attention_bias=True, **QWEN3)))
    assert qwen3["model.layers.0.self_attn.q_norm.weight"] == (128,)
    assert qwen3["model.layers.0.self_attn.o_proj.bias"] == (8,)


def test_tensors(config):
    tied, untied = (expected_shapes(parse_config(config(tie_word_embeddings=tie))) for tie in (True, False))
    assert len(tied) == 2 + 2 * 9
    assert set(untied) - set(tied) == {"lm_head.weight"}


def test_end_of_text(config):
    """generation_config.json comes first; ids beyond the vocabulary cannot come up."""
    assert parse_config(config(eos_token_id=[3, 1, 3])).eos_token_ids == [1, 3]
    assert parse_config(config(eos_token_id=None)).eos_token_ids == []
    assert parse_config(config(), {"eos_token_id": [4, 128001]}).eos_token_ids == [4]
    assert parse_config(config(), {"temperature": 1.0}).eos_token_ids == [2]


def test_eos_in_generation_config_is_checked(config, refused):
    with refused("22023", "generation_config.json"):
        parse_config(config(), {"eos_token_id": "x"})


# Rotary position embeddings -----------------------------------------------------------------------

LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}


def test_rope_default(config):
    spec = parse_config(config(head_dim=8, rope_theta=10000.0))
    assert numpy.allclose(spec.rope_inv_freq, [1, 0.1, 0.01, 0.001], rtol=1e-6)
    assert spec.rope_inv_freq == [float(numpy.float32(f)) for f in spec.rope_inv_freq]


def test_rope_both_spellings(config):
    old = {"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}}
    new = {"rope_theta": ..., "rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, **LLAMA3}}
    oldest = {"rope_theta": 500000.0, "rope_scaling": {"type": "llama3", **LLAMA3}}
    both = {"rope_theta": 500000.0, "rope_parameters": new["rope_parameters"]}
    results = [parse_config(config(**c)).rope_inv_freq for c in (old, new, oldest, both)]
    assert results[0] == results[1] == results[2] == results[3]
    assert results[0] != parse_config(config(rope_theta=500000.0)).rope_inv_freq


def test_rope_linear(config):
    plain = parse_config(config()).rope_inv_freq
    slow = parse_config(config(rope_scaling={"type": "linear", "factor": 4.0})).rope_inv_freq
    assert slow == [f / 4 for f in plain]


def test_rope_llama3_against_the_formula(config):
    """In float64, element by element, as the paper's code has it."""
    head, theta, context = 64, 500000.0, 64
    settings = {"rope_type": "llama3", **LLAMA3, "original_max_position_embeddings": context}
    found = parse_config(config(head_dim=head, rope_theta=theta, rope_scaling=settings)).rope_inv_freq
    wanted = []
    for i in range(0, head, 2):
        frequency = theta ** (-i / head)
        wave = 2 * numpy.pi / frequency
        if wave < context / 4.0:
            wanted.append(frequency)
        elif wave > context / 1.0:
            wanted.append(frequency / 8)
        else:
            smooth = (context / wave - 1.0) / (4.0 - 1.0)
            wanted.append((1 - smooth) * frequency / 8 + smooth * frequency)
    assert numpy.allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize(
    "change, word",
    [
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "yarn"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "dynamic"),
        ({"rope_scaling": {"rope_type": "longrope", "short_factor": [1]}}, "longrope"),
        ({"rope_parameters": {"rope_type": "mrope", "rope_theta": 1e4}}, "mrope"),
        ({"rope_parameters": {"rope_type": ["default"], "rope_theta": 1e4}}, "default"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"rope_parameters": {"rope_type": "default", "factor": 2.0}}, "factor"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "full_attention"),
        ({"rope_scaling": {"rope_type": "llama3", **LLAMA3, "attention_factor": 1.2}}, "attention_factor"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_rope_refused(config, refused, change, word):
    with refused("0A000", word):
        parse_config(config(**change))


@pytest.mark.parametrize(
    "change",
    [
        {"rope_theta": 0},
        {"rope_theta": -1.0},
        {"rope_theta": "x"},
        {"rope_theta": [1]},
        {"rope_theta": True},
        {"rope_theta": 1e300},
        {"rope_theta": 10**400},
        {"rope_scaling": "linear"},
        {"rope_scaling": ["linear"]},
        {"rope_scaling": {"rope_type": "linear"}},
        {"rope_scaling": {"rope_type": "linear", "factor": 0}},
        {"rope_scaling": {"rope_type": "linear", "type": "default", "factor": 2.0}},
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
        {"rope_scaling": {"rope_type": "llama3", **LLAMA3, "high_freq_factor": 1.0}},
        {"rope_scaling": {"rope_type": "llama3", **LLAMA3, "original_max_position_embeddings": -1}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 20000.0}},
        {
            "rope_scaling": {"rope_type": "linear", "factor": 2.0},
            "rope_parameters": {"rope_type": "linear", "factor": 4.0},
        },
    ],
    ids=lambda value: str(value)[:50],
)
def test_rope_out_of_range(config, refused, change):
    with refused("22023"):
        parse_config(config(**change))
