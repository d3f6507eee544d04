"""Train the byte-level BPE tokenizer on the training pages, shaped like Qwen2's (same regex, NFC, no prefix space)."""

import argparse
import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import corpus

VOCAB_SIZE = 4096
END = "<|endoftext|>"
MAX_LENGTH = 512
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train(texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - 1,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # Last, as in Qwen2: the special token's id is one past the merges.
    tokenizer.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    return tokenizer


def config():
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": END,
        "errors": "replace",
        "model_max_length": MAX_LENGTH,
        "pad_token": END,
        "split_special_tokens": False,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": None,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=corpus.WORK)
    args = parser.parse_args()
    texts = corpus.load(args.work, "train")
    tokenizer = train(texts)
    tokenizer.save(str(args.work / "tokenizer.json"))
    (args.work / "tokenizer_config.json").write_text(json.dumps(config(), indent=2) + "\n")
    for part in ("train", "held_out"):
        texts = corpus.load(args.work, part)
        tokens = sum(len(e.ids) for e in tokenizer.encode_batch(texts))
        size = sum(len(t.encode()) for t in texts)
        print(f"{part}: {tokens} tokens, {size / tokens:.2f} bytes a token")


if __name__ == "__main__":
    main()
