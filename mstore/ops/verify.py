"""Verify the store: every pack, every object, every checkpoint and version. It changes nothing."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from mstore.catalog import checkpoints, journal, objects, versions
from mstore.catalog.engine import reading
from mstore.domain.records import Finding, VerifyReport
from mstore.errors import DamagedStoreError, InputError
from mstore.objects.packs import Entry, decode, gaps, pack_path, read_index
from mstore.ops.context import Context


@dataclass
class _Tally:
    packs: int = 0
    objects: int = 0
    read: int = 0
    checkpoints: int = 0
    versions: int = 0
    findings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    sound: set[bytes] = field(default_factory=set)

    def report(self) -> VerifyReport:
        return VerifyReport(
            self.packs,
            self.objects,
            self.read,
            self.checkpoints,
            self.versions,
            tuple(self.findings),
            tuple(self.notes),
        )


def verify(context: Context) -> VerifyReport:
    """Read every byte of every pack that the catalog knows, and check what depends on it.

    Raises:
        DamagedStoreError: the catalog itself cannot be read.
    """
    tally = _Tally()
    with reading(context.engine) as connection:
        packs = list(objects.all_packs(connection))
        _check_catalog(connection, tally)
        reason = journal.why_not_whole(connection, context.root)
    if reason:
        tally.findings.append(Finding("ledger", journal.FILE, reason))
    context.progress.start("verifying", sum(size for _, size in packs))
    try:
        for name, size in packs:
            with reading(context.engine) as connection:
                expected = objects.of_pack(connection, name)
            _check_pack(context, tally, name, size, expected)
    finally:
        context.progress.finish()
    _check_contents(context, tally)
    _find_strays(context, tally, {name for name, _ in packs})
    return tally.report()


def _check_catalog(connection: sa.Connection, tally: _Tally) -> None:
    for (line,) in connection.exec_driver_sql("PRAGMA quick_check"):
        if line != "ok":
            tally.findings.append(Finding("catalog", "catalog.db", str(line)))
    for row in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        detail = f"row {row[1]} refers to a missing row of {row[2]}"
        tally.findings.append(Finding("catalog", str(row[0]), detail))


def _check_pack(
    context: Context,
    tally: _Tally,
    name: str,
    size: int,
    expected: Mapping[bytes, objects.ObjectRow],
) -> None:
    path = pack_path(context.packs, name)
    tally.packs += 1
    try:
        entries = read_index(path)
        _check_layout(path, size, entries, expected)
    except DamagedStoreError as error:
        tally.findings.append(Finding("pack", name, error.message))
        # The index is lost, not the objects: the catalog knows where they stand.
        entries = tuple(
            Entry(row.id, row.kind, row.codec, row.offset, row.stored, row.raw)
            for row in expected.values()
        )
    try:
        with path.open("rb") as file:
            _check_objects(file.fileno(), entries, tally, context.progress.advance)
    except OSError as error:
        tally.findings.append(Finding("pack", name, f"cannot be read: {error.strerror}"))


def _check_layout(
    path: Path,
    size: int,
    entries: tuple[Entry, ...],
    expected: Mapping[bytes, objects.ObjectRow],
) -> None:
    actual = path.stat().st_size
    if actual != size:
        raise DamagedStoreError(f"the file has {actual} bytes, the catalog says {size}")
    if next(gaps(entries), None) is not None:
        raise DamagedStoreError("its objects do not cover it")
    places = {e.id: (e.kind, e.codec, e.offset, e.stored, e.raw) for e in entries}
    for row in expected.values():
        if places.get(row.id) != (row.kind, row.codec, row.offset, row.stored, row.raw):
            raise DamagedStoreError(f"the catalog and the pack differ about {row.id.hex()}")


def _check_objects(
    descriptor: int, entries: tuple[Entry, ...], tally: _Tally, advance: Callable[[int], None]
) -> None:
    for entry in entries:
        tally.objects += 1
        tally.read += entry.stored
        try:
            stored = os.pread(descriptor, entry.stored, entry.offset)
            decode(entry, stored)
            tally.sound.add(entry.id)
        except DamagedStoreError as error:
            tally.findings.append(Finding("object", entry.id.hex(), error.message))
        advance(entry.stored)


def _check_contents(context: Context, tally: _Tally) -> None:
    """Check that every checkpoint and version has all its objects, and say which are hurt."""
    with reading(context.engine) as connection:
        rows = checkpoints.listing(connection, superseded=True)
        made = versions.find_versions(connection)
    for row in rows:
        name = f"{row.checkpoint.model}/{row.checkpoint.run}@{row.checkpoint.step}"
        hurt = _hurt(context, tally, row.manifest, row.record)
        tally.checkpoints += not hurt
        if hurt:
            tally.findings.append(Finding("checkpoint", f"{name} ({row.checkpoint.id})", hurt))
    for version in made:
        name = f"{version.version.model}:{version.version.version}"
        hurt = _hurt(context, tally, version.manifest, version.record)
        tally.versions += not hurt
        if hurt:
            tally.findings.append(Finding("version", name, hurt))


def _hurt(context: Context, tally: _Tally, manifest: bytes, record: bytes) -> str:
    """Return what is wrong with the objects of one manifest, or an empty text."""
    if manifest not in tally.sound:
        return f"its manifest {manifest.hex()} is damaged or missing"
    try:
        chunks = context.manifest(manifest).chunks()
    except DamagedStoreError as error:
        return error.message
    missing = [chunk.hex() for chunk in sorted(chunks | {record}) if chunk not in tally.sound]
    if not missing:
        return ""
    return f"{len(missing)} of its objects are damaged or missing: {', '.join(missing[:3])}"


def _find_strays(context: Context, tally: _Tally, known: set[str]) -> None:
    """Note packs that the catalog does not know: an add that was interrupted leaves them."""
    try:
        found = {path.stem: path for path in context.packs.glob("*/*.pack")}
    except OSError as error:
        raise InputError(f"{context.packs} cannot be listed: {error.strerror}") from error
    for name in sorted(set(found) - known):
        size = found[name].stat().st_size
        detail = f"{size} bytes that nothing refers to; harmless"
        tally.notes.append(Finding("unreferenced-pack", name, detail))
