"""FarmHash ``Fingerprint64``, with which TensorFlow fingerprints the parts of a SavedModel.

Source: ``farmhashna::Hash64`` in https://github.com/google/farmhash (src/farmhash.cc), whose values
are fixed for ever; tensorflow/core/platform/fingerprint.h uses it. It hashes some megabytes a
second here, and an index of 6,000 variables has 0.6 MB.
"""

import struct
from typing import TypeAlias

Pair: TypeAlias = tuple[int, int]

_K0 = 0xC3A5C85C97CB3127
_K1 = 0xB492B66FBE98F273
_K2 = 0x9AE16A3B2F90404F
_WORD = 0xFFFFFFFFFFFFFFFF
_SEED = 81
_BLOCK = 64
_EIGHT = struct.Struct("<8Q")


def fingerprint64(data: bytes) -> int:
    """Return the 64-bit fingerprint of ``data``.

    >>> hex(fingerprint64(b""))
    '0x9ae16a3b2f90404f'
    """
    length = len(data)
    if length <= 16:  # noqa: PLR2004 - the cases of the original
        return _up_to_16(data, length)
    if length <= 32:  # noqa: PLR2004
        return _up_to_32(data, length)
    if length <= _BLOCK:
        return _up_to_64(data, length)
    return _long(data, length)


def _fetch(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _rotate(value: int, shift: int) -> int:
    """Rotate the low 64 bits of ``value`` to the right."""
    value &= _WORD
    return (value >> shift | value << (64 - shift)) & _WORD


def _mix(value: int) -> int:
    value &= _WORD
    return value ^ value >> 47


def _join(first: int, second: int, mul: int) -> int:
    a = _mix((first ^ second) * mul)
    return _mix((second ^ a) * mul) * mul & _WORD


def _up_to_16(data: bytes, length: int) -> int:
    mul = _K2 + length * 2
    if length >= 8:  # noqa: PLR2004
        a, b = _fetch(data, 0) + _K2, _fetch(data, length - 8)
        c, d = _rotate(b, 37) * mul + a, (_rotate(a, 25) + b) * mul
        return _join(c & _WORD, d & _WORD, mul)
    if length >= 4:  # noqa: PLR2004
        first = int.from_bytes(data[:4], "little")
        return _join(length + (first << 3), int.from_bytes(data[-4:], "little"), mul)
    if length:
        y, z = data[0] + (data[length >> 1] << 8), length + (data[-1] << 2)
        return _mix(y * _K2 ^ z * _K0) * _K2 & _WORD
    return _K2


def _up_to_32(data: bytes, length: int) -> int:
    mul = _K2 + length * 2
    a, b = _fetch(data, 0) * _K1, _fetch(data, 8)
    c, d = _fetch(data, length - 8) * mul, _fetch(data, length - 16) * _K2
    first = _rotate(a + b, 43) + _rotate(c, 30) + d
    return _join(first & _WORD, (a + _rotate(b + _K2, 18) + c) & _WORD, mul)


def _up_to_64(data: bytes, length: int) -> int:
    mul = _K2 + length * 2
    a, b = _fetch(data, 0) * _K2, _fetch(data, 8)
    c, d = _fetch(data, length - 8) * mul, _fetch(data, length - 16) * _K2
    y = (_rotate(a + b, 43) + _rotate(c, 30) + d) & _WORD
    z = _join(y, (a + _rotate(b + _K2, 18) + c) & _WORD, mul)
    e, f = _fetch(data, 16) * mul, _fetch(data, 24)
    g, h = (y + _fetch(data, length - 32)) * mul, (z + _fetch(data, length - 24)) * mul
    first = _rotate(e + f, 43) + _rotate(g, 30) + h
    return _join(first & _WORD, (e + _rotate(f + a, 18) + g) & _WORD, mul)


def _long(data: bytes, length: int) -> int:
    y = (_SEED * _K1 + 113) & _WORD
    z = _mix(y * _K2 + 113) * _K2 & _WORD
    x = (_SEED * _K2 + _fetch(data, 0)) & _WORD
    v: Pair = (0, 0)
    w: Pair = (0, 0)
    end = (length - 1) // _BLOCK * _BLOCK
    for block in _EIGHT.iter_unpack(memoryview(data)[:end]):
        x, y, z, v, w = _round(block, x, y, z, v, w, _K1, 1)
    mul = _K1 + ((z & 0xFF) << 1)
    rest = (length - 1) & 63
    first = (w[0] + rest) & _WORD
    v = ((v[0] + first) & _WORD, v[1])
    w = ((first + v[0]) & _WORD, w[1])
    last = _EIGHT.unpack(data[-_BLOCK:])
    x, y, z, v, w = _round(last, x, y, z, v, w, mul, 9)
    a = _join(v[0], w[0], mul) + _mix(y) * _K0 + z
    return _join(a & _WORD, (_join(v[1], w[1], mul) + x) & _WORD, mul)


def _round(
    s: tuple[int, ...], x: int, y: int, z: int, v: Pair, w: Pair, mul: int, factor: int
) -> tuple[int, int, int, Pair, Pair]:
    """Take in one block of eight words; ``factor`` is 9 for the last one, else 1."""
    x = _rotate(x + y + v[0] + s[1], 37) * mul & _WORD
    y = _rotate(y + v[1] + s[6], 42) * mul & _WORD
    x ^= w[1] * factor & _WORD
    y = (y + v[0] * factor + s[5]) & _WORD
    z = _rotate(z + w[0], 33) * mul & _WORD
    v = _weak(s[:4], v[1] * mul, x + w[0])
    w = _weak(s[4:], z + w[1], y + s[2])
    return z, y, x, v, w


def _weak(words: tuple[int, ...], a: int, b: int) -> Pair:
    a += words[0]
    b = _rotate(b + a + words[3], 21)
    c = a
    a += words[1] + words[2]
    b += _rotate(a, 44)
    return (a + words[3]) & _WORD, (b + c) & _WORD
