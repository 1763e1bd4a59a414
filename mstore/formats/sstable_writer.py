"""Writes the table format of ``.index`` files, byte for byte as TensorFlow writes it.

The rules are those of tensorflow/core/lib/io/{table_builder,block_builder,format}.cc with the
options that ``BundleWriter`` gives them: blocks of 256 KB, nothing compressed.
"""

import struct
from collections.abc import Iterable

from mstore.formats.crc import masked_crc
from mstore.formats.sstable import MAGIC

BLOCK_SIZE = 262_144
"""A data block is closed when it has this many bytes."""

RESTART_INTERVAL = 16
"""Every so many entries of a block, a key is written in full."""

_HANDLES = 40
_CONTINUED = 0x80
_TRAILER = 5


def varint(value: int) -> bytes:
    """Return the shortest encoding of a number of 0 to 2**64 - 1.

    >>> varint(300).hex()
    'ac02'
    """
    out = bytearray()
    while value >= _CONTINUED:
        out.append(value & 0x7F | _CONTINUED)
        value >>= 7
    return bytes([*out, value])


class BlockBuilder:
    """Gathers the entries of one block.

    Attributes:
        last_key: key of the entry added last.
        empty: whether there is no entry yet.
    """

    def __init__(self, interval: int) -> None:
        """Start a block that writes a key in full every ``interval`` entries."""
        self.last_key = b""
        self.empty = True
        self._interval = interval
        self._body = bytearray()
        self._restarts = [0]
        self._since_restart = 0

    @property
    def size(self) -> int:
        """Bytes that the block takes so far, with its restart points."""
        return len(self._body) + 4 * len(self._restarts) + 4

    def add(self, key: bytes, value: bytes) -> None:
        """Append an entry; keys come in order."""
        shared = 0
        if self._since_restart < self._interval:
            shared = _shared(self.last_key, key)
        else:
            self._restarts.append(len(self._body))
            self._since_restart = 0
        self._body += varint(shared) + varint(len(key) - shared) + varint(len(value))
        self._body += key[shared:] + value
        self.last_key = key
        self._since_restart += 1
        self.empty = False

    def finish(self) -> bytes:
        """Return the block: entries, restart points, how many these are."""
        tail = [*self._restarts, len(self._restarts)]
        return bytes(self._body) + struct.pack(f"<{len(tail)}I", *tail)


def write_table(items: Iterable[tuple[bytes, bytes]], *, block_size: int = BLOCK_SIZE) -> bytes:
    """Return the table that holds ``items``, pairs of key and value in key order."""
    out = bytearray()
    index = BlockBuilder(1)
    block = BlockBuilder(RESTART_INTERVAL)
    # The index gets its entry for a block when the next key is known: a short key between the two.
    pending: tuple[bytes, bytes] | None = None
    for key, value in items:
        if pending is not None:
            index.add(_separator(pending[0], key), pending[1])
            pending = None
        block.add(key, value)
        if block.size >= block_size:
            pending = block.last_key, _append(out, block.finish())
            block = BlockBuilder(RESTART_INTERVAL)
    if not block.empty:
        pending = block.last_key, _append(out, block.finish())
    if pending is not None:
        index.add(_successor(pending[0]), pending[1])
    return bytes(out) + table_end(len(out), index)


def table_end(offset: int, index: BlockBuilder) -> bytes:
    """Return what follows the data blocks: an empty metaindex, the index and the footer.

    Args:
        offset: where it will stand in the file.
        index: the index block.
    """
    out = bytearray()
    handles = b""
    for block in (BlockBuilder(RESTART_INTERVAL), index):
        content = block.finish()
        handles += varint(offset + len(out)) + varint(len(content))
        out += sealed(content)
    return bytes(out) + handles.ljust(_HANDLES, b"\0") + MAGIC.to_bytes(8, "little")


def sealed(block: bytes, kind: int = 0) -> bytes:
    """Return the block with its trailer: a byte for the kind (0: as it is), and a checksum."""
    body = block + bytes([kind])
    return body + masked_crc(body).to_bytes(4, "little")


def _append(out: bytearray, content: bytes) -> bytes:
    """Append a block to the table and return its handle."""
    handle = varint(len(out)) + varint(len(content))
    out += sealed(content)
    return handle


def _shared(first: bytes, second: bytes) -> int:
    """Return how many bytes two keys begin with in common."""
    count = 0
    for mine, other in zip(first, second, strict=False):
        if mine != other:
            break
        count += 1
    return count


def _separator(start: bytes, limit: bytes) -> bytes:
    """Return a short key that is at least ``start`` and below ``limit``."""
    at = _shared(start, limit)
    if at < min(len(start), len(limit)) and start[at] + 1 < limit[at]:
        return start[:at] + bytes([start[at] + 1])
    return start


def _successor(key: bytes) -> bytes:
    """Return a short key that is at least ``key``."""
    for at, byte in enumerate(key):
        if byte != 0xFF:  # noqa: PLR2004 - the largest byte
            return key[:at] + bytes([byte + 1])
    return key
