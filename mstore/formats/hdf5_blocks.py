"""Reads datasets of an HDF5 file in blocks; only `mstore.formats.hdf5_child` uses it."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from h5py import h5d, h5s

MAX_CHUNK = 16 << 20
"""Bytes of a chunk of a dataset; the cache holds one, unpacking takes one or two more."""

_BLOCK = 4 << 20

Block = tuple[tuple[int, ...], tuple[int, ...]]
"""Where a block of a dataset starts, and its shape."""


def blocks(item: h5d.DatasetID) -> Iterator[Block]:
    """Yield the blocks that cover a dataset in row-major order, of about 4 MiB or less."""
    creation = item.get_create_plist()
    chunked = creation.get_layout() == h5d.CHUNKED
    chunk = creation.get_chunk() if chunked else (1,) * len(item.shape)
    return cover(item.shape, chunk, item.dtype.itemsize)


def cover(shape: tuple[int, ...], chunk: tuple[int, ...], itemsize: int) -> Iterator[Block]:
    """Yield blocks that cover ``shape`` in row-major order, along whole chunks where they fit.

    >>> list(cover((5, 2), (2, 2), 1 << 19))
    [((0, 0), (4, 2)), ((4, 0), (1, 2))]
    """
    if not shape or not math.prod(shape):
        if not shape:
            yield (), ()
        return
    axis, row = 0, math.prod(shape[1:]) * itemsize
    while axis < len(shape) - 1 and row * min(chunk[axis], shape[axis]) > _BLOCK:
        axis += 1
        row //= shape[axis]
    step = max(1, _BLOCK // row)
    if step > chunk[axis]:
        step -= step % chunk[axis]
    rest = len(shape) - axis - 1
    for before in itertools.product(*map(range, shape[:axis])):
        for at in range(0, shape[axis], step):
            count = (1,) * axis + (min(step, shape[axis] - at), *shape[axis + 1 :])
            yield (*before, at, *(0,) * rest), count


def read_block(item: h5d.DatasetID, start: tuple[int, ...], count: tuple[int, ...]) -> bytes:
    """Return the bytes of a block, little-endian and in row-major order."""
    array: Any = np.empty(count, item.dtype.newbyteorder("<"))
    if count:
        there = item.get_space()
        there.select_hyperslab(start, count)
        item.read(h5s.create_simple(count), there, array)
    else:
        item.read(h5s.ALL, h5s.ALL, array)
    return bytes(array.tobytes())
