"""config.json that is wrong, absurd or asks for what is not supported: refused, the last by name."""
import pytest

from spoil import change_config

SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
         "vocab_size", "max_position_embeddings")
ABSURD = [-1, 0, 2 ** 31, 2 ** 40, 2 ** 63, 2 ** 64, 10 ** 400, 1.5, True, "16", [16], {}]


@pytest.mark.parametrize("value", ABSURD, ids=lambda v: str(v)[:20])
@pytest.mark.parametrize("key", SIZES)
def test_absurd_sizes(not_ingested, good, key, value):
    change_config(good, {key: value})
    not_ingested("22023 54000", good)


@pytest.mark.parametrize("changes", [
    {"hidden_size": 32}, {"intermediate_size": 25}, {"num_hidden_layers": 2}, {"num_attention_heads": 4}, {"num_key_value_heads": 2},
    {"head_dim": 16}, {"vocab_size": 100}, {"vocab_size": 102}, {"tie_word_embeddings": False}, {"attention_bias": True}, {"mlp_bias": True},
    {"num_attention_heads": 3}, {"num_key_value_heads": 3}, {"head_dim": 7},
    {"rms_norm_eps": -1e-5}, {"rms_norm_eps": "small"}, {"rms_norm_eps": 1e400},
    {"rope_theta": 0}, {"rope_theta": -1}, {"rope_theta": "x"}, {"rope_theta": [1]},
    {"eos_token_id": -1}, {"eos_token_id": "</s>"}, {"eos_token_id": [2, None]},
    {"rope_scaling": {"rope_type": "linear"}}, {"rope_scaling": {"rope_type": "linear", "factor": 0}},
    {"rope_scaling": {"rope_type": "linear", "factor": "x"}}, {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
    {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}},
    {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": -64}},
], ids=lambda c: str(c)[:60])
def test_config_that_contradicts(not_ingested, good, changes):
    """What the tensors or plain sense contradict."""
    change_config(good, changes)
    not_ingested("22023 0A000 22P04", good)


@pytest.mark.parametrize("key", ["model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "intermediate_size"])
def test_config_without(not_ingested, good, key):
    change_config(good, {}, drop=[key] + (["architectures"] if key == "model_type" else []))
    error = not_ingested("22023 0A000", good)
    assert key in str(error) or key == "model_type" and "architecture" in str(error)


@pytest.mark.parametrize("changes, named", [
    ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, "gpt2"),
    ({"model_type": "mixtral", "architectures": ["MixtralForCausalLM"]}, "mixtral"),
    ({"model_type": "qwen2_moe", "architectures": ["Qwen2MoeForCausalLM"]}, "qwen2_moe"),
    ({"model_type": "gemma", "architectures": ["GemmaForCausalLM"]}, "gemma"),
    ({"model_type": "no\nsuch\u0000", "architectures": ["X"]}, "no"),
    ({"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification"),
    ({"hidden_act": "gelu"}, "hidden_act"),
    ({"hidden_act": None}, "hidden_act"),
    ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}}, "yarn"),
    ({"rope_scaling": {"type": "dynamic", "factor": 4.0}}, "dynamic"),
    ({"rope_scaling": {"rope_type": "longrope", "long_factor": [1, 1], "short_factor": [1, 1]}}, "longrope"),
    ({"rope_parameters": {"rope_type": "su", "rope_theta": 10000.0}}, "su"),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ({"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
    ({"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 64}, "sliding_window"),
    ({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "use_sliding_window": True, "sliding_window": 64, "max_window_layers": 0}, "sliding_window"),
    ({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "layer_types": ["sliding_attention"], "sliding_window": 64, "use_sliding_window": True}, "sliding"),
    ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantization_config"),
    ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
    ({"some_new_multiplier": 12.0}, "some_new_multiplier"),
], ids=lambda c: str(c)[:60])
def test_unsupported_is_refused_by_name(not_ingested, good, changes, named):
    change_config(good, changes)
    error = not_ingested("0A000", good)
    assert named in f"{error.diag.message_primary} {error.diag.message_detail} {error.diag.message_hint}"


def test_enormous_context(conn, good):
    """The context length is a bound, not a reservation."""
    change_config(good, {"max_position_embeddings": 2 ** 28})
    conn.execute("CALL hart.ingest_model(%s)", [str(good)])
    assert conn.one("SELECT hart.generate('x', 3, 'bad')") is not None
    conn.execute("CALL hart.drop_model('bad')")
