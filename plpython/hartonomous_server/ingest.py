"""hart.ingest_model: a directory of files becomes a model in tables, or nothing at all."""

import hashlib
import json
import os
import time

from .access import check_encoding, check_role, model_directory
from .byte_pairs import byte_pair_rules, merge_rows
from .checkpoint import ShardReader
from .database import rows
from .errors import INVALID_NAME, QUERY_CANCELED, HartError, quoted
from .files import resolve
from .modeldir import TILES_AT_ONCE, TOKENIZER, as_json, read_model
from .patterns import Unsuitable
from .positions import make_linear_chart
from .progress import INTERVAL, Progress
from .report import reported
from .tile_encoding import PLAIN, TILE_BYTES, choose_encoding
from .token_atoms import read_vocabulary
from .transaction import Transaction

COMMIT_BYTES = 64 << 20
VOCABULARY_ROWS = 40_000  # tokens, or merges, in one transaction
CLEANUPS = 3  # attempts to remove a model, when they too are cancelled
MAX_NAME = 63  # bytes, as for PostgreSQL's own names


@reported
def ingest_model(plpy, GD, path, name):
    """CALL hart.ingest_model(path, name)"""
    check_role(plpy, GD, "pg_read_server_files", "ingest a model")
    check_encoding(plpy, GD)
    path = resolve(path, model_directory(plpy, GD))
    name = check_name(os.path.basename(path) if name is None else name)
    model = read_model(path)
    for warning in model.warnings:
        plpy.warning(warning)

    transaction = Transaction(plpy)
    begun = rows(
        plpy,
        GD,
        "SELECT model_id, tiles FROM hart.begin_ingest($1, $2)",
        ["text", "jsonb"],
        [name, json.dumps(as_json(model))],
    )[0]
    writer = Writer(plpy, GD, model, begun["model_id"], begun["tiles"], transaction)
    try:
        transaction.commit()
        writer.write_small_files()
        for shard in model.shards:
            writer.write_shard(shard)
        summary = writer.progress.summary()
        tokens, seconds = writer.write_vocabulary(model.spec.vocab_size)
        make_linear_chart(plpy, GD, model, begun["model_id"])
        rows(plpy, GD, "SELECT hart.finish_ingest($1)", ["int"], [begun["model_id"]])
        transaction.commit()
    except BaseException:
        give_up(plpy, GD, begun["model_id"], transaction)
        raise
    plpy.notice(f"model {quoted(name)} is ready: {summary}; {tokens} tokens in {seconds:.1f} s")


def give_up(plpy, GD, model_id, transaction):
    """Remove what was written so far. The error that led here is the one to report, so a second one only warns."""
    for attempt in range(CLEANUPS):
        try:
            transaction.rollback()
            rows(plpy, GD, "SELECT hart.abort_ingest($1)", ["int"], [model_id])
            transaction.commit()
            return
        except (plpy.Error, plpy.SPIError) as error:
            # who cancels the call twice wants it gone, not left half done
            if getattr(error, "sqlstate", None) == QUERY_CANCELED and attempt + 1 < CLEANUPS:
                continue
            plpy.warning(
                f"could not remove what was written: {error}",
                hint="The next CALL hart.ingest_model removes it.",
            )
            return


def check_name(name):
    """A model's name: not empty, not endless, printable."""
    problem = None
    if not name or name != name.strip():
        problem = "is empty, or begins or ends with a space"
    elif len(name.encode("utf-8")) > MAX_NAME:
        problem = f"is longer than {MAX_NAME} bytes"
    elif not name.isprintable():
        problem = "holds a control character"
    if problem:
        raise HartError(
            f"model name {quoted(name)} {problem}",
            INVALID_NAME,
            hint="Give the model a name as the second argument: CALL hart.ingest_model(path, name).",
        )
    return name


class Writer:
    """Streams the files of one model into its tables."""

    def __init__(self, plpy, GD, model, model_id, tiles, transaction):
        self.plpy, self.GD = plpy, GD
        self.model_id, self.tiles = model_id, tiles
        self.transaction = transaction
        self.tensor_id = 0
        self.committed_bytes, self.committed_at = 0, time.monotonic()
        self.progress = Progress(len(model.tensors), sum(tensor.size for tensor in model.tensors), plpy.notice)
        self.small_files = model.small_files

    def write_small_files(self):
        """config.json, tokenizer.json and their like, whole."""
        for name, content in self.small_files.items():
            self.add_file(name, content, len(content), hashlib.sha256(content).digest(), False)

    def write_shard(self, shard):
        """One safetensors file: its tensors as tiles, then its header and hash."""
        with ShardReader(shard) as reader:
            for tensor in shard.tensors:
                self.write_tensor(reader, tensor)
            self.add_file(shard.name, shard.header, shard.size, reader.finish(), True)

    def write_tensor(self, reader, tensor):
        self.tensor_id += 1
        encoding = choose_encoding(self.plpy, self.GD, reader, tensor, TILES_AT_ONCE)
        if encoding != PLAIN:
            rows(
                self.plpy,
                self.GD,
                "SELECT hart.set_encoding($1, $2, $3)",
                ["int", "int", "text"],
                [self.model_id, self.tensor_id, encoding],
            )
        first_tile = 0
        for data in reader.chunks(tensor, TILES_AT_ONCE * TILE_BYTES[encoding]):
            rows(
                self.plpy,
                self.GD,
                "SELECT hart.write_tiles($1, $2, $3, $4, $5)",
                ["regclass", "int", "int", "int", "bytea"],
                [self.tiles, self.model_id, self.tensor_id, first_tile, data],
            )
            first_tile += -(-len(data) // TILE_BYTES[encoding])
            self.progress.add(self.tensor_id, len(data))
            self.commit_now_and_then(tensor.name)

    def commit_now_and_then(self, tensor_name):
        """Let others see the progress, and keep transactions short."""
        due = self.progress.done - self.committed_bytes >= COMMIT_BYTES
        if due or time.monotonic() - self.committed_at >= INTERVAL:
            self.commit(self.tensor_id - 1, tensor_name)

    def commit(self, tensors_done, at_work):
        """Note the progress, and commit."""
        rows(
            self.plpy,
            self.GD,
            "SELECT hart.note_progress($1, $2, $3, $4)",
            ["int", "int", "bigint", "text"],
            [self.model_id, tensors_done, self.progress.done, at_work],
        )
        self.transaction.commit()
        self.committed_bytes, self.committed_at = self.progress.done, time.monotonic()

    def write_vocabulary(self, vocab_size):
        """The tokens of tokenizer.json as atoms, and its merges; their number, and the time it took."""
        start = time.monotonic()
        vocabulary = read_vocabulary(self.small_files[TOKENIZER], vocab_size)
        for sql, types, entries in (
            ("SELECT hart.add_tokens($1, $2, $3, $4)", ["int[]", "bytea[]", "bool[]"], vocabulary.tokens),
            ("SELECT hart.add_merges($1, $2, $3, $4, $5)", ["int[]"] * 4, vocabulary.merges),
        ):
            for first in range(0, len(entries), VOCABULARY_ROWS):
                columns = [list(column) for column in zip(*entries[first : first + VOCABULARY_ROWS])]
                rows(self.plpy, self.GD, sql, ["int", *types], [self.model_id, *columns])
                self.commit(self.tensor_id, TOKENIZER)
        self.write_tokenizer(vocabulary, vocab_size)
        return len(vocabulary.tokens), time.monotonic() - start

    def write_tokenizer(self, vocabulary, vocab_size):
        """The rules by which the server itself tokenizes, where it can."""
        try:
            rules = byte_pair_rules(vocabulary.file, vocab_size)
        except Unsuitable as reason:
            self.plpy.debug(f"texts of this model are tokenized by the library: {reason}")
            return
        rows(
            self.plpy,
            self.GD,
            f"SELECT hart.add_tokenizer($1, {', '.join(f'${n + 2}' for n in range(len(rules.TYPES)))})",
            ["int", *rules.TYPES],
            [self.model_id, *rules.values()],
        )
        merges = merge_rows(vocabulary.merges)
        for first in range(0, len(merges), VOCABULARY_ROWS):
            columns = [list(column) for column in zip(*merges[first : first + VOCABULARY_ROWS])]
            rows(
                self.plpy,
                self.GD,
                "SELECT hart.add_merge_pairs($1, $2, $3, $4, $5)",
                ["int", *["int[]"] * 4],
                [self.model_id, *columns],
            )
            self.commit(self.tensor_id, TOKENIZER)

    def add_file(self, name, content, size, sha256, is_checkpoint):
        rows(
            self.plpy,
            self.GD,
            "SELECT hart.add_model_file($1, $2, $3, $4, $5, $6)",
            ["int", "text", "bytea", "bigint", "bytea", "bool"],
            [self.model_id, name, content, size, sha256, is_checkpoint],
        )
