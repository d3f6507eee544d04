"""Write a checkpoint of the family qwen2 as GGUF for llama.cpp, the same weights bit for bit, and quantized by llama.cpp itself.

usage: write_gguf.py MODEL_FOLDER OUT_FOLDER [TYPE…]     TYPE is Q8_0, Q4_0, …; BF16 is always written; files that are there stay
"""

import json
import os
import pathlib
import struct
import sys

import gguf
import llama_cpp
import numpy as np

ROLES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_name(name):
    module, kind = name.rsplit(".", 1)
    if module in OUTSIDE:
        return f"{OUTSIDE[module]}.{kind}"
    layer, role = module.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{ROLES[role]}.{kind}"


def tensors(path):
    """Name, shape and bf16 bit patterns of each tensor of a safetensors file, one in memory at a time."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    for name, entry in header.items():
        if entry["dtype"] != "BF16":
            raise SystemExit(f"{name} is {entry['dtype']}, only BF16 is written")
        begin, end = entry["data_offsets"]
        yield name, entry["shape"], np.memmap(path, "<u2", "r", 8 + length + begin, ((end - begin) // 2,))


def add_vocabulary(writer, tokenizer, config):
    """The byte-level BPE vocabulary of a tokenizer.json; ids without a token get one that no text has."""
    size = config["vocab_size"]
    tokens, types = [f"[PAD{i}]" for i in range(size)], [gguf.TokenType.UNUSED] * size
    for text, i in tokenizer["model"]["vocab"].items():
        tokens[i], types[i] = text, gguf.TokenType.NORMAL
    for added in tokenizer["added_tokens"]:
        kind = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
        tokens[added["id"]], types[added["id"]] = added["content"], kind
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    # llama.cpp wants at least one: tokens that are no text are never met
    writer.add_token_merges(merges or [" ".join(tokens[-2:])])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)


def write_bf16(folder, path):
    config = json.loads((folder / "config.json").read_text())
    if config["model_type"] != "qwen2":
        raise SystemExit(f"the family {config['model_type']} is not written, only qwen2")
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name(folder.name)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    add_vocabulary(writer, json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")), config)
    for name, shape, bits in tensors(folder / "model.safetensors"):
        if len(shape) == 1:  # llama.cpp has norms and biases in float32
            writer.add_tensor(gguf_name(name), (bits.astype("<u4") << 16).view("<f4"))
        else:
            rows = bits.view(np.uint8).reshape(shape[0], 2 * shape[1])
            writer.add_tensor(gguf_name(name), rows, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantize(source, path, kind):
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    if llama_cpp.llama_model_quantize(str(source).encode(), str(path).encode(), params) != 0:
        raise SystemExit(f"llama.cpp could not quantize {source} to {kind}")


def main():
    model, out = map(pathlib.Path, sys.argv[1:3])
    out.mkdir(parents=True, exist_ok=True)
    source = out / "BF16.gguf"
    for kind in ("BF16", *sys.argv[3:]):
        path, unfinished = out / f"{kind}.gguf", out / f"{kind}.part"
        if path.exists():
            continue
        if kind == "BF16":
            write_bf16(model, unfinished)
        else:
            quantize(source, unfinished, kind)
        os.replace(unfinished, path)


if __name__ == "__main__":
    main()
