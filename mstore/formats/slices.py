"""Keys of the slices of partitioned variables.

The slice of a variable is stored under a key that is not text: an ordered code of the number 0,
the variable's name, the rank, and start and length for each dimension
(``EncodeTensorNameSlice`` in tensorflow/core/util/saved_tensor_slice_util.cc, ``OrderedCode`` in
tensorflow/core/lib/strings/ordered_code.cc).
"""

import re
from collections.abc import Sequence

FULL = -1
"""Length that stands for the whole dimension."""

_SHORT = 64
_LIMIT = 1 << 63
_ESCAPED = re.compile(rb"\x00\xff|\xff\x00")
_NAME = re.compile(rb"\x00((?:[^\x00\xff]|\x00\xff|\xff\x00)*)\x00\x01", re.DOTALL)


def slice_key(name: bytes, extents: Sequence[tuple[int, int]]) -> bytes:
    r"""Return the key of one slice of the variable ``name``.

    Args:
        name: key of the variable.
        extents: start and length in each dimension; (0, `FULL`) for a whole one.

    >>> slice_key(b"v", [(0, 2)])
    b'\x00v\x00\x01\x01\x01\x80\x82'
    """
    parts = [_unsigned(0), _escape(name), _unsigned(len(extents))]
    for start, length in extents:
        parts += (_signed(start), _signed(length))
    return b"".join(parts)


def parse_slice_key(key: bytes) -> tuple[bytes, tuple[tuple[int, int], ...]] | None:
    r"""Return the variable and the extents of a key that `slice_key` made; None for any other.

    >>> parse_slice_key(b"\x00v\x00\x01\x01\x01\x80\x82")
    (b'v', ((0, 2),))
    """
    match = _NAME.match(key)
    if match is None:
        return None
    name = _ESCAPED.sub(lambda found: found[0][:1], match[1])
    rank_size = key[match.end() : match.end() + 1]
    numbers = _numbers(key[match.end() + 1 + int.from_bytes(rank_size, "big") :])
    if not all(abs(number) < _LIMIT for number in numbers):
        return None
    extents = tuple(zip(numbers[::2], numbers[1::2], strict=False))
    return (name, extents) if slice_key(name, extents) == key else None


def slice_label(name: str, extents: Sequence[tuple[int, int]]) -> str:
    """Return the name of a slice for people.

    >>> slice_label("v", [(0, 2), (0, FULL)])
    'v[0:2,:]'
    """
    parts = (":" if length == FULL else f"{start}:{start + length}" for start, length in extents)
    return f"{name}[{','.join(parts)}]"


def slice_shape(shape: Sequence[int], extents: Sequence[tuple[int, int]]) -> tuple[int, ...] | None:
    """Return the shape of a slice, None where it does not lie within ``shape``."""
    if len(shape) != len(extents):
        return None
    lengths = []
    for dimension, (start, length) in zip(shape, extents, strict=True):
        taken = dimension if (start, length) == (0, FULL) else length
        if start < 0 or taken < 0 or start + taken > dimension:
            return None
        lengths.append(taken)
    return tuple(lengths)


def slice_key_of(name: bytes, spec: str) -> bytes | None:
    r"""Return the key of what a restore op names, None where ``spec`` is no such notation.

    Args:
        name: key of the variable.
        spec: ``shape_and_slices`` as the ops take it: the shape of the whole, and start and
            length in each dimension or ``-``; empty for a whole variable.

    >>> slice_key_of(b"v", ""), slice_key_of(b"v", "4 0,4"), slice_key_of(b"v", "4 0,2")
    (b'v', b'v', b'\x00v\x00\x01\x01\x01\x80\x82')
    """
    if not spec:
        return name
    *sizes, places = spec.split(" ")
    extents = tuple(_extent(place) for place in places.split(":"))
    if not all(size.isdecimal() for size in sizes):
        return None
    shape = tuple(int(size) for size in sizes)
    taken = slice_shape(shape, extents)
    if taken is None:
        return None
    return name if taken == shape else slice_key(name, extents)


def _extent(place: str) -> tuple[int, int]:
    start, _, length = place.partition(",")
    if place == "-":
        return 0, FULL
    return (int(start), int(length)) if start.isdecimal() and length.isdecimal() else (-1, 0)


def _numbers(code: bytes) -> list[int]:
    """Decode signed numbers; what is not a sequence of such gives anything."""
    numbers = []
    while code:
        bits = f"{int.from_bytes(code[:2].ljust(2, bytes(1)), 'big'):016b}"
        size = len(bits) - len(bits.lstrip(bits[0]))
        header = ((1 << size) - 1) << (8 * size - size)
        raw = int.from_bytes(code[:size], "big") ^ header
        numbers.append(raw - (1 << 8 * size) if raw >> (8 * size - 1) else raw)
        code = code[size:]
    return numbers


def _escape(text: bytes) -> bytes:
    r"""Encode a string: ``\x00`` as ``\x00\xff``, ``\xff`` as ``\xff\x00``, end ``\x00\x01``."""
    return (
        b"".join({0x00: b"\x00\xff", 0xFF: b"\xff\x00"}.get(byte, bytes((byte,))) for byte in text)
        + b"\x00\x01"
    )


def _unsigned(value: int) -> bytes:
    """Encode a number of at least 0: how many bytes it has, then the bytes."""
    size = (value.bit_length() + 7) // 8
    return bytes((size,)) + value.to_bytes(size, "big")


def _signed(value: int) -> bytes:
    """Encode a number whose sign and length stand in the leading bits."""
    magnitude = ~value if value < 0 else value
    size = magnitude.bit_length() // 7 + 1
    if magnitude < _SHORT:
        return bytes((0x80 ^ (value & 0xFF),))
    code = bytearray(value.to_bytes(10, "big", signed=True)[-size:])
    # As many leading ones as there are bytes; with a sign bit of 1 they turn into zeros.
    header = ((1 << size) - 1) << (16 - size)
    code[0] ^= header >> 8
    code[1] ^= header & 0xFF
    return bytes(code)
