"""Take files into a pack: read once, cut, hash, and keep what the store does not have yet."""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from mstore.domain.progress import Progress
from mstore.errors import InputError
from mstore.objects.chunking import cut
from mstore.objects.manifest import Manifest, ManifestFile, Piece
from mstore.objects.packs import CHUNK, PackWriter, object_id

WINDOW = 8
"""Chunks that are read, hashed and looked up together; four such windows are in memory at most."""

Known = Callable[[Sequence[bytes]], set[bytes]]
"""Which of these object ids the store has already."""

Watch = Callable[[int, bytes], None]
"""Is shown every chunk of a file in order, with its offset, before the file counts as taken."""


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
    with (
        ThreadPoolExecutor(max_workers=1, thread_name_prefix="mstore-read") as ahead,
        ThreadPoolExecutor(max_workers=1, thread_name_prefix="mstore-digest") as beside,
    ):
        files = [_take(source, writer, known, progress, ahead, beside) for source in sources]
    return Manifest(tuple(sorted(files, key=lambda file: file.path)))


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A chunk in memory: where it stands in its file, its bytes, its id."""

    offset: int
    data: bytes
    id: bytes


def _take(
    source: Source,
    writer: PackWriter | None,
    known: Known,
    progress: Progress,
    ahead: ThreadPoolExecutor,
    beside: ThreadPoolExecutor,
) -> ManifestFile:
    """Take one file: while a window is written, the next is read and hashed.

    SHA-256 and CRC32C need the bytes in order; they run beside both.
    """
    sha256 = hashlib.sha256()
    ranges = cut(source.size, source.tensors)
    windows = [ranges[at : at + WINDOW] for at in range(0, len(ranges), WINDOW)]
    pieces: list[Piece] = []
    pending: Future[None] | None = None
    coming = ahead.submit(_load, source, windows[0]) if windows else None
    for number in range(len(windows)):
        assert coming is not None  # noqa: S101 - there is one for each window
        window = coming.result()
        if number + 1 < len(windows):
            coming = ahead.submit(_load, source, windows[number + 1])
        earlier, pending = pending, beside.submit(_digest, sha256, source.watch, window)
        if writer is not None:
            _keep(window, writer, known)
        pieces += [Piece(chunk.id, 0, len(chunk.data)) for chunk in window]
        if earlier is not None:
            earlier.result()
        progress.advance(sum(len(chunk.data) for chunk in window))
    if pending is not None:
        pending.result()
    return ManifestFile(source.path, source.size, sha256.hexdigest(), tuple(pieces))


def _load(source: Source, ranges: Sequence[tuple[int, int]]) -> list[_Chunk]:
    chunks = []
    for offset, length in ranges:
        data = _read(source, offset, length)
        chunks.append(_Chunk(offset, data, object_id(data)))
    return chunks


def _read(source: Source, offset: int, length: int) -> bytes:
    data = os.pread(source.descriptor, length, offset)
    while len(data) < length:
        more = os.pread(source.descriptor, length - len(data), offset + len(data))
        if not more:
            raise InputError(
                f"{source.path} became shorter while it was being read",
                hint="add the checkpoint again when nothing writes to it any more",
            )
        data += more
    return data


def _digest(sha256: "hashlib._Hash", watch: Watch | None, window: list[_Chunk]) -> None:
    for chunk in window:
        sha256.update(chunk.data)
        if watch is not None:
            watch(chunk.offset, chunk.data)


def _keep(window: list[_Chunk], writer: PackWriter, known: Known) -> None:
    present = known([chunk.id for chunk in window])
    for chunk in window:
        if chunk.id not in present:
            writer.add(CHUNK, chunk.data, id_=chunk.id)
