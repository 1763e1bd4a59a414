"""``mstore fsck``."""

from typing import Annotated

import typer

from mstore.cli.commands.verify import ResumeOption, SubsetOption, check
from mstore.cli.pages.upkeep import rebuild_page
from mstore.cli.registry import command
from mstore.cli.session import Session


@command("fsck", examples=("mstore fsck", "mstore fsck --rebuild"))
def fsck(
    session: Session,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make the catalog again from ledger and packs.")
    ] = False,
    subset: SubsetOption = None,
    resume: ResumeOption = False,
) -> None:
    """Check the store, or mend it.

    Without options it is `mstore verify`. With --rebuild it makes a lost or damaged catalog again;
    the old one is kept in .mstore/lost. Exit status 13 when something is damaged or missing.
    """
    if not rebuild:
        check(session, subset, resume=resume)
        return
    made = session.rebuild()
    session.show(rebuild_page(made))
    if not made.complete:
        raise typer.Exit(13)
