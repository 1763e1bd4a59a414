"""``mstore fsck``."""

from typing import Annotated

import typer

from mstore.cli.pages.upkeep import rebuild_page
from mstore.cli.pages.verify import verify_page
from mstore.cli.registry import command
from mstore.cli.session import Session


@command("fsck", examples=("mstore fsck", "mstore fsck --rebuild"))
def fsck(
    session: Session,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make the catalog again from ledger and packs.")
    ] = False,
) -> None:
    """Check the store, or mend it.

    Without options it is `mstore verify`. With --rebuild it makes a lost or damaged catalog again;
    the old one is kept in .mstore/lost. Exit status 13 when something is damaged or missing.
    """
    if rebuild:
        made = session.rebuild()
        session.show(rebuild_page(made))
        sound = made.complete
    else:
        with session.store() as store:
            report = store.verify()
        session.show(verify_page(report))
        sound = report.clean
    if not sound:
        raise typer.Exit(13)
