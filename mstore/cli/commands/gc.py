"""``mstore gc``."""

from typing import Annotated

import typer

from mstore.cli.pages.upkeep import gc_page
from mstore.cli.registry import command
from mstore.cli.session import Session


@command("gc", examples=("mstore gc --dry-run", "mstore gc"))
def gc(
    session: Session,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only say what would come of it.")
    ] = False,
    grace: Annotated[
        float | None,
        typer.Option("--grace", metavar="SECONDS", min=0, help="What is younger stays. 3600."),
    ] = None,
) -> None:
    """Remove bytes that nothing refers to, and pack the others.

    Commands that died leave such bytes, and pruned checkpoints do; what a checkpoint, version or
    program needs stays. Older steps of a run are stored as differences to newer ones, and come back
    bit for bit. It may run while others add, prune, export and read, and be stopped at any time.
    """
    with session.store() as store:
        page = gc_page(store.gc(dry_run=dry_run, grace=grace))
    session.show(page)
