"""Drop objects that nothing live is made of, by writing packs again without them.

What is live is found out without a lock, and a pack is written beside the old one. Then, with the
write lock held, whatever became live meanwhile is looked at, and one transaction puts the new pack
in the place of the old one, whose file is removed afterwards. Whoever relied on an object that went
stores it again or ends in an error (`mstore.ops.reliance`).

The base of a difference stays as long as the difference does, so that what can be found in the
catalog can be read.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from mstore import disk
from mstore.catalog import checkpoints as queries
from mstore.catalog import damage, liveness, objects
from mstore.catalog.engine import reading, writing
from mstore.catalog.liveness import Root
from mstore.catalog.objects import ObjectRow
from mstore.errors import DamagedStoreError
from mstore.objects.manifest import Manifest
from mstore.objects.packs import RECORD, PackWriter, check, pack_path, size_with
from mstore.ops.context import Context, entry_of, now

WORTH = 10
"""A pack is written again where what would go is at least one part in so many of it."""

_TRIES = 5
"""How often a store is looked at again in which others make things live all the while."""


@dataclass(frozen=True, slots=True)
class Victim:
    """A pack that is to be written again, or removed where nothing in it is live.

    Attributes:
        name: its name.
        size: its bytes.
        rows: its objects, as the catalog has them.
        dead: ids of those that go.
    """

    name: str
    size: int
    rows: Mapping[bytes, ObjectRow]
    dead: frozenset[bytes]

    @property
    def kept(self) -> list[ObjectRow]:
        """Objects that stay, in the order of their places."""
        rows = (row for key, row in self.rows.items() if key not in self.dead)
        return sorted(rows, key=lambda row: row.offset)

    @property
    def freed(self) -> int:
        """Bytes of the file that would go."""
        kept = self.kept
        return self.size - (size_with(row.stored for row in kept) if kept else 0)


@dataclass(slots=True)
class Reclaimed:
    """What came of it.

    Attributes:
        packs: names of the packs that were written again or removed.
        objects: how many objects went.
        bytes: how many bytes are free.
    """

    packs: list[str] = field(default_factory=list)
    objects: int = 0
    bytes: int = 0


def reclaim(context: Context, *, pruned_before: str, dry_run: bool) -> Reclaimed:
    """Drop what nothing live is made of; nobody else may write packs again meanwhile.

    Args:
        context: the store.
        pruned_before: time, ISO 8601 in UTC; a checkpoint that was pruned later is live still.
        dry_run: only count.

    Raises:
        DamagedStoreError: a manifest of something live cannot be read, so that nobody knows what
            it needs; nothing more is dropped.
        SystemIOError: the operating system refused.
    """
    return _Reclaiming(context, pruned_before, dry_run=dry_run).run()


@dataclass
class _Reclaiming:
    context: Context
    pruned_before: str
    dry_run: bool
    live: set[bytes] = field(default_factory=set)
    seen: set[Root] = field(default_factory=set)
    differences: dict[bytes, set[bytes]] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)
    done: Reclaimed = field(default_factory=Reclaimed)

    def run(self) -> Reclaimed:
        for _ in range(_TRIES):
            self._look()
            count, whole = len(self.done.packs), True
            # The oldest first: what is a difference goes before its base, in one pass.
            for victim in self._victims():
                whole &= self._take(victim)
            if self.dry_run or (whole and len(self.done.packs) == count):
                break
        return self.done

    def _look(self) -> None:
        """Find out what is live, and which objects are differences to which."""
        with reading(self.context.engine) as connection:
            self._read(connection)
            self.differences = defaultdict(set)
            for key, base in objects.bases(connection).items():
                self.differences[base].add(key)

    def _read(self, connection: sa.Connection) -> None:
        """Add what belongs to roots that were not seen yet to what is live."""
        fresh = liveness.roots(connection, pruned_after=self.pruned_before) - self.seen
        if not fresh:
            return
        progress = self.context.progress
        progress.start("finding out what is needed", None)
        try:
            with self.context.reader() as reader:
                for root in fresh:
                    data = reader.read(root.manifest)
                    self.live |= {root.manifest, *root.others, *Manifest.from_bytes(data).chunks()}
                    progress.advance(len(data))
        except DamagedStoreError as error:
            raise DamagedStoreError(
                f"it cannot be told what is needed, so nothing is dropped: {error.message}",
                hint="run: mstore verify; then mstore fsck --repair",
            ) from error
        finally:
            progress.finish()
        self.seen |= fresh

    def _victims(self) -> Iterator[Victim]:
        """Yield the packs that are worth it, the oldest first."""
        with reading(self.context.engine) as connection:
            packs = list(objects.all_packs(connection))
            noted = damage.noted(connection).keys()
        for name, size in packs:
            if name in self.skipped:
                continue
            with reading(self.context.engine) as connection:
                rows = objects.of_pack(connection, name)
            victim = Victim(name, size, rows, self._dead(rows))
            hurt = noted & (rows.keys() - victim.dead)
            if victim.freed * WORTH >= size and not hurt:
                yield victim

    def _dead(self, rows: Mapping[bytes, ObjectRow]) -> frozenset[bytes]:
        """Return the objects of a pack that may go: not live, and no base of what stays."""
        dead = {key for key, row in rows.items() if row.kind != RECORD and key not in self.live}
        while True:
            needed = {key for key in dead if self.differences.get(key, set()) - dead}
            if not needed:
                return frozenset(dead)
            dead -= needed

    def _take(self, victim: Victim) -> bool:
        """Put a new pack in the place of one; False if it is not any more what it was."""
        if not self.dry_run and not self._exchange(victim):
            return False
        self.done.packs.append(victim.name)
        self.done.objects += len(victim.dead)
        self.done.bytes += victim.freed
        for found in self.differences.values():
            found.difference_update(victim.dead)
        return True

    def _exchange(self, victim: Victim) -> bool:
        with disk.work_directory(self.context.tmp) as directory:
            writer = PackWriter(directory)
            try:
                if not self._copy(victim, writer):
                    return False
                made = writer.seal()
                with writing(self.context.engine) as connection:
                    self._read(connection)
                    there = objects.of_pack(connection, victim.name)
                    if there != victim.rows or victim.dead & self.live:
                        return False
                    self._move(connection, victim, made, writer)
            finally:
                writer.close()
        old = pack_path(self.context.packs, victim.name)
        disk.remove_file(old)
        disk.sync_directory(old.parent)
        return True

    def _move(
        self, connection: sa.Connection, victim: Victim, made: str, writer: PackWriter
    ) -> None:
        entries = list(writer.entries.values())
        if entries:
            writer.publish(self.context.packs)
            objects.move_objects(connection, victim.name, made, writer.size, entries, now())
            records = [entry.id for entry in entries if entry.kind == RECORD]
            queries.set_stored_bytes(connection, records, writer.size)
        else:
            objects.forget_packs(connection, [victim.name])
        damage.forget(connection, damage.noted(connection).keys() & victim.dead)

    def _copy(self, victim: Victim, writer: PackWriter) -> bool:
        """Copy what stays as it is stored; False if it is damaged or has gone."""
        try:
            self._copy_rows(victim.kept, pack_path(self.context.packs, victim.name), writer)
        except (DamagedStoreError, FileNotFoundError):
            self.skipped.add(victim.name)
            return False
        return True

    def _copy_rows(
        self, rows: Iterable[ObjectRow], path: "os.PathLike[str]", writer: PackWriter
    ) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            for entry in map(entry_of, rows):
                stored = os.pread(descriptor, entry.stored, entry.offset)
                check(entry, stored)
                writer.add_stored(entry, stored)
        finally:
            os.close(descriptor)
