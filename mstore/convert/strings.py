"""Arrays of byte strings as plain arrays, so that no pickle travels between the processes."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_WORD = 8


def pack(array: Array) -> Array:
    """Return byte strings of any length and content as one row of bytes.

    Rank, lengths of the dimensions, lengths of the strings (64-bit integers), then the strings.
    """
    texts = [item if isinstance(item, bytes) else str(item).encode() for item in array.ravel()]
    numbers = [array.ndim, *array.shape, *(len(text) for text in texts)]
    return np.frombuffer(np.array(numbers, np.int64).tobytes() + b"".join(texts), np.uint8)


def unpack(packed: Array) -> Array:
    """Return what ``pack`` packed, as an array of ``bytes`` objects."""
    raw = packed.tobytes()
    rank = int(np.frombuffer(raw, np.int64, 1)[0])
    shape = np.frombuffer(raw, np.int64, rank, _WORD).tolist()
    count = int(np.prod(shape, dtype=np.int64))
    lengths = np.frombuffer(raw, np.int64, count, _WORD * (1 + rank)).tolist()
    position = _WORD * (1 + rank + count)
    texts: Array = np.empty(count, object)
    for index, length in enumerate(lengths):
        texts[index] = raw[position : position + length]
        position += length
    shaped: Array = texts.reshape(shape)
    return shaped
