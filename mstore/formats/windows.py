"""Looks at a file of any size as at a ``memoryview``, with little of it in memory at a time.

A file is read and not mapped: a mapped file that somebody cuts short meanwhile kills the process.
"""

import os
from pathlib import Path
from typing import BinaryIO, overload

from mstore.disk import os_errors
from mstore.formats.files import damaged, open_regular

_PAGE = 1 << 18


class WindowedFile:
    """An open file of which one page is kept in memory; a context manager.

    Raises:
        InputError: there is no such file, or it is not a regular one.
        SystemIOError: the operating system refused.
    """

    def __init__(self, path: Path) -> None:
        """Open the file at ``path`` for reading."""
        self.path = str(path)
        self._file: BinaryIO = open_regular(path)
        self.size = os.fstat(self._file.fileno()).st_size
        self._start = 0
        self._page = b""

    def __enter__(self) -> "WindowedFile":
        """Return the file itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    def window(self) -> "Window":
        """Return the whole file."""
        return Window(self, 0, self.size)

    def byte(self, position: int) -> int:
        """Return one byte."""
        offset = position - self._start
        if not 0 <= offset < len(self._page):
            self._turn(position)
            offset = 0
        return self._page[offset]

    def read(self, start: int, size: int) -> bytes:
        """Return ``size`` bytes from ``start`` on.

        Raises:
            DamagedFileError: the file has become shorter.
        """
        if size > _PAGE:
            return self._pread(start, size)
        offset = start - self._start
        if not 0 <= offset <= len(self._page) - size:
            if size:
                self._turn(start)
            offset = 0
        piece = self._page[offset : offset + size]
        if len(piece) < size:
            raise damaged(self.path, "it became shorter while it was read")
        return piece

    def _turn(self, position: int) -> None:
        self._page = self._pread(position, min(_PAGE, max(self.size - position, 1)))
        self._start = position

    def _pread(self, start: int, size: int) -> bytes:
        pieces, left = [], size
        with os_errors(f"cannot read {self.path}"):
            while left and (piece := os.pread(self._file.fileno(), left, start + size - left)):
                pieces.append(piece)
                left -= len(piece)
        if left:
            raise damaged(self.path, "it became shorter while it was read")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Window:
    """A part of a `WindowedFile`: has a length, bytes by index, and parts by slice.

    Attributes:
        start: where in the file it begins, in bytes.
        end: where it ends.
    """

    __slots__ = ("_file", "end", "start")

    def __init__(self, file: WindowedFile, start: int, end: int) -> None:
        """Look at the bytes of ``file`` from ``start`` up to ``end``."""
        self._file = file
        self.start = start
        self.end = end

    def __len__(self) -> int:
        """Return the number of bytes."""
        return self.end - self.start

    @overload
    def __getitem__(self, key: int) -> int: ...

    @overload
    def __getitem__(self, key: slice) -> "Window": ...

    def __getitem__(self, key: "int | slice") -> "int | Window":
        """Return a byte, or the window of a slice without a step; nothing is read for it."""
        if isinstance(key, int):
            return self._file.byte(self.start + key)
        start, stop, _ = key.indices(len(self))
        return Window(self._file, self.start + start, self.start + max(start, stop))

    def load(self) -> memoryview:
        """Return the bytes themselves; the caller has looked at the length."""
        return memoryview(self._file.read(self.start, len(self)))
