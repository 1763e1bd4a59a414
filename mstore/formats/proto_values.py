"""The values of a ``TensorProto`` as the V1 format stores them, turned into raw tensor bytes.

Each type has a field of its own for its values (tensorflow/core/framework/tensor.proto): numbers of
fixed width are packed little-endian, one after the other, and so are raw already; integers are
packed varints, strings a field each (``Fill`` in tensorflow/core/util/saved_tensor_slice_util.h).
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mstore.domain.tensors import DTYPES
from mstore.formats import wire
from mstore.formats.crc import element_count, extend, mask
from mstore.formats.file_view import FileView
from mstore.formats.files import damaged
from mstore.formats.sstable import varint

_FLOATS, _DOUBLES, _INTS, _STRINGS, _COMPLEX, _LONGS, _BOOLS = 5, 6, 7, 8, 9, 10, 11
_DOUBLE_COMPLEX, _HALVES, _UNSIGNED, _UNSIGNED_LONGS = 12, 13, 16, 17
_RAW = frozenset({_FLOATS, _DOUBLES, _COMPLEX, _DOUBLE_COMPLEX})
_FIELDS: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(("int32", "uint8", "int16", "int8", "uint16", "qint8", "quint8"), _INTS),
        **dict.fromkeys(("qint16", "quint16", "qint32"), _INTS),
        **dict.fromkeys(("float16", "bfloat16"), _HALVES),
        "float32": _FLOATS,
        "float64": _DOUBLES,
        "string": _STRINGS,
        "complex64": _COMPLEX,
        "int64": _LONGS,
        "bool": _BOOLS,
        "complex128": _DOUBLE_COMPLEX,
        "uint32": _UNSIGNED,
        "uint64": _UNSIGNED_LONGS,
    }
)
_ITEM_SIZES = MappingProxyType(dict(DTYPES.values()))
_STRING_TAG = _STRINGS << 3 | wire.LENGTH
_LONGEST_FIELD_HEAD = 11
_PIECE = 1 << 20
_CONTINUED = 0x80
_LONGEST_VARINT = 10


@dataclass(frozen=True, slots=True)
class Values:
    """Where the values of one tensor are in a file, and what they become.

    Attributes:
        dtype: TensorFlow's name of the element type.
        shape: length of each dimension.
        message: the ``TensorProto``.
        raw: the values where they stand in the file as raw bytes, else None.
        size: bytes of the values as a TensorBundle stores them.
        path: the file, for errors.
    """

    dtype: str
    shape: tuple[int, ...]
    message: FileView
    raw: FileView | None
    size: int
    path: str

    def decoded(self) -> Iterator[bytes]:
        """Iterate over the values as a TensorBundle stores them, ``size`` bytes in all.

        Raises:
            DamagedFileError: they are other or not as many values.
            SystemIOError: the operating system refused.
        """
        if self.raw is not None:
            yield from self.raw.pieces()
        elif self.dtype == "string":
            yield from _strings(self.message, self.path)
        else:
            yield from self._integers()

    def _integers(self) -> Iterator[bytes]:
        size = 0
        for field in _fields(self.message, _FIELDS[self.dtype], self.path):
            for piece in _whole_varints(field, self.path):
                raw = _narrowed(piece, _ITEM_SIZES[self.dtype], self.path)
                size += len(raw)
                if size > self.size:
                    break
                yield raw
        if size != self.size:
            raise _other_count(self.path)


def find_values(message: FileView, dtype: str, shape: tuple[int, ...], *, path: str) -> Values:
    """Return where the values in a ``TensorProto`` are.

    Raises:
        DamagedFileError: it cannot hold that many values of that type.
    """
    number = _FIELDS.get(dtype)
    if number is None:
        raise damaged(path, f"it has a tensor of the type {dtype}, which the V1 format cannot hold")
    count = element_count(shape)
    if dtype == "string":
        return Values(dtype, shape, message, None, _string_size(message, count, path), path)
    size = count * _ITEM_SIZES[dtype]
    found = _fields(message, number, path)
    if len(found) > 1:
        raise damaged(path, "the values of a tensor in it stand in several places")
    given = len(found[0]) if found else 0
    if number in _RAW:
        if given != size:
            raise _other_count(path)
        return Values(dtype, shape, message, found[0] if found else message[:0], size, path)
    if not count <= given <= count * _LONGEST_VARINT:
        raise _other_count(path)
    return Values(dtype, shape, message, None, size, path)


def _fields(message: FileView, number: int, path: str) -> list[FileView]:
    # Packed values are one field, so that a sound message has few.
    budget = wire.Budget(16)
    return [part for _, part in wire.messages(message, {number}, budget, path=path)]


def _string_places(message: FileView, path: str) -> Iterator[tuple[int, int]]:
    """Iterate over where each string begins in the message, and how long it is.

    There may be millions, so that this walks over bytes in memory, a piece at a time.
    """
    base, end = 0, len(message)
    piece = b""
    position = 0
    while base + position < end:
        if len(piece) - position < _LONGEST_FIELD_HEAD and base + len(piece) < end:
            base += position
            piece, position = bytes(message[base : base + _PIECE]), 0
        if piece[position] != _STRING_TAG:
            raise damaged(path, "the strings of a tensor in it do not follow each other")
        length, position = varint(piece, position + 1, len(piece), path)
        if length > end - base - position:
            raise damaged(path, "a string of a tensor in it is cut short")
        yield base + position, length
        position += length
        if position > len(piece):
            base += position
            piece, position = b"", 0


def _string_size(message: FileView, count: int, path: str) -> int:
    found = size = 0
    for _, length in _string_places(message, path):
        found += 1
        size += len(_varint(length)) + length
    if found != count:
        raise _other_count(path)
    return size + 4  # the checksum of the lengths


def _strings(message: FileView, path: str) -> Iterator[bytes]:
    crc = 0
    for places in _batches(_string_places(message, path)):
        lengths = [length for _, length in places]
        fixed = (length.to_bytes(4 if length < 1 << 32 else 8, "little") for length in lengths)
        crc = extend(crc, b"".join(fixed))
        yield b"".join(map(_varint, lengths))
    yield mask(crc).to_bytes(4, "little")
    for start, length in _string_places(message, path):
        if length:
            yield from message[start : start + length].pieces()


def _batches(places: Iterator[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    while batch := list(itertools.islice(places, 4096)):
        yield batch


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= _CONTINUED:
        out.append(value & 0x7F | _CONTINUED)
        value >>= 7
    return bytes([*out, value])


def _whole_varints(view: FileView, path: str) -> Iterator[bytes]:
    """Iterate over the bytes of packed varints, cut between two of them."""
    rest = b""
    for piece in view.pieces():
        data = rest + piece
        tail = data[-_LONGEST_VARINT:]
        kept = len(tail)
        while kept and tail[kept - 1] >= _CONTINUED:
            kept -= 1
        if tail and not kept:
            raise damaged(path, "a number of a tensor in it is too long")
        end = len(data) - (len(tail) - kept)
        rest = data[end:]
        yield data[:end]
    if rest:
        raise damaged(path, "a number of a tensor in it is cut short")


def _narrowed(data: bytes, width: int, path: str) -> bytes:
    """Return packed varints as integers of ``width`` bytes, which keep their low bits."""
    import numpy as np  # noqa: PLC0415 - most commands need none of it

    codes = np.frombuffer(data, np.uint8)
    last = np.flatnonzero(codes < _CONTINUED)
    if not len(last):
        return b""
    first = np.concatenate(([0], last[:-1] + 1))
    places = np.arange(len(codes)) - np.repeat(first, last - first + 1)
    if places.max() >= _LONGEST_VARINT:
        raise damaged(path, "a number of a tensor in it is too long")
    groups = (codes & 0x7F).astype(np.uint64) << (7 * places).astype(np.uint64)
    values = np.bitwise_or.reduceat(groups, first)
    return values.astype(f"<u{width}").tobytes()


def _other_count(path: str) -> Exception:
    return damaged(path, "a tensor in it has more or fewer values than its shape says")
