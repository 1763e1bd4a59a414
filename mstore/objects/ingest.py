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

WINDOW = 16
"""Chunks that are read, hashed and looked up together: at most 16 MiB in memory at a time."""

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
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="mstore-digest") as pool:
        files = [_take(source, writer, known, progress, pool) for source in sources]
    return Manifest(tuple(sorted(files, key=lambda file: file.path)))


def _take(
    source: Source,
    writer: PackWriter | None,
    known: Known,
    progress: Progress,
    pool: ThreadPoolExecutor,
) -> ManifestFile:
    sha256 = hashlib.sha256()
    ranges = cut(source.size, source.tensors)
    pieces: list[Piece] = []
    pending: Future[None] | None = None
    for at in range(0, len(ranges), WINDOW):
        window = [(o, _read(source, o, n)) for o, n in ranges[at : at + WINDOW]]
        # SHA-256 and CRC32C need the bytes in order; they run beside BLAKE3 and writing.
        earlier, pending = pending, pool.submit(_digest, sha256, source.watch, window)
        pieces += _keep([data for _, data in window], writer, known)
        if earlier is not None:
            earlier.result()
        progress.advance(sum(len(data) for _, data in window))
    if pending is not None:
        pending.result()
    return ManifestFile(source.path, source.size, sha256.hexdigest(), tuple(pieces))


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


def _digest(sha256: "hashlib._Hash", watch: Watch | None, window: list[tuple[int, bytes]]) -> None:
    for offset, data in window:
        sha256.update(data)
        if watch is not None:
            watch(offset, data)


def _keep(window: list[bytes], writer: PackWriter | None, known: Known) -> list[Piece]:
    ids = [object_id(data) for data in window]
    if writer is not None:
        present = known(ids)
        for key, data in zip(ids, window, strict=True):
            if key not in present:
                writer.add(CHUNK, data, id_=key)
    return [Piece(key, 0, len(data)) for key, data in zip(ids, window, strict=True)]
