"""safetensors checkpoints: one file or shards with an index; headers validated by the reference reader."""

import hashlib
import os
import struct
from dataclasses import dataclass, field

import safetensors

from .errors import BAD_FILE_FORMAT, INVALID_PARAMETER_VALUE, UNDEFINED_FILE, HartError, quoted
from .files import changed, exists, identity, native, open_regular, read_at, read_exactly, read_small
from .jsonfile import parse_object

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_INDEX = 100 << 20
MAX_HEADER = 100 << 20  # the reference reader's limit too


@dataclass(frozen=True)
class Tensor:
    """One tensor: where it lies in its file."""

    name: str
    dtype: str
    shape: tuple
    file: str
    offset: int  # from the start of the file
    size: int  # bytes

    @property
    def elements(self):
        count = 1
        for extent in self.shape:
            count *= extent
        return count


@dataclass
class Shard:
    """One safetensors file."""

    name: str
    path: str
    size: int
    header: bytes  # everything before the first tensor
    identity: tuple
    tensors: list = field(default_factory=list)  # in file order


def read_checkpoint(directory):
    """The shards of a checkpoint, sorted by name, each with its tensors."""
    single, index = os.path.join(directory, SINGLE), os.path.join(directory, INDEX)
    if exists(single):
        return [read_shard(directory, SINGLE)]
    if not exists(index):
        raise HartError(
            f"{quoted(directory, 1000)} holds neither {SINGLE} nor {INDEX}",
            UNDEFINED_FILE,
            hint="Only checkpoints in the safetensors format can be read.",
        )
    weight_map = read_index(index)
    shards = [read_shard(directory, name) for name in sorted(set(weight_map.values()))]
    check_index(weight_map, shards)
    return shards


def read_index(path):
    """Tensor name → file name of a sharded checkpoint."""
    weight_map = parse_object(read_small(path, MAX_INDEX), INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise HartError(f'{INDEX} lacks its "weight_map"', BAD_FILE_FORMAT, hint="Download or save the model again.")
    for tensor, name in weight_map.items():
        # A name with a path in it could lead out of the directory.
        plain = isinstance(name, str) and name.endswith(".safetensors") and name == os.path.basename(name)
        if not plain or not name.isprintable() or "\\" in name:
            raise HartError(
                f"{INDEX} puts tensor {quoted(tensor)} in a file that is not allowed: {quoted(name)}",
                BAD_FILE_FORMAT,
                hint="Shards are files of the same directory with names that end in .safetensors.",
            )
    return weight_map


def check_index(weight_map, shards):
    """Each tensor is in exactly the file that the index names."""
    found = {}
    for shard in shards:
        for tensor in shard.tensors:
            if tensor.name in found:
                raise HartError(
                    f"tensor {quoted(tensor.name)} is in {quoted(found[tensor.name])} and in {quoted(shard.name)}",
                    INVALID_PARAMETER_VALUE,
                    hint="Download or save the model again.",
                )
            found[tensor.name] = shard.name
    for name in sorted(set(weight_map) | set(found)):
        if weight_map.get(name) != found.get(name):
            raise HartError(
                f"{INDEX} and the shards disagree about tensor {quoted(name)}",
                INVALID_PARAMETER_VALUE,
                detail=f"By the index it is in {place(weight_map.get(name))}; it was found in {place(found.get(name))}.",
                hint="Download or save the model again.",
            )


def place(name):
    return "no file" if name is None else quoted(name)


def read_shard(directory, name):
    """Validate one file and locate its tensors."""
    path = os.path.join(directory, name)
    with open_regular(path) as file:
        before = identity(file)
        header = read_header(file, path, name)
        validate(path, name)
        if identity(file) != before:
            raise changed(path)
    shard = Shard(name, path, before[2], header, before)
    shard.tensors = locate(shard)
    return shard


def read_header(file, path, name):
    """The length, 8 bytes, and the JSON after it."""
    size = os.fstat(file.fileno()).st_size
    if size < 8:
        raise malformed(name, f"It has {size} bytes, and a header alone has more than 8.")
    prefix = read_exactly(file, 8, path)
    (length,) = struct.unpack("<Q", prefix)
    if length > MAX_HEADER or 8 + length > size:
        raise malformed(name, f"Its header claims {length} bytes, and the file has {size}.")
    return prefix + read_exactly(file, length, path)


def validate(path, name):
    """Let the reference reader judge the file."""
    try:
        with safetensors.safe_open(native(path), framework="numpy"):
            pass
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise malformed(name, f"{error}.") from None


def malformed(name, detail):
    return HartError(
        f"{name} is not a valid safetensors file",
        BAD_FILE_FORMAT,
        detail=detail,
        hint="Download or save the model again; an interrupted download is a common cause.",
    )


def locate(shard):
    """The tensors in file order. The reference reader has checked that they fill the file without a gap."""
    tensors = []
    for name, entry in parse_object(shard.header[8:], shard.name).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            offset = len(shard.header) + begin
            tensors.append(Tensor(name, entry["dtype"], tuple(entry["shape"]), shard.name, offset, end - begin))
    tensors.sort(key=lambda tensor: (tensor.offset, tensor.size, tensor.name))
    position = len(shard.header)
    for tensor in tensors:
        if tensor.offset != position:
            raise malformed(shard.name, f"Tensor {quoted(tensor.name)} does not start where the one before it ends.")
        position += tensor.size
    if position != shard.size:
        raise malformed(shard.name, "Its tensors do not fill it.")
    return tensors


class ShardReader:
    """Read a shard once, from start to end, hashing it on the way."""

    def __init__(self, shard):
        self.shard = shard
        self.file = open_regular(shard.path)
        self.hash = hashlib.sha256()
        try:
            if identity(self.file) != shard.identity or self.read(len(shard.header)) != shard.header:
                raise changed(shard.path)
        except BaseException:
            self.file.close()
            raise

    def read(self, size):
        data = read_exactly(self.file, size, self.shard.path)
        self.hash.update(data)
        return data

    def chunks(self, tensor, size):
        """A tensor's bytes in pieces of `size`, the last one shorter."""
        left = tensor.size
        while left > 0:
            data = self.read(min(size, left))
            left -= len(data)
            yield data

    def peek(self, tensor, size):
        """The same pieces ahead of time: neither the place in the file nor the hash moves on."""
        for at in range(0, tensor.size, size):
            yield read_at(self.file, tensor.offset + at, min(size, tensor.size - at), self.shard.path)

    def finish(self):
        """The SHA-256 of the whole file, which must not have changed meanwhile."""
        if identity(self.file) != self.shard.identity:
            raise changed(self.shard.path)
        return self.hash.digest()

    def close(self):
        self.file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
