"""hart.export_model: a model's tables become files again, the same as those that were ingested."""

import errno
import hashlib
import os

from .access import check_role, model_directory
from .database import plan, rows, scalar
from .errors import (
    DATA_CORRUPTED,
    DUPLICATE_FILE,
    FEATURE_NOT_SUPPORTED,
    INSUFFICIENT_PRIVILEGE,
    NULL_VALUE_NOT_ALLOWED,
    HartError,
    listed,
    quoted,
)
from .files import check_directory, exists, native, resolve, system_error
from .modeldir import TILES_AT_ONCE
from .progress import Progress
from .report import reported


@reported
def export_model(plpy, GD, name, path):
    """CALL hart.export_model(name, path)"""
    check_role(plpy, GD, "pg_write_server_files", "export a model")
    if name is None:
        raise HartError("name must not be null", NULL_VALUE_NOT_ALLOWED, hint="See the models in hart.models.")
    path = resolve(path, model_directory(plpy, GD))
    model_id = scalar(plpy, GD, "SELECT hart.resolve_model($1) AS value", ["text"], [name])
    check_exportable(plpy, GD, name, model_id)
    files = rows(
        plpy,
        GD,
        "SELECT name, content, size, sha256, is_checkpoint FROM hart.model_files WHERE model_id = $1"
        " ORDER BY is_checkpoint, name",
        ["int"],
        [model_id],
    )
    target = Target(path)
    try:
        target.prepare([file["name"] for file in files])
        source = TileSource(plpy, GD, model_id)
        edited = [file["name"] for file in files if not copy_file(target, source, file)]
        target.publish()
    except BaseException:
        target.remove()
        raise
    if edited:
        plpy.notice(
            f"weights of model {quoted(name)} were changed after it was ingested: "
            f"{listed(edited)} holds the weights as they are now"
        )
    plpy.notice(f"model {quoted(name)} is written to {quoted(path, 1000)}: {source.progress.summary()}")


def check_exportable(plpy, GD, name, model_id):
    """The model's weights are those of its files."""
    sql = "SELECT quantized_from AS value FROM hart.model_registry WHERE model_id = $1"
    source = scalar(plpy, GD, sql, ["int"], [model_id])
    if source is not None:
        raise HartError(
            f"model {quoted(name)} is quantized and cannot be exported",
            FEATURE_NOT_SUPPORTED,
            hint=f"Export the model that it was made of, {quoted(source)}.",
        )


def copy_file(target, source, file):
    """Write one file; tell whether it is the same as the one ingested."""
    sha256 = hashlib.sha256()
    with target.create(file["name"]) as output:
        written = 0
        pieces = [file["content"]] if not file["is_checkpoint"] else source.checkpoint(file["name"], file["content"])
        for data in pieces:
            sha256.update(data)
            written += len(data)
            target.write(output, file["name"], data)
        target.sync(output, file["name"])
    if written != file["size"]:
        raise HartError(
            f"file {quoted(file['name'])} would have {written} bytes, but the one ingested had {file['size']}",
            DATA_CORRUPTED,
            hint="Tiles of the model were deleted or cut: ingest the model again.",
        )
    return sha256.digest() == file["sha256"]


class TileSource:
    """Reads a model's tiles in the order of its files, under one snapshot."""

    def __init__(self, plpy, GD, model_id):
        self.tensors = {
            row["tensor_id"]: row
            for row in rows(
                plpy,
                GD,
                "SELECT tensor_id, name, file, bytes FROM hart.tensors WHERE model_id = $1",
                ["int"],
                [model_id],
            )
        }
        tiles = rows(
            plpy,
            GD,
            "SELECT tiles::text AS name, pg_catalog.row_security_active(tiles) AS hidden FROM hart.tiles_of($1) AS tiles",
            ["int"],
            [model_id],
        )[0]
        if tiles["hidden"]:
            raise HartError(
                f"row-level security on {tiles['name']} may hide tiles from you",
                INSUFFICIENT_PRIVILEGE,
                hint="Only roles that see all of a model's tiles can export it.",
            )
        # The partition itself, not its parent: privileges are granted on it. Each row is about 8 MB of a tensor.
        # Tensors come in the order of their files, and one cursor sees one snapshot from first to last.
        # The inner rows come sorted from an index, which string_agg(… ORDER BY …) would not know: it would sort again.
        sql = (
            "SELECT t.tensor_id, c.data, c.n_tiles = least($2, t.n_tiles - t.first) AS whole FROM"
            "  (SELECT tensor_id, dtype, encoding, n_tiles, first FROM hart.tensors,"
            "          LATERAL pg_catalog.generate_series(0, n_tiles - 1, $2) AS first"
            "   WHERE model_id = $1 ORDER BY tensor_id, first) AS t,"
            " LATERAL (SELECT pg_catalog.string_agg(hart.unpack_tile(payload, t.dtype, t.encoding), ''::bytea) AS data, count(*) AS n_tiles"
            f"         FROM (SELECT payload FROM {tiles['name']} WHERE model_id = $1 AND tensor_id = t.tensor_id"
            "                AND tile_no >= t.first AND tile_no < least(t.first + $2, t.n_tiles) ORDER BY tile_no) AS ordered) AS c"
            " ORDER BY t.tensor_id, t.first"
        )
        self.cursor = plpy.cursor(plan(plpy, GD, sql, ["int", "int"]), [model_id, TILES_AT_ONCE])
        size = sum(row["bytes"] for row in self.tensors.values())
        self.progress = Progress(len(self.tensors), size, plpy.notice)

    def checkpoint(self, name, header):
        """All bytes of one safetensors file, in pieces."""
        yield header
        for tensor_id in sorted(self.tensors):
            if self.tensors[tensor_id]["file"] == name:
                yield from self.tensor(tensor_id)

    def tensor(self, tensor_id):
        """A tensor's bytes, in pieces."""
        left = self.tensors[tensor_id]["bytes"]
        while left > 0:
            row = next(self.cursor, None)
            if row is None or row["tensor_id"] != tensor_id or not row["whole"] or len(row["data"]) > left:
                raise HartError(
                    f"tensor {quoted(self.tensors[tensor_id]['name'])} is incomplete",
                    DATA_CORRUPTED,
                    hint="Tiles of the model were deleted or cut: ingest the model again.",
                )
            left -= len(row["data"])
            self.progress.add(tensor_id, len(row["data"]))
            yield row["data"]


class Target:
    """The directory that is written: files appear under their names only when all are complete."""

    def __init__(self, path):
        self.path = path
        self.made_directory = False
        self.temporary = {}  # name → path of the unfinished file
        self.published = []

    def prepare(self, names):
        """Make the directory; refuse to overwrite anything."""
        try:
            os.mkdir(native(self.path))
            self.made_directory = True
        except FileExistsError:
            check_directory(self.path)
        except OSError as error:
            raise system_error("create directory", self.path, error) from None
        for name in names:
            if name != os.path.basename(name):
                raise HartError(
                    f"file name {quoted(name)} is not allowed",
                    DATA_CORRUPTED,
                    hint="Correct hart.model_files, or ingest the model again.",
                )
            if exists(self.file(name)):
                raise HartError(
                    f"{quoted(self.file(name), 1000)} already exists",
                    DUPLICATE_FILE,
                    hint="Export into a new or empty directory.",
                )

    def file(self, name):
        return os.path.join(self.path, name)

    def create(self, name):
        path = self.file(f".{name}.{os.getpid()}.tmp")
        try:
            descriptor = os.open(native(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise system_error("create file", path, error) from None
        self.temporary[name] = path
        return os.fdopen(descriptor, "wb", buffering=0)

    def write(self, output, name, data):
        view = memoryview(data)
        try:
            while view:
                view = view[output.write(view) :]
        except OSError as error:
            raise system_error("write file", self.file(name), error) from None

    def sync(self, output, name):
        try:
            os.fsync(output.fileno())
        except OSError as error:
            raise system_error("flush file", self.file(name), error) from None

    def publish(self):
        """Give all files their names, and make that durable."""
        try:
            for name, path in self.temporary.items():
                if exists(self.file(name)):
                    raise FileExistsError(errno.EEXIST, "", self.file(name))
                os.rename(native(path), native(self.file(name)))
                self.published.append(name)
            descriptor = os.open(native(self.path), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise system_error("finish writing to", self.path, error) from None

    def remove(self):
        """Leave nothing behind."""
        paths = [path for name, path in self.temporary.items() if name not in self.published]
        paths += [self.file(name) for name in self.published]
        for path in paths:
            try:
                os.unlink(native(path))
            except OSError:
                pass
        if self.made_directory:
            try:
                os.rmdir(native(self.path))
            except OSError:
                pass
