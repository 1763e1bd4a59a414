"""Write one pack again with its chunks stored as was planned.

One transaction puts the new pack in the place of the old one, whose file is removed afterwards.
"""

import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import sqlalchemy as sa

from mstore import disk
from mstore.catalog import checkpoints as queries
from mstore.catalog import damage, objects
from mstore.catalog.engine import reading, writing
from mstore.errors import DamagedStoreError
from mstore.objects import planes
from mstore.objects.packs import (
    CHUNK,
    DELTA,
    MOST_BASES,
    PLANES,
    RAW,
    RECORD,
    Entry,
    PackWriter,
    check,
    pack_path,
)
from mstore.objects.reader import ObjectReader
from mstore.ops.context import Context, entry_of, now
from mstore.ops.gc_plan import ALONE, Wish

_PAYS = 0.95
"""A chunk that is not smaller than this part of itself stays as it is."""

_PAYS_NEWEST = 0.6
"""The same, of the newest checkpoint: what is smaller than this is also read fast."""

_WORTH = 0.01
"""A pack is written again for no less than this part of it."""

_THREADS = 2
_AHEAD = 4


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as it is to be stored: its entry but for the place, and the bytes."""

    entry: Entry
    data: bytes


@dataclass
class Rewriting:
    """What came of it.

    Attributes:
        packs: packs that were written again.
        before: their bytes before.
        after: their bytes now.
        deltas: chunks that became differences.
        damaged: packs that are left as they are since something in them is damaged.
    """

    packs: int = 0
    before: int = 0
    after: int = 0
    deltas: int = 0
    damaged: list[str] = field(default_factory=list)


class PackRewriter:
    """Writes packs again, one at a time."""

    def __init__(self, context: Context, wishes: Mapping[bytes, Wish]) -> None:
        """Store chunks as ``wishes`` says."""
        self._context = context
        self._wishes = wishes
        self.done = Rewriting()

    def rewrite(self, name: str) -> None:
        """Write a pack again if it becomes smaller, or lets go of bases that nothing else needs.

        Raises:
            SystemIOError: the operating system refused.
        """
        with reading(self._context.engine) as connection:
            rows = objects.of_pack(connection, name)
            hurt = damage.noted(connection).keys() & rows.keys()
        if hurt:
            self.done.damaged.append(name)
            return
        with ExitStack() as stack:
            work = stack.enter_context(disk.work_directory(self._context.tmp))
            writer = PackWriter(work)
            stack.callback(writer.close)
            try:
                before = pack_path(self._context.packs, name).stat().st_size
                for stored in self._objects(name, [entry_of(row) for row in rows.values()]):
                    writer.add_stored(stored.entry, stored.data)
            except (DamagedStoreError, FileNotFoundError):
                self._note_damage(name)
                return
            self._finish(name, before, rows, writer, stack)

    def _note_damage(self, name: str) -> None:
        with reading(self._context.engine) as connection:
            there = objects.of_pack(connection, name)
        if there:  # else somebody has moved its objects elsewhere meanwhile
            self.done.damaged.append(name)

    def _finish(
        self,
        name: str,
        before: int,
        rows: Mapping[bytes, objects.ObjectRow],
        writer: PackWriter,
        stack: ExitStack,
    ) -> None:
        tried = {key: self._wishes[key].base for key in rows if key in self._wishes}
        freed = any(row.base not in {None, writer.entries[key].base} for key, row in rows.items())
        if not freed and before - writer.whole < max(_WORTH * before, 1):
            with writing(self._context.engine) as connection:
                objects.note_tried(connection, tried)
            return
        made = writer.seal()
        if made == name:  # nothing but bases changed
            writer = writer.turned(stack.enter_context(disk.work_directory(self._context.tmp)))
            stack.callback(writer.close)
            made = writer.seal()
        with writing(self._context.engine) as connection:
            if not self._may_move(connection, name, rows, writer):
                return
            writer.publish(self._context.packs)
            entries = writer.entries.values()
            objects.move_objects(connection, name, made, writer.size, entries, now())
            objects.note_tried(connection, tried)
            records = [entry.id for entry in entries if entry.kind == RECORD]
            queries.set_stored_bytes(connection, records, writer.size)
        old = pack_path(self._context.packs, name)
        disk.remove_file(old)
        disk.sync_directory(old.parent)
        self.done.packs += 1
        self.done.before += before
        self.done.after += writer.size
        self.done.deltas += sum(
            entry.base not in {None, rows[entry.id].base} for entry in writer.entries.values()
        )

    @staticmethod
    def _may_move(
        connection: sa.Connection,
        name: str,
        rows: Mapping[bytes, objects.ObjectRow],
        writer: PackWriter,
    ) -> bool:
        """Return whether the old pack and all bases are what they were when they were read."""
        if objects.of_pack(connection, name) != rows:
            return False
        made = {entry.id: entry.base for entry in writer.entries.values()}
        return all(_ends(connection, key, made) for key in writer.entries)

    def _objects(self, name: str, entries: list[Entry]) -> Iterator[Stored]:
        """Yield the objects of a pack as they are to be stored, in the order of their places."""
        descriptor = os.open(pack_path(self._context.packs, name), os.O_RDONLY)
        ahead: deque[Future[Stored] | Stored] = deque()
        with (
            ThreadPoolExecutor(_THREADS, thread_name_prefix="mstore-gc") as pool,
            ExitStack() as stack,
        ):
            stack.callback(os.close, descriptor)
            reader = stack.enter_context(self._context.reader())
            for entry in sorted(entries, key=lambda e: e.offset):
                wish = self._wishes.get(entry.id)
                if wish is None or entry.kind != CHUNK or entry.raw > planes.MOST:
                    ahead.append(_as_it_is(descriptor, entry))
                else:
                    kept = _as_it_is(descriptor, entry)
                    ahead.append(pool.submit(stored_as, wish, kept, *_read(reader, entry, wish)))
                self._context.progress.advance(entry.stored)
                if len(ahead) > _AHEAD:
                    yield _result(ahead.popleft())
            while ahead:
                yield _result(ahead.popleft())


def _ends(connection: sa.Connection, key: bytes, made: dict[bytes, bytes | None]) -> bool:
    """Return whether there is an end to the bases of an object, and all of them are sound.

    Args:
        connection: in a transaction.
        key: the object.
        made: the bases of what is being written; those that are looked up are put in.
    """
    base = made[key]
    for _ in range(MOST_BASES):
        if base is None:
            return True
        if base not in made:
            if not objects.known(connection, [base]):
                return False
            made[base] = objects.base_of(connection, base)
        base = made[base]
    return False


def _result(item: "Future[Stored] | Stored") -> Stored:
    return item if isinstance(item, Stored) else item.result()


def _as_it_is(descriptor: int, entry: Entry) -> Stored:
    data = os.pread(descriptor, entry.stored, entry.offset)
    check(entry, data)
    return Stored(entry, data)


def _read(reader: ObjectReader, entry: Entry, wish: Wish) -> tuple[bytes, bytes | None]:
    base = None if wish.base == ALONE else reader.read(wish.base)
    return reader.read(entry.id), base


def stored_as(wish: Wish, kept: Stored, data: bytes, base: bytes | None) -> Stored:
    """Return a chunk in the smallest form that pays.

    Args:
        wish: what is to be tried.
        kept: the chunk as it is stored now; not as the difference to another base than that.
        data: its bytes.
        base: the bytes of its base; None to compress it by itself.
    """
    limit = (_PAYS_NEWEST if wish.newest else _PAYS) * len(data)
    best = kept
    if kept.entry.codec == DELTA:  # its base is to go
        best = Stored(replace(kept.entry, codec=RAW, base=None), data)
    if base is not None:
        packed = planes.encode(data, wish.words, base, wish.base)
        if len(packed) < min(_PAYS * len(data), len(best.data)):
            _ensure_same(planes.decode(packed, len(data), base), data)
            return Stored(replace(kept.entry, codec=DELTA, base=wish.base), packed)
    if best.entry.codec == RAW:
        packed = planes.encode(data, wish.words)
        if len(packed) < limit:
            _ensure_same(planes.decode(packed, len(data)), data)
            return Stored(replace(kept.entry, codec=PLANES, base=None), packed)
    return best


def _ensure_same(found: bytes, data: bytes) -> None:
    """Check what was packed before the original is given up: memory can fail, too."""
    if found != data:
        raise DamagedStoreError("what was packed does not give the same bytes again")
