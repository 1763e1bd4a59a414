"""The table format of ``.index`` files: LevelDB's SSTable as TensorFlow writes it.

A file is data blocks, an empty metaindex block, an index block and a footer
(tensorflow/core/lib/io/{table_builder,block,format}.cc). Entries of a block share prefixes of
their keys with the entry before; each block ends in an array of restart offsets and is followed
by a type byte and a masked CRC32C of both.
"""

from collections.abc import Iterator
from typing import TypeVar

from mstore.formats.crc import extend, mask
from mstore.formats.file_view import FileView
from mstore.formats.files import damaged

MAGIC = 0xDB4775248B80FB57
"""Last eight bytes of a table, little-endian."""

MAX_KEY = 1 << 16
"""Longest key in bytes that is accepted."""

MAX_KEYS = 1 << 25
"""Most bytes that all keys of a table may have together."""

Table = TypeVar("Table", bytes, FileView)
"""A table, or a part of one: in memory, or in a file that may be larger than memory."""

_FOOTER = 48
_TRAILER = 5
_CONTINUED = 0x80


class KeyBudget:
    """Bounds the bytes of all keys together.

    Shared prefixes let a small file describe keys of quadratic total length; sound tables stay far
    below sixteen times their own size.
    """

    def __init__(self, file_size: int, path: str) -> None:
        """Allow what a sound file of ``file_size`` bytes can need."""
        self._left = min((1 << 20) + 16 * file_size, MAX_KEYS)
        self._path = path

    def take(self, size: int) -> None:
        """Account for one key of ``size`` bytes.

        Raises:
            DamagedFileError: the key, or all of them together, are too long.
        """
        self._left -= size
        if size > MAX_KEY or self._left < 0:
            raise damaged(self._path, "its keys are longer than those of any sound checkpoint")


def varint(data: bytes | FileView, position: int, end: int, path: str) -> tuple[int, int]:
    """Return the unsigned 64-bit varint at ``position`` and the position after it.

    Raises:
        DamagedFileError: it runs past ``end``, over 64 bits or is longer than it must be.
    """
    value = shift = 0
    while position < end:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < _CONTINUED:
            # TensorFlow never pads with zeros; accepting that would let flipped bits pass.
            if value >> 64 or (shift and not byte):
                break
            return value, position
        shift += 7
        if shift > 63:  # noqa: PLR2004 - ten groups of seven bits hold 64
            break
    raise damaged(path, "a number in it is cut short, too large or padded")


def read_entries(data: Table, *, path: str) -> Iterator[tuple[bytes, Table]]:
    """Iterate over the keys and values of a table in key order, checking everything.

    Of a table in a file the values are views, which are read when they are looked at.

    Raises:
        DamagedFileError: any check fails; nothing is allocated for what the file only claims.
    """
    index = bytes(_index_block(data, path))
    budget = KeyBudget(len(data), path)
    previous_end = 0
    last_key: bytes | None = None
    for separator, handle in _block_entries(index, budget, path):
        offset, position = varint(handle, 0, len(handle), path)
        size, position = varint(handle, position, len(handle), path)
        if position != len(handle):
            raise damaged(path, "its index block has an entry that is not a block's place")
        # Blocks in file order can neither overlap nor be read twice.
        if offset < previous_end:
            raise damaged(path, "its blocks overlap or are out of order")
        previous_end = offset + size + _TRAILER
        for key, value in _block_entries(_block(data, offset, size, path), budget, path):
            if last_key is not None and key <= last_key:
                raise damaged(path, "its keys are not in order")
            last_key = key
            yield key, value
        if last_key is not None and last_key > separator:
            raise damaged(path, "its index block does not fit its data blocks")
        # The next block's keys must lie above the separator, or a lookup would not find them.
        last_key = separator


def _index_block(data: Table, path: str) -> Table:
    if len(data) < _FOOTER:
        raise damaged(path, f"it has {len(data)} bytes, less than its footer of {_FOOTER}")
    footer = bytes(data[-_FOOTER:])
    if int.from_bytes(footer[-8:], "little") != MAGIC:
        raise damaged(path, "it does not end in the magic number of a checkpoint's index")
    position = 0
    handle = []
    for _ in range(4):
        number, position = varint(footer, position, _FOOTER - 8, path)
        handle.append(number)
    if any(footer[position:-8]):
        raise damaged(path, "its footer has bytes where there must be none")
    meta_offset, meta_size, index_offset, index_size = handle
    if max(meta_size, index_size) > MAX_KEYS:
        raise damaged(path, "its index block is larger than that of any sound checkpoint")
    # Nothing is kept in the metaindex block, but damage to it is still damage.
    _block(data, meta_offset, meta_size, path)
    return _block(data, index_offset, index_size, path)


def _block(data: Table, offset: int, size: int, path: str) -> Table:
    """Return the contents of a block after checking its place, type and checksum."""
    end = offset + size
    if end + _TRAILER > len(data) - _FOOTER:
        raise damaged(path, "a block of it lies outside the file")
    stored = int.from_bytes(bytes(data[end + 1 : end + _TRAILER]), "little")
    if mask(_crc(data, offset, end + 1)) != stored:
        raise damaged(path, f"the block at byte {offset} does not have its checksum")
    if data[end] == 1:
        raise damaged(
            path,
            f"the block at byte {offset} is compressed with Snappy, which TensorFlow never writes",
            hint="load and save the checkpoint again with TensorFlow",
        )
    if data[end] != 0:
        raise damaged(path, f"the block at byte {offset} is of the unknown type {data[end]}")
    return data[offset:end]


def _crc(data: Table, start: int, end: int) -> int:
    if isinstance(data, bytes):
        return extend(0, memoryview(data)[start:end])
    crc = 0
    for piece in data[start:end].pieces():
        crc = extend(crc, piece)
    return crc


def _block_entries(block: Table, budget: KeyBudget, path: str) -> Iterator[tuple[bytes, Table]]:
    restarts = _restarts(block, path)
    end = len(block) - len(restarts) - 4
    restart = _restart(restarts, 0)
    position = seen = 0
    key = b""
    while position < end:
        start = position
        shared, position = varint(block, position, end, path)
        added, position = varint(block, position, end, path)
        length, position = varint(block, position, end, path)
        value_start = position + added
        if shared > len(key) or value_start + length > end:
            raise damaged(path, "an entry of it runs over the end of its block")
        if start == restart:
            seen += 4
            restart = _restart(restarts, seen)
            if shared:
                raise damaged(path, "an entry of it continues a key where none can be continued")
        budget.take(shared + added)
        key = key[:shared] + bytes(block[position:value_start])
        position = value_start + length
        yield key, block[value_start:position]
    if restart is not None and not (end == 0 and len(restarts) == 4 and restart == 0):  # noqa: PLR2004
        raise damaged(path, "the restart points of a block are not at its entries")


def _restart(restarts: memoryview | FileView, at: int) -> int | None:
    """Return the restart offset at byte ``at`` of the array, None past its end."""
    return int.from_bytes(bytes(restarts[at : at + 4]), "little") if at < len(restarts) else None


def _restarts(block: Table, path: str) -> memoryview | FileView:
    """Return the restart offsets of a block as stored: at its end, before their number."""
    count = int.from_bytes(bytes(block[-4:]), "little")
    start = len(block) - 4 * (count + 1)
    if len(block) < 4 or start < 0 or count == 0:  # noqa: PLR2004 - bytes of the count
        raise damaged(path, "a block of it has no room for its restart points")
    if isinstance(block, bytes):
        return memoryview(block)[start:-4]
    return block[start:-4]
