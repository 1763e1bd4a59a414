"""Check packs: first how they are built, then every byte of what is in them."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mstore.catalog.objects import ObjectRow
from mstore.errors import DamagedStoreError
from mstore.objects.packs import CHUNK, MANIFEST, Entry, check, gaps, pack_path, read_index
from mstore.ops.context import entry_of

KINDS = {CHUNK: "chunk", MANIFEST: "manifest"}
"""Names of the kinds of objects; all others are records."""


@dataclass(frozen=True, slots=True)
class BadObject:
    """An object that does not have its id, or is not there.

    Attributes:
        pack: name of its pack.
        entry: where it should be.
        detail: what is the matter.
        placed: whether the catalog reads it from here.
        base: id of the damaged base where it is sound itself, in hex.
    """

    pack: str
    entry: Entry
    detail: str
    placed: bool
    base: str | None = None


def why_badly_built(packs: Path, name: str, size: int, expected: Mapping[bytes, ObjectRow]) -> str:
    """Return what is wrong with header, index, footer and layout of a pack, or an empty text.

    It is looked at once more before it is said to be damaged.
    """
    reason = ""
    for _ in range(2):
        try:
            path = pack_path(packs, name)
            _check_layout(path, size, read_index(path), expected)
        except DamagedStoreError as error:
            reason = error.message
        else:
            return ""
    return reason


def _check_layout(
    path: Path, size: int, entries: tuple[Entry, ...], expected: Mapping[bytes, ObjectRow]
) -> None:
    actual = path.stat().st_size
    if actual != size:
        raise DamagedStoreError(f"the file has {actual} bytes, the catalog says {size}")
    if next(gaps(entries), None) is not None:
        raise DamagedStoreError("its objects do not cover it")
    places = {entry.id: entry for entry in entries}
    for row in expected.values():
        if places.get(row.id) != entry_of(row):
            raise DamagedStoreError(f"the catalog and the pack differ about {row.id.hex()}")


def entries_of(packs: Path, name: str, expected: Mapping[bytes, ObjectRow]) -> tuple[Entry, ...]:
    """Return the objects of a pack: by its index, or by the catalog where that is lost."""
    try:
        return read_index(pack_path(packs, name))
    except DamagedStoreError:
        return tuple(entry_of(row) for row in expected.values())


def check_objects(
    packs: Path,
    name: str,
    expected: Mapping[bytes, ObjectRow],
    advance: Callable[[int], None],
) -> Iterator[BadObject | Entry]:
    """Yield each object of a pack: its entry where it has its id, else what is wrong with it."""
    entries = entries_of(packs, name, expected)
    try:
        descriptor = os.open(pack_path(packs, name), os.O_RDONLY)
    except OSError as error:
        for entry in entries:
            detail = f"its pack cannot be read: {error.strerror}"
            yield BadObject(name, entry, detail, entry.id in expected)
        return
    try:
        for entry in entries:
            reason = why_damaged(descriptor, entry)
            if reason:
                yield BadObject(name, entry, reason, entry.id in expected)
            else:
                yield entry
            advance(entry.stored)
    finally:
        os.close(descriptor)


def why_damaged(descriptor: int, entry: Entry) -> str:
    """Return what is wrong with the bytes of an object, or an empty text.

    They are read once more, from the disk if the system allows, before they are said to be damaged.
    """
    reason = ""
    for _ in range(2):
        try:
            check(entry, os.pread(descriptor, entry.stored, entry.offset))
        except DamagedStoreError as error:
            reason = error.message
        except OSError as error:
            reason = f"object {entry.id.hex()} cannot be read: {error.strerror}"
        else:
            return ""
        os.posix_fadvise(descriptor, entry.offset, entry.stored, os.POSIX_FADV_DONTNEED)
    return reason
