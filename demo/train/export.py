"""Write a checkpoint as a Hugging Face model directory: bf16 safetensors, config, tokenizer."""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

import corpus
import tokenizer as bpe
from model import Config

MODEL = Path(__file__).resolve().parent.parent / "model"


def config_json(config, end):
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": end,
        "eos_token_id": end,
        "hidden_act": "silu",
        "hidden_size": config.dim,
        "initializer_range": 0.02,
        "intermediate_size": config.hidden_dim,
        "max_position_embeddings": config.max_positions,
        "max_window_layers": config.n_layers,
        "model_type": "qwen2",
        "num_attention_heads": config.n_heads,
        "num_hidden_layers": config.n_layers,
        "num_key_value_heads": config.n_kv_heads,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_scaling": None,
        "rope_theta": config.rope_theta,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": config.vocab_size,
    }


def write_json(path, content):
    path.write_text(json.dumps(content, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=corpus.WORK)
    parser.add_argument("--out", type=Path, default=MODEL)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    weights = torch.load(args.work / "checkpoint.pt")["model"]
    # The head is the embedding matrix, so the checkpoint has no lm_head.weight, as Qwen's own small models.
    tensors = {name: weights[name].to(torch.bfloat16).contiguous() for name in sorted(weights)}
    save_file(tensors, args.out / "model.safetensors", metadata={"format": "pt"})
    (args.out / "model.safetensors").chmod(0o644)
    end = Tokenizer.from_file(str(args.work / "tokenizer.json")).token_to_id(bpe.END)
    write_json(args.out / "config.json", config_json(Config(), end))
    write_json(args.out / "generation_config.json", {"bos_token_id": end, "do_sample": False, "eos_token_id": end})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(args.work / name, args.out / name)


if __name__ == "__main__":
    main()
