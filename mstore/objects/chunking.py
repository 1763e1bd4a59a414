"""Where files are cut into chunks: at the borders of tensors.

A large tensor starts a chunk of its own and is cut every `CHUNK_SIZE` bytes counted from its
start, so that the same tensor gives the same chunks wherever it stands in a file. Runs of small
tensors share a chunk. A border between two large tensors is always a border between two chunks.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator

CHUNK_SIZE = 1 << 20
"""Longest chunk, in bytes."""

SMALL = 1 << 16
"""Tensors shorter than this share chunks with their neighbours."""


def cut(size: int, tensors: Iterable[tuple[int, int]] = ()) -> list[tuple[int, int]]:
    """Cut a file of ``size`` bytes into chunks.

    Args:
        size: length of the file in bytes.
        tensors: offset and length in bytes of each tensor in it; they must not overlap. Bytes
            that belong to none are treated like small tensors.

    Returns:
        Offset and length of each chunk, in order, covering the file exactly.
    """
    return list(_cut(size, tensors))


def _cut(size: int, tensors: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    large = sorted((o, n) for o, n in tensors if n >= SMALL)
    ends = sorted(o + n for o, n in tensors if n < SMALL)
    position = 0
    for offset, length in large:
        yield from _run(position, offset, ends)
        yield from _even(offset, offset + length)
        position = offset + length
    yield from _run(position, size, ends)


def _even(start: int, end: int) -> Iterator[tuple[int, int]]:
    for offset in range(start, end, CHUNK_SIZE):
        yield offset, min(CHUNK_SIZE, end - offset)


def _run(start: int, end: int, borders: list[int]) -> Iterator[tuple[int, int]]:
    """Cut a run of small tensors into chunks that end with a tensor where one ends in reach."""
    while start < end:
        stop = min(start + CHUNK_SIZE, end)
        if stop < end:
            at = bisect_right(borders, stop)
            if at and borders[at - 1] > start:
                stop = borders[at - 1]
        yield start, stop - start
        start = stop
