"""Parts of open files as files of their own: a member of an archive is read where it stands."""

import io
import os
from dataclasses import dataclass

from mstore.formats.files import damaged


@dataclass(frozen=True, slots=True)
class Window:
    """A range of bytes of an open file.

    Reading leaves the descriptor's own position alone, so that several readers can share it.

    Attributes:
        descriptor: the file, open for reading.
        start: where the range starts, in bytes.
        size: how many bytes it has.
        path: the file, for messages.
    """

    descriptor: int
    start: int
    size: int
    path: str

    @classmethod
    def whole(cls, descriptor: int, path: str) -> "Window":
        """Return the window that shows all of an open file."""
        return cls(descriptor, 0, os.fstat(descriptor).st_size, path)

    def part(self, start: int, size: int) -> "Window":
        """Return the window on ``size`` bytes that begin at byte ``start`` of this one.

        Raises:
            DamagedFileError: they are not within this one.
        """
        if start < 0 or size < 0 or start + size > self.size:
            raise damaged(self.path, f"{size} bytes at {start} lie beyond its end: cut short")
        return Window(self.descriptor, self.start + start, size, self.path)

    def read(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes from ``offset``; fewer only at the end of the window."""
        size = max(0, min(size, self.size - offset))
        pieces = []
        while size and (piece := os.pread(self.descriptor, size, self.start + offset)):
            pieces.append(piece)
            size -= len(piece)
            offset += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class WindowFile(io.RawIOBase):
    """A window as a file object that can be read and moved in.

    Args:
        window: what it shows.
        longest: most bytes that one call may ask for; more raise `DamagedFileError`, because a
            length in a hostile file says so.
    """

    def __init__(self, window: Window, longest: int) -> None:
        """Open the window at its start."""
        super().__init__()
        self._window = window
        self._longest = longest
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in the window."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position, relative to the start, the position or the end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._window.size}
        position = base[whence] + offset
        if position < 0:
            raise OSError("a position before the start of the file")
        self._position = position
        return position

    def read(self, size: int = -1) -> bytes:
        """Return the next ``size`` bytes, all that are left by default."""
        left = max(0, self._window.size - self._position)
        wanted = left if size < 0 else min(size, left)
        if wanted > self._longest:
            raise damaged(self._window.path, f"it wants {wanted} bytes to be read at once")
        data = self._window.read(self._position, wanted)
        self._position += len(data)
        return data

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        """Fill ``buffer`` and return how many bytes there were."""
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view):
            data = self._window.read(self._position, min(len(view) - done, 1 << 20))
            if not data:
                break
            view[done : done + len(data)] = data
            done += len(data)
            self._position += len(data)
        return done
