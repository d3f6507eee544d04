"""Which tensors a model has: their names as in the checkpoint, and their shapes."""

import re

from .errors import FEATURE_NOT_SUPPORTED, INVALID_PARAMETER_VALUE, HartError, listed, quoted

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
DTYPES = {"F32": 4, "F16": 2, "BF16": 2}

# Buffers that old versions of transformers saved: computed from config.json, never read.
IGNORED = re.compile(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")


def expected_shapes(spec):
    """Name → shape of every tensor that the model computes with."""
    shapes = {EMBEDDING: (spec.vocab_size, spec.dim)}
    for layer in range(spec.n_layers):
        for name, shape in layer_shapes(spec).items():
            shapes[f"model.layers.{layer}.{name}"] = shape
    shapes["model.norm.weight"] = (spec.dim,)
    if not spec.tied_embeddings:
        shapes[HEAD] = (spec.vocab_size, spec.dim)
    return shapes


def layer_shapes(spec):
    """The same for one layer; names relative to it."""
    q, kv = spec.n_heads * spec.head_dim, spec.n_kv_heads * spec.head_dim
    shapes = {
        "input_layernorm.weight": (spec.dim,),
        "self_attn.q_proj.weight": (q, spec.dim),
        "self_attn.k_proj.weight": (kv, spec.dim),
        "self_attn.v_proj.weight": (kv, spec.dim),
        "self_attn.o_proj.weight": (spec.dim, q),
        "post_attention_layernorm.weight": (spec.dim,),
        "mlp.gate_proj.weight": (spec.hidden_dim, spec.dim),
        "mlp.up_proj.weight": (spec.hidden_dim, spec.dim),
        "mlp.down_proj.weight": (spec.dim, spec.hidden_dim),
    }
    biased = []
    if spec.qkv_bias:
        biased += ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]
    if spec.o_bias:
        biased += ["self_attn.o_proj"]
    if spec.mlp_bias:
        biased += ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
    for name in biased:
        shapes[name + ".bias"] = shapes[name + ".weight"][:1]
    if spec.family.qk_norm:
        shapes["self_attn.q_norm.weight"] = shapes["self_attn.k_norm.weight"] = (spec.head_dim,)
    return shapes


def check_tensors(spec, tensors):
    """Compare the checkpoint's tensors with what config.json asks for."""
    expected = expected_shapes(spec)
    found = {tensor.name: tensor for tensor in tensors}
    extra = [name for name in found if name not in expected and not unused(spec, name)]
    missing = [name for name in expected if name not in found]
    if missing:
        raise HartError(
            f"tensor {quoted(missing[0])} is missing",
            INVALID_PARAMETER_VALUE,
            detail=f"Of the {len(expected)} tensors that config.json asks for, {len(missing)} are missing: "
            f"{listed(missing)}.",
            hint="If the model shares its input and output embeddings, set tie_word_embeddings to true in config.json."
            if missing == [HEAD]
            else "Check that config.json and the checkpoint belong together and are complete.",
        )
    if extra:
        raise HartError(
            f"tensor {quoted(extra[0])} is not part of a {spec.family.class_name} with this config.json",
            INVALID_PARAMETER_VALUE,
            detail=f"Tensors that would not be used: {listed(extra)}.",
            hint="Check that config.json and the checkpoint belong together.",
        )
    for name, tensor in found.items():
        check_tensor(tensor, expected.get(name))


def check_tensor(tensor, shape):
    """One tensor's dtype and shape."""
    if tensor.dtype not in DTYPES:
        raise HartError(
            f"tensor {quoted(tensor.name)} has dtype {tensor.dtype}, which is not supported",
            FEATURE_NOT_SUPPORTED,
            hint="Supported are " + ", ".join(DTYPES) + ".",
        )
    if shape is not None and tensor.shape != shape:
        raise HartError(
            f"tensor {quoted(tensor.name)} has shape {list(tensor.shape)}, but config.json asks for {list(shape)}",
            INVALID_PARAMETER_VALUE,
            hint="Check that config.json and the checkpoint belong together.",
        )


def unused(spec, name):
    """Whether a tensor is kept for the sake of a complete export, but never read."""
    return IGNORED.fullmatch(name) is not None or (name == HEAD and spec.tied_embeddings)


def parameter_count(spec, tensors):
    """The number of weights that the model computes with."""
    return sum(tensor.elements for tensor in tensors if not unused(spec, tensor.name))
