"""Take files into a pack: read once, cut, hash, and keep what the store does not have yet.

SHA-256 of a whole file needs its bytes in order and is the slowest part by far, so it has a thread
of its own and never waits for the others: reading, BLAKE3, CRC32C, the catalog and writing.
"""

import hashlib
import mmap
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from mstore.domain.progress import Progress
from mstore.errors import InputError
from mstore.objects.chunking import CHUNK_SIZE, cut
from mstore.objects.manifest import Manifest, ManifestFile, Piece
from mstore.objects.packs import CHUNK, PackWriter, object_id

BLOCK = CHUNK_SIZE
"""Most bytes that are read at once; while they are hashed they stay in the cache of one core."""

WINDOW = 8
"""Blocks that share one question to the catalog and one write."""

SLOTS = 12
"""Blocks of large files in memory at most: a window, and those whose SHA-256 lags behind."""

Known = Callable[[Sequence[bytes]], set[bytes]]
"""Which of these object ids the store has already."""

Watch = Callable[[int, memoryview], None]
"""Is shown the bytes of a file in order, with their offset, before the file counts as taken.

The memory is used again after the call.
"""


@dataclass(frozen=True, slots=True)
class Source:
    """An open file to take in.

    Attributes:
        path: its path in the manifest.
        descriptor: open for reading.
        size: its length in bytes.
        tensors: offset and length of each tensor in it, where that is known.
        watch: is shown the bytes as they are read.
    """

    path: str
    descriptor: int
    size: int
    tensors: Sequence[tuple[int, int]] = ()
    watch: Watch | None = None


def ingest(
    sources: Iterable[Source], writer: PackWriter | None, known: Known, progress: Progress
) -> Manifest:
    """Take the files in, in order.

    Args:
        sources: the files.
        writer: where new chunks go; None only computes the manifest.
        known: asks the store which chunks it has.
        progress: hears of each byte read.

    Returns:
        The manifest of the files, ordered by path.

    Raises:
        InputError: a file became shorter while it was read.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="mstore-sha256") as beside:
        intake = _Intake(writer, known, progress, beside)
        taken = [intake.take(source) for source in sources]
        intake.finish()
        files = [file.finish() for file in taken]
    return Manifest(tuple(sorted(files, key=lambda file: file.path)))


@dataclass(frozen=True, slots=True)
class _Taken:
    """A file whose bytes have been seen; its SHA-256 may still be on the way."""

    source: Source
    pieces: list[Piece]
    sha256: Future[str]

    def finish(self) -> ManifestFile:
        pieces = tuple(self.pieces)
        return ManifestFile(self.source.path, self.source.size, self.sha256.result(), pieces)


class _Ring:
    """Buffers of one block each that are used in turn, so that they stay in the cache."""

    def __init__(self, beside: ThreadPoolExecutor) -> None:
        self._beside = beside
        # Huge pages save thousands of page faults.
        memory = mmap.mmap(-1, SLOTS * BLOCK)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):  # a kernel without them
                memory.madvise(mmap.MADV_HUGEPAGE)
        view = memoryview(memory)
        self._slots = [view[at : at + BLOCK] for at in range(0, len(view), BLOCK)]
        self._digests: deque[Future[None]] = deque()
        self._next = 0

    def take(self, length: int) -> memoryview:
        """Return the next buffer, cut to ``length``, when its last content has its SHA-256."""
        if len(self._digests) == SLOTS:
            self._digests.popleft().result()
        slot = self._slots[self._next]
        self._next = (self._next + 1) % SLOTS
        return slot[:length]

    def digest(self, sha256: "hashlib._Hash", data: memoryview) -> None:
        """Let the other thread add the buffer that was taken last to a SHA-256."""
        self._digests.append(self._beside.submit(sha256.update, data))

    def settle(self) -> None:
        """Wait for the other thread, and raise what it met."""
        while self._digests:
            self._digests.popleft().result()


class _Intake:
    """Takes files block by block, and keeps what is new when a window of blocks is full."""

    def __init__(
        self,
        writer: PackWriter | None,
        known: Known,
        progress: Progress,
        beside: ThreadPoolExecutor,
    ) -> None:
        self._writer = writer
        self._known = known
        self._progress = progress
        self._beside = beside
        self._ring: _Ring | None = None
        self._window: list[tuple[bytes, memoryview]] = []
        self._blocks = 0
        # The first windows are short, so that the disk has something to do early on.
        self._enough = 2

    def take(self, source: Source) -> _Taken:
        """Take one file, but for the end of its SHA-256."""
        if source.size <= BLOCK:
            return self._take_small(source)
        ring = self._ring = self._ring or _Ring(self._beside)
        sha256 = hashlib.sha256()
        pieces: list[Piece] = []
        for block in _blocks(cut(source.size, source.tensors)):
            start, length = block[0][0], sum(size for _, size in block)
            data = ring.take(length)
            _fill(source, start, data)
            ring.digest(sha256, data)
            pieces += self._pieces(source, block, data)
        return _Taken(source, pieces, self._beside.submit(sha256.hexdigest))

    def _take_small(self, source: Source) -> _Taken:
        """Take a file of one block, for which a thread costs more than it saves."""
        data = memoryview(bytearray(source.size))
        _fill(source, 0, data)
        sha256: Future[str] = Future()
        sha256.set_result(hashlib.sha256(data).hexdigest())
        block = cut(source.size, source.tensors)
        return _Taken(source, self._pieces(source, block, data) if block else [], sha256)

    def _pieces(
        self, source: Source, block: Sequence[tuple[int, int]], data: memoryview
    ) -> list[Piece]:
        start = block[0][0]
        if source.watch is not None:
            source.watch(start, data)
        pieces = []
        for offset, size in block:
            chunk = data[offset - start : offset - start + size]
            key = object_id(chunk)
            pieces.append(Piece(key, 0, size))
            self._window.append((key, chunk))
        self._blocks += 1
        if self._blocks >= self._enough:
            self._enough = min(2 * self._enough, WINDOW)
            self._flush()
        self._progress.advance(len(data))
        return pieces

    def finish(self) -> None:
        """Write what is left; afterwards all bytes have their SHA-256."""
        self._flush()
        if self._ring is not None:
            self._ring.settle()

    def _flush(self) -> None:
        """Write those chunks of the window that are new."""
        if self._writer is not None and self._window:
            present = self._known([key for key, _ in self._window])
            self._writer.add_all(CHUNK, (pair for pair in self._window if pair[0] not in present))
        self._window.clear()
        self._blocks = 0


def _blocks(ranges: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Put neighbouring chunks together as far as a buffer holds them."""
    block: list[tuple[int, int]] = []
    room = BLOCK
    for offset, length in ranges:
        if block and length > room:
            yield block
            block, room = [], BLOCK
        block.append((offset, length))
        room -= length
    if block:
        yield block


def _fill(source: Source, offset: int, into: memoryview) -> None:
    while into:
        count = os.preadv(source.descriptor, [into], offset)
        if not count:
            raise InputError(
                f"{source.path} became shorter while it was being read",
                hint="add the checkpoint again when nothing writes to it any more",
            )
        into = into[count:]
        offset += count
