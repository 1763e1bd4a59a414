"""Remove bytes that nothing needs, and store older steps as differences to newer ones.

A command publishes its pack inside the write transaction that makes it visible. Whoever holds the
write lock therefore sees either no file of that pack or its row, so that a pack without a row is
one whose command died, whatever else is running.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone

from mstore import disk
from mstore.catalog import objects
from mstore.catalog.engine import reading, writing
from mstore.catalog.liveness import pruned_lately
from mstore.domain.upkeep import GcReport
from mstore.errors import DamagedStoreError, UsageError
from mstore.objects.packs import Entry
from mstore.ops.context import Context
from mstore.ops.gc_pack import PackRewriter, Rewriting, Stored, stored_as
from mstore.ops.gc_plan import ALONE, Wish, plan
from mstore.ops.reclaim import reclaim

GRACE = 3600.0
"""Seconds that a file stays after it was last written; whoever restores a backup has so long."""

_SAMPLES = 48
"""Chunks that a dry run tries."""


def collect(context: Context, *, dry_run: bool = False, grace: float = GRACE) -> GcReport:
    """Remove what no row of the catalog refers to and nothing live is made of; pack the rest.

    It may run while others add, prune, export and read, and be stopped at any time; the next one
    goes on.

    Args:
        context: the store.
        dry_run: only say what would be removed, and estimate what would be saved.
        grace: seconds; what was written or pruned later than so long ago stays.

    Raises:
        StoreLockedError: another one is at it.
        UsageError: ``grace`` is negative.
        SystemIOError: a file cannot be written or removed.
    """
    if grace < 0:
        raise UsageError(f"a grace period is 0 or more seconds, not {grace:g}")
    report = _remove(context, dry_run=dry_run, grace=grace)
    if dry_run:
        found = _estimate(context, plan(context))
    else:
        disk.sweep(context.tmp)
        disk.sweep(context.root.parent)
        with disk.os_errors("packing failed"), disk.locked(context.packs):
            found = _pack(context, plan(context))
            report = _drop(context, report, grace)
    if dry_run:
        report = _drop(context, report, grace)
    return replace(
        report,
        rewritten=found.packs,
        deltas=found.deltas,
        before=found.before,
        after=found.after,
        damaged=tuple(found.damaged),
    )


def _drop(context: Context, report: GcReport, grace: float) -> GcReport:
    """Drop what nothing live is made of, after packing has let go of bases that were alone."""
    before = datetime.fromtimestamp(time.time() - grace, timezone.utc)
    since = before.isoformat(timespec="microseconds").replace("+00:00", "Z")
    with reading(context.engine) as connection:
        report = replace(report, lately=pruned_lately(connection, since))
    try:
        done = reclaim(context, pruned_before=since, dry_run=report.dry_run)
    except DamagedStoreError as error:
        return replace(report, blocked=error.message)
    return replace(report, reclaimed=tuple(done.packs), dropped=done.objects, freed=done.bytes)


def _remove(context: Context, *, dry_run: bool, grace: float) -> GcReport:
    before = time.time() - grace
    removed: list[str] = []
    size = young = 0
    with (
        disk.os_errors("removing what nothing refers to failed"),
        writing(context.engine) as connection,
    ):
        known = {name for name, _ in objects.all_packs(connection)}
        for path in sorted(context.packs.glob("*/*.pack")):
            if path.stem in known:
                continue
            status = path.stat()
            if status.st_mtime > before:
                young += 1
                continue
            removed.append(path.stem)
            size += status.st_size
            if not dry_run:
                disk.remove_file(path)
                disk.sync_directory(path.parent)
    return GcReport(tuple(removed), size, young, dry_run)


def _pack(context: Context, wishes: Mapping[bytes, Wish]) -> Rewriting:
    places = _places(context, wishes)
    names = list(dict.fromkeys(places[key][0] for key in reversed(list(wishes)) if key in places))
    with reading(context.engine) as connection:
        sizes = dict(objects.all_packs(connection))
    rewriter = PackRewriter(context, wishes)
    context.progress.start("packing", sum(sizes.get(name, 0) for name in names))
    try:
        for name in names:  # the oldest first: their bases are still as they were
            rewriter.rewrite(name)
    finally:
        context.progress.finish()
    return rewriter.done


def _places(context: Context, wishes: Mapping[bytes, Wish]) -> dict[bytes, tuple[str, Entry]]:
    keys = list(wishes)
    found: dict[bytes, tuple[str, Entry]] = {}
    for at in range(0, len(keys), 500):
        found.update(context.locate(keys[at : at + 500]))
    return found


def _estimate(context: Context, wishes: Mapping[bytes, Wish]) -> Rewriting:
    """Estimate what packing would save, from a sample."""
    places = _places(context, wishes)
    every = [key for key in wishes if key in places]
    whole = sum(places[key][1].stored for key in every)
    before = after = deltas = tried = 0
    for key in every[:: max(1, len(every) // _SAMPLES)]:
        wish, entry = wishes[key], places[key][1]
        try:
            with context.reader() as reader:
                base = None if wish.base == ALONE else reader.read(wish.base)
                data = reader.read(key)
                stored = stored_as(wish, Stored(entry, data[: entry.stored]), data, base)
        except DamagedStoreError:
            continue
        tried += 1
        before += entry.stored
        after += len(stored.data)
        deltas += stored.entry.base is not None
    with reading(context.engine) as connection:
        packs = len(objects.packs_of(connection, every))
    return Rewriting(
        packs=packs,
        before=whole,
        after=round(whole * after / before) if before else whole,
        deltas=round(len(every) * deltas / tried) if tried else 0,
    )
