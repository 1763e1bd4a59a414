"""``mstore fsck``."""

from pathlib import Path
from typing import Annotated

import typer

from mstore.cli.commands.verify import ResumeOption, SubsetOption, check
from mstore.cli.pages.upkeep import rebuild_page, repair_page
from mstore.cli.registry import command
from mstore.cli.session import Session
from mstore.errors import UsageError


@command(
    "fsck",
    examples=(
        "mstore fsck",
        "mstore fsck --rebuild",
        "mstore fsck --repair --from /backup/project --dry-run",
    ),
)
def fsck(
    session: Session,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make the catalog again from ledger and packs.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Take good copies of what is damaged.")
    ] = False,
    sources: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            metavar="PATH",
            help="Another store, or a directory of original files or versions, for --repair.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Say what --repair would do.")
    ] = False,
    subset: SubsetOption = None,
    resume: ResumeOption = False,
) -> None:
    """Check the store, or mend it.

    Without options it is `mstore verify`. With --repair it takes good copies of what is damaged
    from the original files, from where versions are published, or from what --from names; damaged
    packs are put aside in .mstore/quarantine. With --rebuild it makes a lost or damaged catalog
    again; the old one is kept in .mstore/lost. Exit status 13 when something is still damaged.
    """
    if (sources or dry_run) and not repair:
        raise UsageError("--from and --dry-run belong to --repair")
    if rebuild and repair:
        raise UsageError("--rebuild and --repair are two things", hint="rebuild first, then repair")
    if rebuild:
        made = session.rebuild()
        session.show(rebuild_page(made))
        sound = made.complete
    elif repair:
        with session.store() as store:
            mended = store.repair(sources=sources or (), dry_run=dry_run)
        session.show(repair_page(mended))
        sound = mended.clean
    else:
        check(session, subset, resume=resume)
        return
    if not sound:
        raise typer.Exit(13)
