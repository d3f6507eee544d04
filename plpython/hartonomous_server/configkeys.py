"""Which keys of config.json are understood, which do not matter, and which are refused.

A key that nobody here has heard of may change the mathematics, so it is refused by name unless its value
says "nothing": null, false, zero or empty.
"""

import json

from .errors import FEATURE_NOT_SUPPORTED, HartError, quoted

HINT = "Check that config.json belongs to this model."


def names(text):
    """A set of words."""
    return frozenset(text.split())


# Read by config.py, rope.py and families.py.
UNDERSTOOD = names("""
    architectures model_type hidden_size intermediate_size num_hidden_layers num_attention_heads
    num_key_value_heads head_dim vocab_size max_position_embeddings rms_norm_eps hidden_act
    tie_word_embeddings eos_token_id rope_theta rope_scaling rope_parameters attention_bias mlp_bias
    sliding_window use_sliding_window max_window_layers layer_types
""")

# About files, training, other tasks, or how to sample: none changes the logits.
HARMLESS = names("""
    transformers_version torch_dtype dtype use_cache bos_token_id pad_token_id unk_token_id sep_token_id
    cls_token_id mask_token_id bos_token eos_token pad_token unk_token
    decoder_start_token_id forced_bos_token_id forced_eos_token_id
    initializer_range attention_dropout hidden_dropout resid_pdrop embd_pdrop classifier_dropout dropout
    hidden_dropout_prob attention_probs_dropout_prob neftune_noise_alpha
    return_dict output_hidden_states output_attentions torchscript use_bfloat16 tf_legacy_loss
    return_dict_in_generate output_scores gradient_checkpointing is_decoder tie_encoder_decoder
    tokenizer_class tokenizer_name name_or_path finetuning_task task_specific_params problem_type
    id2label label2id num_labels prefix model_max_length max_sequence_length seq_length
    attn_implementation use_flash_attn use_flash_attention_2 flash_attn keys_to_ignore_at_inference
    do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p typical_p
    repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
    max_length min_length max_new_tokens num_return_sequences exponential_decay_length_penalty
    suppress_tokens begin_suppress_tokens remove_invalid_values generation_config
    transformers.js_config is_llama_config license datasets language tags base_model
    unsloth_fixed unsloth_version unsloth_tracking unsloth_training_data model_name
""")

# Keys that do change the mathematics, with the values that leave it alone.
NEUTRAL = {
    "pretraining_tp": (1,),
    "partial_rotary_factor": (1,),
    "embedding_multiplier": (1,),
    "residual_multiplier": (1,),
    "logits_scaling": (1,),
    "logit_scale": (1,),
    "final_logits_scaling": (1,),
    "scale_emb": (1,),
    "position_embedding_type": ("rope", "rotary"),
}

# Why these are refused, said better than "unknown key".
REASONS = {
    "quantization_config": "Quantized checkpoints are not supported: use the F32, F16 or BF16 checkpoint of the model.",
    "compression_config": "Quantized checkpoints are not supported: use the F32, F16 or BF16 checkpoint of the model.",
    "auto_map": "The model comes with its own code, which may compute something else than its architecture says.",
    "pretraining_tp": "Projections computed in slices are not supported.",
    "num_experts": "Mixtures of experts are not supported.",
    "num_local_experts": "Mixtures of experts are not supported.",
    "num_experts_per_tok": "Mixtures of experts are not supported.",
    "attn_logit_softcapping": "Capped logits are not supported.",
    "final_logit_softcapping": "Capped logits are not supported.",
}

UNKNOWN = "This key is not known here, so it may change what the model computes."


def check_keys(config):
    """Refuse the first key that changes the mathematics, or may."""
    for key, value in config.items():
        if key in UNDERSTOOD or key in HARMLESS or key.startswith("_") or value is None:
            continue
        if key in NEUTRAL:
            if not isinstance(value, bool) and value in NEUTRAL[key]:
                continue
        elif says_nothing(value):
            continue
        raise refused(key, value, REASONS.get(key, UNKNOWN))


def says_nothing(value):
    """Whether a value switches nothing on: null, false, zero, "", [] or {}."""
    return value is None or value is False or value == 0 or value == "" or value == [] or value == {}


def refused(key, value, detail, hint=None):
    """The error for a key whose value is not supported."""
    return HartError(
        f"config.json has {quoted(key)}: {shown(value)}, which is not supported",
        FEATURE_NOT_SUPPORTED,
        detail=detail,
        hint=hint or "If you know that it does not change what the model computes, remove it from config.json.",
    )


def shown(value):
    """A JSON value for a message, on one line and not endless."""
    if isinstance(value, dict):
        return "{…}"
    if isinstance(value, list):
        return "[…]" if len(value) > 4 else "[" + ", ".join(shown(item) for item in value) + "]"
    if isinstance(value, str):
        return quoted(value, 60)
    if isinstance(value, int) and abs(value) >= 10**18:
        return f"{float_of(value):.3g}"
    return json.dumps(value)


def float_of(value):
    """A number as float, infinite when it is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
