"""Files on the server: opened once, read in pieces, with errors that carry an SQLSTATE."""

import errno
import os
import stat

from .errors import (
    DUPLICATE_FILE,
    INSUFFICIENT_PRIVILEGE,
    INVALID_PARAMETER_VALUE,
    IO_ERROR,
    NULL_VALUE_NOT_ALLOWED,
    PROGRAM_LIMIT_EXCEEDED,
    UNDEFINED_FILE,
    HartError,
    quoted,
)

SQLSTATES = {
    errno.ENOENT: UNDEFINED_FILE,
    errno.EACCES: INSUFFICIENT_PRIVILEGE,
    errno.EPERM: INSUFFICIENT_PRIVILEGE,
    errno.EROFS: INSUFFICIENT_PRIVILEGE,
    errno.EEXIST: DUPLICATE_FILE,
    errno.ENOSPC: "53100",
    errno.EDQUOT: "53100",
}


def system_error(action, path, error):
    """A HartError for an OSError."""
    if SQLSTATES.get(error.errno) == INSUFFICIENT_PRIVILEGE:
        hint = "The operating system user that runs the server needs access to it."
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "Make room on that file system, or name a directory on another."
    else:
        hint = "The path is one of the server's, as seen by the operating system user that runs it."
    return HartError(
        f"could not {action} {quoted(path, 1000)}: {os.strerror(error.errno) if error.errno else error}",
        SQLSTATES.get(error.errno, IO_ERROR),
        hint=hint,
    )


def resolve(path, base):
    """A path from SQL: relative ones start at `base` (or else at the server's working directory)."""
    if path is None:
        raise HartError("path must not be null", NULL_VALUE_NOT_ALLOWED, hint="Name a directory on the server.")
    if not path.strip():
        raise HartError("path must not be empty", INVALID_PARAMETER_VALUE, hint="Name a directory on the server.")
    return os.path.normpath(os.path.join(os.getcwd(), base or "", path))


def native(path):
    """A path as Python's file functions take it, whatever the server's locale: the bytes are UTF-8."""
    return os.fsdecode(path.encode("utf-8"))


def check_directory(path):
    """The path is a directory that can be listed."""
    try:
        if not stat.S_ISDIR(os.stat(native(path)).st_mode):
            raise HartError(
                f"{quoted(path, 1000)} is not a directory",
                IO_ERROR,
                hint="Name a directory, not a file in it.",
            )
        os.listdir(native(path))
    except OSError as error:
        raise system_error("read directory", path, error) from None


def exists(path):
    """Whether there is a file of that name, even one that cannot be read."""
    return os.path.lexists(native(path))


def open_regular(path):
    """Open a file for reading; refuse pipes, devices and directories, which could block or have no size."""
    try:
        descriptor = os.open(native(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise system_error("open file", path, error) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise HartError(
            f"{quoted(path, 1000)} is not a regular file", IO_ERROR, hint="Put the file itself in its place."
        )
    return os.fdopen(descriptor, "rb", buffering=0)


def read_small(path, limit):
    """The whole of a file that must not be larger than `limit` bytes."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise HartError(
                f"{quoted(path, 1000)} has {size} bytes, above the limit of {limit}",
                PROGRAM_LIMIT_EXCEEDED,
                hint="Check that the file belongs to this model.",
            )
        return read_exactly(file, size, path)


def read_exactly(file, size, path):
    """The next `size` bytes of a file."""
    pieces = []
    while size > 0:
        try:
            piece = file.read(size)
        except OSError as error:
            raise system_error("read file", path, error) from None
        if not piece:
            raise changed(path)
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def read_at(file, offset, size, path):
    """`size` bytes of a file from an offset on; its position stays."""
    pieces = []
    while size > 0:
        try:
            piece = os.pread(file.fileno(), size, offset)
        except OSError as error:
            raise system_error("read file", path, error) from None
        if not piece:
            raise changed(path)
        pieces.append(piece)
        offset += len(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def identity(file):
    """What changes when a file is replaced or written to."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def changed(path):
    """The error for a file that is no longer what it was."""
    return HartError(
        f"{quoted(path, 1000)} changed while it was being read",
        IO_ERROR,
        hint="Wait until nothing writes to it, then try again.",
    )
