"""Bytes of an open file, read where they are looked at.

A file of the V1 format may be larger than memory, and what is looked at in it are only the few
bytes around each tensor. A view is used like a ``memoryview`` over the whole file.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, overload

from mstore.disk import os_errors
from mstore.formats.files import damaged, open_regular

_PAGE = 1 << 16
_PIECE = 1 << 20


class _Pages:
    """An open file and the piece of it that was read last."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        self.path = path
        self._file = file
        self._start = 0
        self._page = b""

    def read(self, start: int, size: int) -> bytes:
        pieces = []
        with os_errors(f"cannot read {self.path}"):
            while size and (piece := os.pread(self._file.fileno(), size, start)):
                pieces.append(piece)
                start += len(piece)
                size -= len(piece)
        if size:
            raise damaged(self.path, "it was cut short while it was read")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def byte(self, at: int, end: int) -> int:
        if not self._start <= at < self._start + len(self._page):
            self._page = self.read(at, min(_PAGE, end - at))
            self._start = at
        return self._page[at - self._start]


class FileView:
    """A range of a file. ``bytes(view)`` reads it whole: only for ranges known to be short."""

    __slots__ = ("_end", "_pages", "start")

    def __init__(self, file: BinaryIO, path: str) -> None:
        """View the whole of a file that stays open.

        Args:
            file: open for reading, with a descriptor.
            path: what to call it in errors.
        """
        self._pages = _Pages(file, path)
        self.start = 0
        self._end = os.fstat(file.fileno()).st_size

    def __len__(self) -> int:
        """Return the number of bytes."""
        return self._end - self.start

    @overload
    def __getitem__(self, key: int) -> int: ...

    @overload
    def __getitem__(self, key: slice) -> "FileView": ...

    def __getitem__(self, key: "int | slice") -> "int | FileView":
        """Return one byte, or a view of a range.

        Raises:
            DamagedFileError: the file has become shorter.
            SystemIOError: the operating system refused.
        """
        if isinstance(key, int):
            if not 0 <= key < len(self):
                raise IndexError(key)
            return self._pages.byte(self.start + key, self._end)
        start, stop, _ = key.indices(len(self))
        part = object.__new__(FileView)
        part._pages = self._pages
        part.start = self.start + start
        part._end = self.start + max(start, stop)
        return part

    def __bytes__(self) -> bytes:
        """Return all bytes of the view.

        Raises:
            DamagedFileError: the file has become shorter.
            SystemIOError: the operating system refused.
        """
        return self._pages.read(self.start, len(self))

    def pieces(self) -> Iterator[bytes]:
        """Iterate over the bytes in pieces of bounded length."""
        for start in range(0, len(self), _PIECE):
            yield bytes(self[start : start + _PIECE])


@contextmanager
def open_view(path: Path) -> Iterator[FileView]:
    """Open a regular file and view the whole of it.

    Raises:
        InputError: there is no such file, or it is not a regular one.
        SystemIOError: the operating system refused.
    """
    with open_regular(path) as file:
        yield FileView(file, str(path))
