"""``mstore rollback``."""

from typing import Annotated

import typer

from mstore.cli.completion import complete_target
from mstore.cli.pages.targets import rollback_page
from mstore.cli.registry import command
from mstore.cli.session import Session
from mstore.domain.servers import WAIT


@command(
    "rollback",
    examples=("mstore rollback prod -m 'wrong labels'", "mstore rollback /models/mnist --to 3"),
)
def rollback(
    session: Session,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", help="Target or directory.", autocompletion=complete_target
        ),
    ],
    to: Annotated[
        int | None, typer.Option("--to", min=1, help="Version. Default: the one live before.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Which, where the target has several.")
    ] = None,
    alias: Annotated[str | None, typer.Option("--alias", help="Name the version gets.")] = None,
    message: Annotated[str | None, typer.Option("--message", "-m", help="Why.")] = None,
    wait: Annotated[
        float,
        typer.Option("--wait", metavar="SECONDS", min=0, help="How long its server may take."),
    ] = WAIT,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not ask the target's server.")
    ] = False,
) -> None:
    """Make an earlier version the live one again.

    A server serves the highest number, so the higher ones leave the directory, after the earlier
    version is there, complete and checked. They stay in the store. Where the target has a server,
    it is asked whether it serves that version.
    """
    with session.store() as store:
        page = rollback_page(
            store.rollback(
                target,
                to=to,
                model=model,
                message=message,
                alias=alias,
                wait=None if no_wait else wait,
            )
        )
    session.show(page)
