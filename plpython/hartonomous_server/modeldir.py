"""A model's directory, read and validated as a whole before anything is written."""

import os
from dataclasses import dataclass

from .checkpoint import INDEX, SINGLE, ShardReader, read_checkpoint
from .config import Spec, parse_config
from .errors import INVALID_PARAMETER_VALUE, UNDEFINED_FILE, HartError, quoted
from .files import check_directory, exists, read_small
from .jsonfile import parse_object
from .tensors import EMBEDDING, HEAD, check_tensors, parameter_count
from .tile_encoding import PLAIN, TILE_BYTES
from .tokenizer import largest_id, load_tokenizer

TILES_AT_ONCE = 1040  # read and written at once, about 8 MB
CHUNK = TILES_AT_ONCE * TILE_BYTES[PLAIN]

CONFIG, GENERATION_CONFIG, TOKENIZER = "config.json", "generation_config.json", "tokenizer.json"
# Kept beside the checkpoint, so that an export is complete. The first two must be there.
SMALL_FILES = (
    CONFIG,
    TOKENIZER,
    "tokenizer_config.json",
    GENERATION_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    INDEX,
)
PARSED = (CONFIG, "tokenizer_config.json", GENERATION_CONFIG)
MAX_SMALL_FILE = 100 << 20


@dataclass
class ModelDirectory:
    """Everything that an ingest needs to know."""

    path: str
    spec: Spec
    small_files: dict  # name → content
    shards: list
    warnings: list

    @property
    def tensors(self):
        """All tensors in the order in which they are read."""
        return [tensor for shard in self.shards for tensor in shard.tensors]


def read_model(path):
    """Read a directory; raise the first thing that is wrong with it."""
    check_directory(path)
    small_files = read_small_files(path)
    parsed = {name: parse_object(small_files[name], name) for name in PARSED if name in small_files}
    spec = parse_config(parsed[CONFIG], parsed.get(GENERATION_CONFIG))
    warnings = check_tokenizer(small_files[TOKENIZER], spec)
    shards = read_checkpoint(path)
    model = ModelDirectory(path, spec, small_files, shards, warnings)
    check_tensors(spec, model.tensors)
    check_tied(model)
    return model


def read_small_files(path):
    """The contents of all files that are kept whole, by name."""
    for name in (CONFIG, TOKENIZER):
        if not exists(os.path.join(path, name)):
            raise HartError(
                f"{quoted(path, 1000)} does not hold {name}",
                UNDEFINED_FILE,
                hint=f"A model's directory holds {CONFIG}, {TOKENIZER} and {SINGLE} or shards with {INDEX}.",
            )
    present = [name for name in SMALL_FILES if exists(os.path.join(path, name))]
    return {name: read_small(os.path.join(path, name), MAX_SMALL_FILE) for name in present}


def check_tokenizer(content, spec):
    """The tokenizer loads; a token beyond the embedding can only be an error later, so it is a warning here."""
    largest = largest_id(load_tokenizer(content))
    if largest < spec.vocab_size:
        return []
    warning = (
        f"{TOKENIZER} has token ids up to {largest}, but the model's vocabulary has {spec.vocab_size} tokens: "
        "texts with the tokens beyond it are refused"
    )
    return [warning]


def check_tied(model):
    """A separate output matrix beside tied embeddings must be the same one: else config and checkpoint disagree."""
    found = {tensor.name: (shard, tensor) for shard in model.shards for tensor in shard.tensors}
    if not model.spec.tied_embeddings or HEAD not in found:
        return
    (shard_a, a), (shard_b, b) = found[EMBEDDING], found[HEAD]
    if (a.dtype, a.shape) == (b.dtype, b.shape) and same_bytes(shard_a, a, shard_b, b):
        return
    raise HartError(
        f"config.json says that embeddings are tied, but {quoted(HEAD)} differs from {quoted(EMBEDDING)}",
        INVALID_PARAMETER_VALUE,
        hint="Set tie_word_embeddings to false in config.json to use both.",
    )


def same_bytes(shard_a, a, shard_b, b):
    """Compare two tensors of the same size, a chunk at a time."""
    with ShardReader(shard_a) as reader_a, ShardReader(shard_b) as reader_b:
        reader_a.file.seek(a.offset)
        reader_b.file.seek(b.offset)
        return all(x == y for x, y in zip(reader_a.chunks(a, CHUNK), reader_b.chunks(b, CHUNK)))


def as_json(model):
    """The description that hart.begin_ingest takes."""
    spec = model.spec
    columns = (
        "architecture dim hidden_dim n_layers n_heads n_kv_heads head_dim vocab_size max_positions "
        "rms_norm_eps rope_inv_freq tied_embeddings eos_token_ids"
    )
    return {name: getattr(spec, name) for name in columns.split()} | {
        "parameters": parameter_count(spec, model.tensors),
        "source_bytes": sum(shard.size for shard in model.shards),
        "path": model.path,
        "tensors": [
            {
                "tensor_id": tensor_id,
                "name": tensor.name,
                "shape": list(tensor.shape),
                "dtype": tensor.dtype,
                "bytes": tensor.size,
                "n_tiles": -(-tensor.size // TILE_BYTES[PLAIN]),
                "file": tensor.file,
                "file_offset": tensor.offset,
            }
            for tensor_id, tensor in enumerate(model.tensors, 1)
        ],
    }
