r"""Packs: immutable files that hold objects and their own index.

Layout (all integers little-endian; see docs/FORMAT.md)::

    header   16 bytes   b"MSTORE-PACK\0", u32 version
    objects             back to back, each as its codec left it
    index    64 each    id[32], u8 kind, u8 codec, 6 zero bytes, u64 offset, u64 stored, u64 raw
    footer   64 bytes   u64 offset of the index, u64 objects, BLAKE3[32] of header, index and these
                        two numbers, b"MSTORE-PACK-END\0"

The name of a pack is the checksum in its footer, in hex.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from blake3 import blake3

from mstore import disk
from mstore.errors import DamagedStoreError
from mstore.objects import planes

CHUNK: Final = 1
MANIFEST: Final = 2
RECORD: Final = 3
RAW: Final = 0
"""As it is."""
PLANES: Final = 1
"""See `mstore.objects.planes`."""
DELTA: Final = 2
"""The same, as the difference to another object, its base."""

MOST_BASES: Final = 32
"""Longest chain of bases that a reader follows; writers make shorter ones."""

HEADER = b"MSTORE-PACK\0" + (1).to_bytes(4, "little")
_END = b"MSTORE-PACK-END\0"
_ENTRY = struct.Struct("<32sBB6xQQQ")
_FOOTER = struct.Struct("<QQ32s16s")


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one object stands in its pack.

    Attributes:
        id: BLAKE3 of the object's bytes, 32 bytes.
        kind: `CHUNK`, `MANIFEST` or `RECORD`.
        codec: `RAW`, `PLANES` or `DELTA`.
        offset: first byte in the pack.
        stored: bytes in the pack.
        raw: bytes of the object itself.
        base: id of the object that a `DELTA` is the difference to; else None. It stands at the
            beginning of the stored bytes and not in the index.
    """

    id: bytes
    kind: int
    codec: int
    offset: int
    stored: int
    raw: int
    base: bytes | None = None


def object_id(data: bytes | bytearray | memoryview) -> bytes:
    """Return the BLAKE3 digest that is the id of ``data``, 32 bytes."""
    return blake3(data).digest()


def pack_path(packs: Path, name: str) -> Path:
    """Return where the pack called ``name`` stands under ``packs``."""
    return packs / name[:2] / f"{name}.pack"


class PackWriter:
    """Writes one pack in a working directory; `publish` gives it its name."""

    def __init__(self, directory: Path) -> None:
        """Create an unnamed pack in ``directory``."""
        self._file = disk.NewFile(directory / "pack", mode=0o444)
        self._file.write(HEADER)
        self.entries: dict[bytes, Entry] = {}
        self.name: str | None = None

    def add(self, kind: int, data: bytes | memoryview, *, id_: bytes | None = None) -> Entry:
        """Append an object unless this pack has it."""
        key = id_ if id_ is not None else object_id(data)
        known = self.entries.get(key)
        if known is not None:
            return known
        entry = Entry(key, kind, RAW, self._file.size, len(data), len(data))
        self._file.write(data)
        self.entries[key] = entry
        return entry

    def add_stored(self, entry: Entry, stored: bytes) -> Entry:
        """Append an object as it is stored elsewhere, or as `planes.encode` returned it."""
        known = self.entries.get(entry.id)
        if known is not None:
            return known
        placed = replace(entry, offset=self._file.size, stored=len(stored))
        self._file.write(stored)
        self.entries[entry.id] = placed
        return placed

    def add_all(self, kind: int, objects: Iterable[tuple[bytes, bytes | memoryview]]) -> None:
        """Append those objects that this pack does not have, given id and bytes, in one write."""
        fresh: dict[bytes, Entry] = {}
        parts = []
        offset = self._file.size
        for key, data in objects:
            if key not in self.entries and key not in fresh:
                fresh[key] = Entry(key, kind, RAW, offset, len(data), len(data))
                parts.append(data)
                offset += len(data)
        if parts:
            self._file.write(*parts)
            self.entries.update(fresh)

    def read(self, key: bytes) -> bytes:
        """Return an object that was added as it is."""
        entry = self.entries[key]
        with self._file.path.open("rb") as file:
            return decode(entry, os.pread(file.fileno(), entry.stored, entry.offset))

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.size

    @property
    def whole(self) -> int:
        """Bytes that the pack will have when it is sealed now."""
        return self.size + len(self.entries) * _ENTRY.size + _FOOTER.size

    def seal(self) -> str:
        """Write index and footer, make the bytes durable, and return the pack's name."""
        index = b"".join(
            _ENTRY.pack(e.id, e.kind, e.codec, e.offset, e.stored, e.raw)
            for e in self.entries.values()
        )
        start, count = self._file.size, len(self.entries)
        checksum = _checksum(index, start, count)
        self._file.write(index + _FOOTER.pack(start, count, checksum, _END))
        self._file.sync()
        self._file.close()
        self.name = checksum.hex()
        return self.name

    def turned(self, directory: Path) -> "PackWriter":
        """Return a writer of the same objects in the other order, after `seal`.

        A name does not tell the bases of differences: with others of the same size it is the same.
        """
        made = PackWriter(directory)
        with self._file.path.open("rb") as file:
            for entry in reversed(self.entries.values()):
                made.add_stored(entry, os.pread(file.fileno(), entry.stored, entry.offset))
        return made

    def publish(self, packs: Path) -> None:
        """Move the sealed pack to its name under ``packs`` and make the name durable."""
        assert self.name is not None, "seal() comes first"  # noqa: S101 - a mistake in this program
        target = pack_path(packs, self.name)
        disk.make_directory(target.parent)
        disk.replace_file(self._file.path, target)

    def close(self) -> None:
        """Close the file, sealed or not."""
        self._file.close()


def size_with(stored: Iterable[int]) -> int:
    """Return the size of a pack of objects that take so many bytes in it."""
    return len(HEADER) + _FOOTER.size + sum(size + _ENTRY.size for size in stored)


def _checksum(index: bytes, start: int, count: int) -> bytes:
    return blake3(HEADER + index + struct.pack("<QQ", start, count)).digest()


def read_index(path: Path) -> tuple[Entry, ...]:
    """Read and check the index of a pack.

    Raises:
        DamagedStoreError: the pack is missing, cut short, or its index or name is not right.
    """
    try:
        with path.open("rb") as file:
            return _read_index(file.fileno(), path)
    except OSError as error:
        raise DamagedStoreError(f"pack {path.name} cannot be read: {error.strerror}") from error


def _read_index(descriptor: int, path: Path) -> tuple[Entry, ...]:
    size = os.fstat(descriptor).st_size
    if size < len(HEADER) + _FOOTER.size:
        raise DamagedStoreError(f"pack {path.name} is cut short: {size} bytes")
    header = os.pread(descriptor, len(HEADER), 0)
    footer = os.pread(descriptor, _FOOTER.size, size - _FOOTER.size)
    start, count, checksum, end = _FOOTER.unpack(footer)
    length = size - _FOOTER.size - start
    if header != HEADER or end != _END or length < 0 or length != count * _ENTRY.size:
        raise DamagedStoreError(f"pack {path.name} has a damaged header or footer")
    index = os.pread(descriptor, length, start)
    if _checksum(index, start, count) != checksum or checksum.hex() != path.stem:
        raise DamagedStoreError(f"pack {path.name} has a damaged index")
    entries = (Entry(*fields) for fields in _ENTRY.iter_unpack(index))
    return tuple(_with_base(descriptor, e) if e.codec == DELTA else e for e in entries)


def _with_base(descriptor: int, entry: Entry) -> Entry:
    head = os.pread(descriptor, planes.CHECKSUM + planes.BASE, entry.offset)
    return replace(entry, base=planes.base_of(head))


def decode(entry: Entry, stored: bytes, base: bytes | None = None) -> bytes:
    """Return the object's bytes, checked against its id.

    Args:
        entry: what the index says of it.
        stored: its bytes in the pack.
        base: bytes of its base, where it has one.

    Raises:
        DamagedStoreError: they do not have that id.
    """
    try:
        data = _decoded(entry, stored, base)
    except DamagedStoreError as error:
        message = f"object {entry.id.hex()} is damaged: {error.message}"
        raise DamagedStoreError(message) from error
    if len(data) != entry.raw or object_id(data) != entry.id:
        raise DamagedStoreError(
            f"object {entry.id.hex()} is damaged: its bytes do not have that hash"
        )
    return data


def _decoded(entry: Entry, stored: bytes, base: bytes | None) -> bytes:
    if entry.codec == RAW:
        return stored
    if entry.codec == PLANES:
        return planes.decode(stored, entry.raw)
    if entry.codec != DELTA:
        raise DamagedStoreError(f"it has the unknown codec {entry.codec}")
    if base is None or planes.base_of(stored) != entry.base:
        raise DamagedStoreError("it is a difference to another object than was said")
    return planes.decode(stored, entry.raw, base)


def check(entry: Entry, stored: bytes) -> None:
    """Check that the stored bytes of an object are those that were written.

    That they give the object was seen when they were written: `DELTA` needs the base for it.

    Raises:
        DamagedStoreError: they are not.
    """
    if entry.codec != DELTA:
        decode(entry, stored)
    reason = planes.why_not_whole(stored) if entry.codec != RAW else ""
    if entry.codec == DELTA and planes.base_of(stored) != entry.base:
        reason = "it names another base than was said"
    if reason or len(stored) != entry.stored:
        raise DamagedStoreError(
            f"object {entry.id.hex()} is damaged: {reason or 'it is cut short'}"
        )


def gaps(entries: tuple[Entry, ...]) -> Iterator[tuple[int, int]]:
    """Yield byte ranges between the header and the index that no object covers."""
    position = len(HEADER)
    for entry in sorted(entries, key=lambda e: e.offset):
        if entry.offset != position:
            yield position, entry.offset
        position = entry.offset + entry.stored
