"""Walks the wire format of protocol buffers without building messages.

Parsing a whole hostile message can take a hundred times its size in memory (two bytes make an
empty sub-message). Walking takes none, so that large messages are cut into small ones here and
only those are parsed. Format: https://protobuf.dev/programming-guides/encoding/.
"""

from collections.abc import Collection, Iterator
from typing import TypeVar

from mstore.formats.file_view import FileView
from mstore.formats.files import damaged

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""Wire types; groups (3 and 4) do not occur in TensorFlow's messages."""

View = TypeVar("View", memoryview, FileView)
"""Bytes of a message, in memory or in a file."""

_CONTINUED = 0x80
_FIXED_SIZES = {FIXED64: 8, FIXED32: 4}
_MAX_FIELD = (1 << 29) - 1


class Budget:
    """Bounds how many fields are walked over in one file, and so the time that takes."""

    def __init__(self, fields_left: int) -> None:
        """Allow that many fields."""
        self.fields_left = fields_left


def fields(data: View, budget: Budget, *, path: str) -> Iterator[tuple[int, int | View]]:
    """Iterate over the number and value of each field of a message.

    A value is an int for a varint and a view of the bytes for all others.

    Raises:
        DamagedFileError: the bytes are not a message, or the budget is used up.
    """
    position, end = 0, len(data)
    while position < end:
        budget.fields_left -= 1
        if budget.fields_left < 0:
            raise damaged(path, "a message in it has more parts than any sound one")
        tag, position = _varint(data, position, path)
        number, kind = tag >> 3, tag & 7
        if not 0 < number <= _MAX_FIELD:
            raise damaged(path, "a message in it has a field of a number that cannot be")
        if kind == LENGTH:
            size, position = _varint(data, position, path)
        elif kind == VARINT:
            value, position = _varint(data, position, path)
            yield number, value
            continue
        elif kind in _FIXED_SIZES:
            size = _FIXED_SIZES[kind]
        else:
            raise damaged(path, f"a message in it has a field of the unknown kind {kind}")
        if size > end - position:
            raise damaged(path, "a message in it is cut short")
        yield number, data[position : position + size]
        position += size


def messages(
    data: View, wanted: Collection[int], budget: Budget, *, path: str
) -> Iterator[tuple[int, View]]:
    """Iterate over the sub-messages and strings whose field numbers are ``wanted``.

    Raises:
        DamagedFileError: the bytes are not a message, or the budget is used up.
    """
    for number, value in fields(data, budget, path=path):
        if number not in wanted:
            continue
        if isinstance(value, int):
            raise damaged(path, "a message in it has a number where a message must be")
        yield number, value


def _varint(data: memoryview | FileView, position: int, path: str) -> tuple[int, int]:
    value = shift = 0
    end = min(len(data), position + 10)
    while position < end:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < _CONTINUED:
            return value & 0xFFFFFFFFFFFFFFFF, position
        shift += 7
    raise damaged(path, "a number of a message in it is cut short")
