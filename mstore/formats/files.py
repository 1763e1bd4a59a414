"""Reading whole files with a limit, and the words for damage."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from mstore.disk import os_errors
from mstore.domain.tensors import Tensor
from mstore.errors import DamagedFileError, InputError

COPY_AGAIN = "copy it again from where it was written, or use another checkpoint"
"""What to do about a damaged file."""

_LONGEST = 200


def damaged(path: str, what: str, *, hint: str = COPY_AGAIN) -> DamagedFileError:
    """Return the error that says the file at ``path`` is damaged, and how."""
    return DamagedFileError(f"{path} is damaged: {what}", path=path, hint=hint)


def label(tensor: Tensor) -> str:
    """Return a tensor's name for a message: printable and of bounded length."""
    name = tensor.name
    if len(name) > _LONGEST:
        name = f"{name[:_LONGEST]}..."
    return name if name.isprintable() else ascii(name)[1:-1]


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        InputError: there is no such file, or it is a directory, a pipe or a device.
        SystemIOError: the operating system refused.
    """
    with os_errors(f"cannot read {path}"):
        try:
            # Without O_NONBLOCK, opening a pipe that nobody writes to would hang.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(f"there is no file {path}", hint="check the path") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise InputError(f"{path} is not a regular file", hint="give the path of a file")
        return os.fdopen(descriptor, "rb", buffering=0)


def read_limited(path: Path, limit: int) -> bytes:
    """Return the contents of a file of at most ``limit`` bytes.

    Raises:
        InputError: there is no such file, or it is not a regular one.
        DamagedFileError: it is larger than any sound file of its kind.
        SystemIOError: the operating system refused.
    """
    with open_regular(path) as file, os_errors(f"cannot read {path}"):
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise damaged(str(path), f"{size} bytes are more than the {limit} such a file may have")
        return read_up_to(file, size)


def read_up_to(file: BinaryIO, size: int) -> bytes:
    """Return the next ``size`` bytes of an unbuffered file, fewer if it ends before."""
    pieces = []
    while size and (piece := file.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
