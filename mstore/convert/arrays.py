"""Named arrays in files without pickle, and how far two sets of them are apart."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Nested = Mapping[str, Mapping[str, Array]]
_INDEX = "index"
_WORD = 8
_BY_VALUE = "fc"


def write(path: Path, nested: Nested) -> None:
    """Write arrays by name and key; arrays of strings or ``bytes`` objects too."""
    with path.open("wb") as file:
        write_to(file, nested)


def write_to(file: IO[bytes], nested: Nested) -> None:
    """Write arrays into an open file; see `write`."""
    index: dict[str, dict[str, str]] = {}
    arrays: dict[str, Array] = {}
    for name, group in nested.items():
        index[name] = {}
        for key, value in group.items():
            array = np.asarray(value)
            kind = array.dtype.kind
            # Types that numpy only knows by extension (bfloat16) are stored as their bits.
            mark = "s" if kind in "OSU" else "v" if kind == "V" else "n"
            slot = index[name][key] = f"{mark}{len(arrays)}"
            arrays[slot] = {"s": _packed, "v": _bits, "n": _same}[mark](array)
    arrays[_INDEX] = np.frombuffer(json.dumps(index).encode(), np.uint8)
    np.savez(file, **arrays)  # type: ignore[arg-type]  # taken for allow_pickle


def read(path: Path) -> dict[str, dict[str, Array]]:
    """Return what ``write`` wrote; strings as ``bytes`` objects, unknown types as their bits."""
    with path.open("rb") as file:
        return read_from(file)


def read_from(file: IO[bytes]) -> dict[str, dict[str, Array]]:
    """Return what ``write_to`` wrote; see `read`."""
    with np.load(file, allow_pickle=False) as stored:
        index = json.loads(stored[_INDEX].tobytes())
        return {
            name: {
                key: _unpacked(stored[slot]) if slot.startswith("s") else stored[slot]
                for key, slot in group.items()
            }
            for name, group in index.items()
        }


def _same(array: Array) -> Array:
    return array


def _bits(array: Array) -> Array:
    return array.view(f"u{array.dtype.itemsize}")


def _packed(array: Array) -> Array:
    """Return strings of any length and content as one row of bytes.

    Rank, lengths of the dimensions, lengths of the strings (64-bit integers), then the strings.
    """
    texts = [item if isinstance(item, bytes) else str(item).encode() for item in array.ravel()]
    numbers = [array.ndim, *array.shape, *(len(text) for text in texts)]
    return np.frombuffer(np.array(numbers, np.int64).tobytes() + b"".join(texts), np.uint8)


def _unpacked(packed: Array) -> Array:
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


def difference(expected: Mapping[str, Array], got: Mapping[str, Array], tolerance: float) -> str:
    """Return in words how the outputs differ, the empty string if they do not.

    Args:
        expected: what should have come out, by key.
        got: what came out.
        tolerance: allowed for floating-point numbers, relative to the largest one expected where
            that is above 1.
    """
    for key, value in expected.items():
        other = got[key]
        if value.shape != other.shape:
            return f"its output {key!r} has the shape {list(other.shape)}, not {list(value.shape)}"
        if value.dtype.kind not in _BY_VALUE:
            if value.tolist() != other.tolist():
                return f"its output {key!r} has other values"
            continue
        first, second = value.astype(np.complex128), other.astype(np.complex128)
        scale = max(1.0, float(np.abs(first[np.isfinite(first)]).max(initial=0.0)))
        if not np.allclose(second, first, rtol=0, atol=tolerance * scale, equal_nan=True):
            worst = float(np.nanmax(np.abs(second - first)))
            return f"its output {key!r} differs by up to {worst:.3g}"
    return ""
