"""Remove bytes that nothing refers to: packs that the catalog never took up, unfinished work.

A command publishes its pack inside the write transaction that makes it visible. Whoever holds the
write lock therefore sees either no file of that pack or its row, so that a pack without a row is
one whose command died, whatever else is running.
"""

import time

from mstore import disk
from mstore.catalog import objects
from mstore.catalog.engine import writing
from mstore.domain.upkeep import GcReport
from mstore.errors import UsageError
from mstore.ops.context import Context

GRACE = 3600.0
"""Seconds that a file stays after it was last written; whoever restores a backup has so long."""


def collect(context: Context, *, dry_run: bool = False, grace: float = GRACE) -> GcReport:
    """Remove what no row of the catalog refers to.

    Packs that the catalog knows stay as they are. It may run while others add, export and read.

    Args:
        context: the store.
        dry_run: only say what would be removed.
        grace: seconds; what was written later than so long ago stays.

    Raises:
        UsageError: ``grace`` is negative.
        SystemIOError: a file cannot be removed.
    """
    if grace < 0:
        raise UsageError(f"a grace period is 0 or more seconds, not {grace:g}")
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
    if not dry_run:
        disk.sweep(context.tmp)
        disk.sweep(context.root.parent)
    return GcReport(tuple(removed), size, young, dry_run)
