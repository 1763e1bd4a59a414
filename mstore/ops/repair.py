"""Mend what a verification found: good copies from elsewhere, damaged packs put aside.

A new pack takes the sound objects of the damaged ones and every copy that was found. One
transaction puts it in their place; then they are moved to ``quarantine``.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import sqlalchemy as sa

from mstore import disk
from mstore.catalog import checkpoints as queries
from mstore.catalog import damage, journal, objects, programs
from mstore.catalog import versions as ledger
from mstore.catalog.checkpoints import CheckpointRow
from mstore.catalog.engine import reading, writing
from mstore.catalog.versions import VersionRow
from mstore.domain.canonical import canonical
from mstore.domain.upkeep import Damage, Mended, RepairReport, VerifyReport
from mstore.objects.manifest import Manifest
from mstore.objects.packs import CHUNK, MANIFEST, RECORD, PackWriter, pack_path
from mstore.ops.context import Context, now, whoami
from mstore.ops.repair_sources import Copies, places_of_checkpoint, places_of_version
from mstore.ops.verify import verify

QUARANTINE = "quarantine"
"""Directory of a store for packs that were damaged."""


@dataclass
class _Pointers:
    """New manifests and records of what lost its own; None stays as it is."""

    checkpoints: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    versions: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)


def repair(
    context: Context,
    stores: Sequence[Context],
    directories: Sequence[Path],
    *,
    dry_run: bool = False,
) -> RepairReport:
    """Verify the whole store and mend what can be mended.

    Args:
        context: the store.
        stores: others to take good copies from.
        directories: where original files or published versions may be, beside where they were.
        dry_run: only say what would come of it.

    Raises:
        DamagedStoreError: the catalog itself cannot be read.
        SystemIOError: the operating system refused.
    """
    report = verify(context)
    disk.sweep(context.tmp)
    with (
        disk.os_errors("the repair failed"),
        disk.work_directory(context.tmp) as work,
        ExitStack() as stack,
    ):
        writer = PackWriter(work)
        stack.callback(writer.close)
        made = _Repair(context, report, Copies(context, writer, _wanted(report)))
        return made.run(stores, directories, dry_run=dry_run)


_KINDS = {"chunk": CHUNK, "manifest": MANIFEST, "record": RECORD}


def _wanted(report: VerifyReport) -> dict[bytes, int]:
    return {bytes.fromhex(i.id): _KINDS[i.kind] for i in report.damaged if i.kind in _KINDS}


@dataclass
class _Repair:
    context: Context
    report: VerifyReport
    copies: Copies
    pointers: _Pointers = field(default_factory=_Pointers)
    dropped: list[str] = field(default_factory=list)

    def run(
        self, stores: Sequence[Context], directories: Sequence[Path], *, dry_run: bool
    ) -> RepairReport:
        packs = sorted({i.pack for i in self.report.damaged if i.pack and i.base is None})
        for other in stores:
            self.copies.from_store(other)
        with reading(self.context.engine) as connection:
            checkpoints = queries.listing(connection, superseded=True)
            versions = ledger.find_versions(connection)
        hurt = self._hurt()
        for row in checkpoints:
            if row.checkpoint.id in hurt:
                self._checkpoint(row, directories)
        for version in versions:
            if f"{version.version.model}:{version.version.version}" in hurt:
                self._version(version, directories)
        self.copies.from_bases()
        renewed = {*self._renewed_records(), *self._renewed_manifests()}
        lost = self.copies.lacking() - renewed
        self.dropped = sorted({id_ for i in self._damaged(lost) for id_ in i.programs})
        if self.report.damaged and not dry_run:
            self._commit(packs)
        broken = any(finding.kind == "ledger" for finding in self.report.findings)
        if broken and not dry_run:
            with writing(self.context.engine) as connection:
                journal.begin_anew(connection, self.context.root)
        return self._report(lost, packs, ledger_anew=broken, dry_run=dry_run)

    def _hurt(self) -> set[str]:
        return {name for i in self.report.damaged for name in (*i.checkpoints, *i.versions)}

    def _damaged(self, keys: set[bytes]) -> list[Damage]:
        return [i for i in self.report.damaged if i.kind != "pack" and bytes.fromhex(i.id) in keys]

    def _checkpoint(self, row: CheckpointRow, directories: Sequence[Path]) -> None:
        manifest = row.manifest
        for place in places_of_checkpoint(row, directories):
            if not self._needs(row.manifest) and manifest == row.manifest:
                break
            found = self.copies.from_checkpoint(row, place)
            if found is not None:
                manifest = self._put(found)
        self.pointers.checkpoints[row.seq] = (manifest, self._record(row.record, row, manifest))

    def _version(self, row: VersionRow, directories: Sequence[Path]) -> None:
        manifest = row.manifest
        for place in places_of_version(self.context, row, directories):
            if row.manifest in self.copies.lacking():
                whole = self.copies.manifest_of_version(row, place)
                manifest = manifest if whole is None else self._put(whole)
            elif row.manifest not in self.copies.wanted:
                self.copies.from_version(self.context.manifest(row.manifest), place)
        self.pointers.versions[row.seq] = (manifest, self._record(row.record, row, manifest))

    def _needs(self, manifest: bytes) -> bool:
        """Return whether anything is lacking of what a manifest names, itself included."""
        lacking = self.copies.lacking()
        if manifest in self.copies.wanted:
            return manifest in lacking or bool(lacking)
        return bool(self.context.manifest(manifest).chunks() & lacking)

    def _put(self, manifest: Manifest) -> bytes:
        return self.copies.writer.add(MANIFEST, manifest.to_bytes()).id

    def _record(self, record: bytes, row: CheckpointRow | VersionRow, manifest: bytes) -> bytes:
        """Return a record like the lost one: the catalog holds what it said."""
        if record not in self.copies.lacking():
            return record
        is_checkpoint = isinstance(row, CheckpointRow)
        kind = "checkpoint" if is_checkpoint else "version"
        body = (row.checkpoint if isinstance(row, CheckpointRow) else row.version).to_json()
        for derived in (
            ("versions", "superseded", "stored_bytes", "pruned_at") if is_checkpoint else ()
        ):
            del body[derived]
        text: dict[str, object] = {
            "type": f"mstore/{kind}/1",
            kind: body,
            "manifest": manifest.hex(),
            "restored": record.hex(),
            "by": whoami(),
            "parent": None,
        }
        more: dict[str, object] = {"sources": {}, "message": None}
        text |= {"replace": False} if is_checkpoint else more
        return self.copies.writer.add(RECORD, canonical(text)).id

    def _renewed_records(self) -> set[bytes]:
        """Return the records that need no copy: made anew, or told by the ledger as well."""
        kept = {key for i in self.report.damaged for key in self._keys(i) if i.programs}
        return {
            key for key, kind in self.copies.wanted.items() if kind == RECORD and key not in kept
        }

    @staticmethod
    def _keys(item: Damage) -> list[bytes]:
        return [] if item.kind == "pack" else [bytes.fromhex(item.id)]

    def _renewed_manifests(self) -> set[bytes]:
        with reading(self.context.engine) as connection:
            rows = [*queries.listing(connection, superseded=True)]
            made = ledger.find_versions(connection)
        old = {row.manifest for row in rows if self._moved(self.pointers.checkpoints, row)}
        return old | {row.manifest for row in made if self._moved(self.pointers.versions, row)}

    @staticmethod
    def _moved(pointers: dict[int, tuple[bytes, bytes]], row: CheckpointRow | VersionRow) -> bool:
        return row.seq in pointers and pointers[row.seq][0] != row.manifest

    def _commit(self, packs: Sequence[str]) -> None:
        writer = self.copies.writer
        rotten = set(self.copies.wanted)
        with self.context.reader() as reader:
            for name in packs:
                with reading(self.context.engine) as connection:
                    rows = objects.of_pack(connection, name)
                for key, row in rows.items():
                    if key not in rotten:
                        writer.add(row.kind, reader.read(key), id_=key)
        name = writer.seal()
        with writing(self.context.engine) as connection:
            if writer.entries:
                writer.publish(self.context.packs)
            objects.forget_packs(connection, packs)
            if writer.entries:
                entries = writer.entries.values()
                objects.add_pack(connection, name, writer.size, entries, now())
            damage.forget(connection, damage.noted(connection))
            self._point(connection)
        self._quarantine(packs)

    def _point(self, connection: sa.Connection) -> None:
        for seq, (manifest, record) in self.pointers.checkpoints.items():
            queries.point(connection, seq, manifest=manifest, record=record)
        for seq, (manifest, record) in self.pointers.versions.items():
            ledger.point(connection, seq, manifest=manifest, record=record)
        programs.drop_programs(connection, self.dropped)

    def _quarantine(self, packs: Sequence[str]) -> None:
        aside = self.context.root / QUARANTINE
        for name in packs:
            path = pack_path(self.context.packs, name)
            if path.exists():
                disk.make_directory(aside)
                disk.replace_file(path, aside / path.name)
                disk.sync_directory(path.parent)

    def _report(
        self, lost: set[bytes], packs: Sequence[str], *, ledger_anew: bool, dry_run: bool
    ) -> RepairReport:
        items = self._damaged(lost)
        needed = [replace(item, programs=()) for item in items if item.checkpoints or item.versions]
        renewed = {bytes.fromhex(i.id): i for i in self.report.damaged if i.kind != "pack"}
        mended = [
            Mended(item.id, item.kind, self.copies.origins.get(key, "the catalog"))
            for key, item in sorted(renewed.items())
            if key not in lost
        ]
        advice = [step for step in self.report.advice if "--rebuild" in step]
        if needed:
            advice.append(
                "name a store or a directory that has these files: mstore fsck --repair --from PATH"
            )
        return RepairReport(
            mended=tuple(mended),
            lost=tuple(needed),
            quarantined=tuple(packs),
            dropped=tuple(self.dropped),
            ledger=ledger_anew,
            advice=tuple(advice),
            dry_run=dry_run,
        )
