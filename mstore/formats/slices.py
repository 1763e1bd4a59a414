"""Keys of the slices of partitioned variables.

The slice of a variable is stored under a key that is not text: an ordered code of the number 0,
the variable's name, the rank, and start and length for each dimension
(``EncodeTensorNameSlice`` in tensorflow/core/util/saved_tensor_slice_util.cc, ``OrderedCode`` in
tensorflow/core/lib/strings/ordered_code.cc).
"""

from collections.abc import Sequence

FULL = -1
"""Length that stands for the whole dimension."""

_SHORT = 64


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
