"""``mstore log``."""

from typing import Annotated

import typer

from mstore.cli.completion import complete_reference
from mstore.cli.pages.versions import deployments_page, events_page
from mstore.cli.registry import command
from mstore.cli.session import Session


@command("log", examples=("mstore log", "mstore log mnist --limit 20", "mstore log --deployed"))
def log(
    session: Session,
    reference: Annotated[
        str | None,
        typer.Argument(metavar="[REF]", help="Only of this.", autocompletion=complete_reference),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most so many, the newest.")
    ] = None,
    deployed: Annotated[
        bool,
        typer.Option("--deployed", help="Only what came into a serving directory, or left it."),
    ] = False,
) -> None:
    """Show what happened: added, exported, promoted, rolled back.

    The newest event comes first.
    """
    with session.store() as store:
        if deployed:
            page = deployments_page(store.deployments(reference, limit=limit))
        else:
            page = events_page(store.log(reference, limit=limit))
    session.show(page)
