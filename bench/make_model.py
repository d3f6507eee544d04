"""Write a model with the shape of Qwen2.5-0.5B and random weights: what is measured depends on the shape, not on the training.

usage: make_model.py FOLDER [--tokenizer FOLDER] [--layers N] [--seed N]
"""

import argparse
import dataclasses
import json
import pathlib
import shutil
import struct

import numpy as np

END_OF_TEXT = 256


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of a Qwen2 model; those of Qwen2.5-0.5B unless others are given."""

    dim: int = 896
    hidden: int = 4864
    heads: int = 14
    kv_heads: int = 2
    head_dim: int = 64
    vocabulary: int = 151936
    layers: int = 24

    def config(self):
        return {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "hidden_size": self.dim,
            "intermediate_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": 32768,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1000000.0,
            "hidden_act": "silu",
            "tie_word_embeddings": True,
            "use_sliding_window": False,
            "torch_dtype": "bfloat16",
            "eos_token_id": END_OF_TEXT,
        }

    def tensors(self):
        """Name and shape of each tensor, in the order of the file."""
        yield "model.embed_tokens.weight", (self.vocabulary, self.dim)
        for i in range(self.layers):
            prefix = f"model.layers.{i}."
            yield prefix + "input_layernorm.weight", (self.dim,)
            for name, heads in (("q_proj", self.heads), ("k_proj", self.kv_heads), ("v_proj", self.kv_heads)):
                yield prefix + f"self_attn.{name}.weight", (heads * self.head_dim, self.dim)
                yield prefix + f"self_attn.{name}.bias", (heads * self.head_dim,)
            yield prefix + "self_attn.o_proj.weight", (self.dim, self.heads * self.head_dim)
            yield prefix + "post_attention_layernorm.weight", (self.dim,)
            yield prefix + "mlp.gate_proj.weight", (self.hidden, self.dim)
            yield prefix + "mlp.up_proj.weight", (self.hidden, self.dim)
            yield prefix + "mlp.down_proj.weight", (self.dim, self.hidden)
        yield "model.norm.weight", (self.dim,)


def weights(name, shape, rng):
    """bf16 bit patterns of the size that trained weights have."""
    values = rng.standard_normal(shape, dtype=np.float32)
    values = 1 + 0.05 * values if "norm" in name else 0.02 * values
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")  # to nearest, ties to even


def write_safetensors(path, model, seed):
    """The checkpoint, one tensor in memory at a time."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in model.tensors():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(seed)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in model.tensors():
            file.write(weights(name, shape, rng).tobytes())


def byte_characters():
    """The printable character that stands for each byte in a byte-level vocabulary."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in kept]
    return {**{byte: chr(byte) for byte in kept}, **{byte: chr(256 + i) for i, byte in enumerate(others)}}


def write_byte_tokenizer(folder):
    """A tokenizer whose tokens are the 256 bytes; the other rows of the embeddings stay without a token."""
    vocabulary = {character: byte for byte, character in sorted(byte_characters().items())}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    special = {"id": END_OF_TEXT, "content": "<|endoftext|>", "special": True, "normalized": False}
    flags = {"single_word": False, "lstrip": False, "rstrip": False}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [special | flags],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")


def write_model(folder, tokenizer=None, shape=None, seed=0):
    """All files of the model, config.json last: its presence says that the others are whole."""
    shape = shape or Shape()
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer is None:
        write_byte_tokenizer(folder)
    else:
        shutil.copyfile(tokenizer / "tokenizer.json", folder / "tokenizer.json")
    write_safetensors(folder / "model.safetensors", shape, seed)
    (folder / "config.json").write_text(json.dumps(shape.config(), indent=2))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tokenizer", type=pathlib.Path, help="folder with a tokenizer.json (default: one token a byte)")
    parser.add_argument("--layers", type=int, default=Shape.layers)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write_model(options.folder, options.tokenizer, Shape(layers=options.layers), options.seed)


if __name__ == "__main__":
    main()
