"""Make the catalog again from the ledger and the packs.

The new catalog is made in the working directory. Where an old one can be read, its write lock is
held all the while, so that nobody writes what would be lost, and its rows are exchanged in that
transaction; processes that have it open go on. One that is lost or damaged is put aside, and the
new one takes its name.
"""

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import sqlalchemy as sa

from mstore import disk
from mstore.catalog import checkpoints as queries
from mstore.catalog import journal, objects, tables
from mstore.catalog.engine import connect, reading, writing
from mstore.catalog.ledger_file import History, read_history
from mstore.catalog.replay import copy_rows, replay
from mstore.catalog.schema import ensure_current
from mstore.domain.progress import NoProgress, Progress
from mstore.domain.records import Finding
from mstore.domain.upkeep import RebuildReport
from mstore.errors import DamagedFileError, DamagedStoreError, SystemIOError
from mstore.objects.packs import pack_path, read_index
from mstore.ops.adopt import adopt
from mstore.ops.context import CATALOG, Context, now
from mstore.ops.stored import tensor_table
from mstore.ops.strays import read_strays

LOST = "lost"
"""Directory of a store for catalogs that another one has taken the place of."""

_SIDECARS = ("-wal", "-shm", "-journal")


@dataclass
class _Tally:
    adopted: tuple[str, ...] = ()
    findings: list[Finding] = field(default_factory=list)
    packs: int = 0


def rebuild(root: Path, progress: Progress | None = None) -> RebuildReport:
    """Make the catalog of the store at ``root`` again.

    Raises:
        StoreLockedError: another process is at it, or writes to the old catalog.
        StoreVersionError: the store was written by a newer mstore.
        SystemIOError: the operating system refused.
    """
    disk.sweep(root / "tmp")
    with (
        disk.os_errors(f"the catalog of {root} cannot be made again"),
        disk.locked(root),
        disk.work_directory(root / "tmp") as directory,
        ExitStack() as stack,
    ):
        engine = connect(directory / CATALOG, ledger=root)
        stack.callback(engine.dispose)
        old = _hold(root, stack)
        history = read_history(root / journal.FILE)
        if old is not None:  # what stands behind this was never committed
            marks = [mark for mark in history.marks if mark.number <= old.position.number]
            history = History(marks)
        context = Context(root, engine, progress or NoProgress())
        tally = _Tally()
        _fill(context, history, tally, adopting=old is None)
        report = _report(engine, history, tally)
        if old is not None:
            with reading(engine) as made:
                copy_rows(made, old.connection)
            return report
        with writing(engine, journaled=False):  # waits for whoever still reads it
            pass
        engine.dispose()
        return replace(report, kept=_put_in_place(root, directory / CATALOG))


@dataclass(frozen=True, slots=True)
class _Old:
    """A catalog that can be read: its write lock, and where it stands in the ledger."""

    connection: sa.Connection
    position: journal.Position


def _hold(root: Path, stack: ExitStack) -> _Old | None:
    """Take the write lock of the catalog and complete its ledger; None where it is of no use."""
    path = root / CATALOG
    if not path.is_file() or not path.stat().st_size:
        return None
    engine = connect(path)
    stack.callback(engine.dispose)
    try:
        ensure_current(engine)
        with reading(engine) as connection:
            lines = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
        if lines != ["ok"]:
            return None
        connection = stack.enter_context(writing(engine, journaled=False))
        return _Old(connection, journal.settle(connection, root))
    except (DamagedStoreError, SystemIOError):  # damaged, or older than its ledger
        return None


def _fill(context: Context, history: History, tally: _Tally, *, adopting: bool) -> None:
    """Fill the new catalog."""
    path = context.root / journal.FILE
    with writing(context.engine, journaled=False) as connection:
        dropped = replay(connection, path, history)
        _index_packs(context, connection, tally)
    if history.damaged or dropped:
        detail = f"{history.damaged} entries cannot be read, {dropped} rows depended on them"
        tally.findings.append(Finding("ledger", journal.FILE, detail))
    with reading(context.engine) as connection:
        found = queries.manifests(connection)
    with writing(context.engine, journaled=False) as connection:
        for seq, id_, manifest in found:
            marks = _fingerprints(context, manifest, id_, tally)
            queries.insert_fingerprints(connection, seq, marks)
    if adopting:
        sound = bool(history.marks) and not history.damaged
        strays = read_strays(context, after=history.marks[-1].at if sound else None)
        if strays:
            with writing(context.engine) as connection:
                adopt(context, connection, strays, tally)
    if history.damaged:
        with writing(context.engine, journaled=False) as connection:
            journal.begin_anew(connection, context.root)


def _index_packs(context: Context, connection: sa.Connection, tally: _Tally) -> None:
    """Take the objects of all packs into the catalog, whole ones before differences.

    Where a pack has an old copy of an object as well, the whole one counts, so that no two objects
    can end up as the base of each other.
    """
    packs = objects.pack_keys(connection)
    sizes = dict(objects.all_packs(connection))
    context.progress.start("reading the packs' indexes", 2 * sum(sizes.values()))
    lost: set[str] = set()
    try:
        for deltas in (False, True):
            for seq, name in packs:
                try:
                    entries = () if name in lost else read_index(pack_path(context.packs, name))
                except DamagedStoreError as error:
                    lost.add(name)
                    tally.findings.append(Finding("pack", name, error.message))
                else:
                    found = (e for e in entries if (e.base is not None) is deltas)
                    objects.add_objects(connection, seq, found)
                context.progress.advance(sizes[name])
    finally:
        context.progress.finish()


def _fingerprints(context: Context, manifest: bytes, id_: str, tally: _Tally) -> list[int]:
    try:
        table = tensor_table(context, context.manifest(manifest))
    except (DamagedStoreError, DamagedFileError) as error:
        tally.findings.append(Finding("checkpoint", id_, error.message))
        return []
    return [tensor.fingerprint for tensor in table.values]


def _report(engine: sa.Engine, history: History, tally: _Tally) -> RebuildReport:
    with reading(engine) as connection:
        counts = {
            table.name: connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
            for table in (tables.packs, tables.objects, tables.checkpoints, tables.versions)
        }
        events = connection.scalar(sa.select(sa.func.count()).select_from(tables.events)) or 0
    return RebuildReport(
        entries=len(history.marks),
        **counts,
        events=events,
        adopted=tally.adopted,
        kept=None,
        findings=tuple(tally.findings),
    )


def _put_in_place(root: Path, made: Path) -> str | None:
    """Give the new catalog its name; return where the old one is now, None if there was none.

    The old one goes first: without a catalog the store says what to do, and with the wrong
    ``-wal`` beside it a catalog would be damaged.
    """
    old = [root / CATALOG, *(root / f"{CATALOG}{ending}" for ending in _SIDECARS)]
    there = [path for path in old if path.exists()]
    aside = root / LOST / now().replace(":", "")
    if there:
        disk.make_directory(root / LOST)
        disk.make_directory(aside)
        for path in there:
            disk.rename_new(path, aside / path.name)
        disk.sync_directory(root)
    disk.sync_file(made)
    disk.rename_new(made, root / CATALOG)
    return str(aside) if there else None
