"""``mstore retire``."""

from typing import Annotated

import typer

from mstore.cli.completion import complete_target
from mstore.cli.pages.versions import promoted_page
from mstore.cli.registry import command
from mstore.cli.session import Session


@command("retire", examples=("mstore retire prod 2 -m 'superseded'",))
def retire(
    session: Session,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", help="Target or directory.", autocompletion=complete_target
        ),
    ],
    version: Annotated[int, typer.Argument(metavar="N", help="Version number.")],
    model: Annotated[
        str | None, typer.Option("--model", help="Which, where the target has several.")
    ] = None,
    message: Annotated[str | None, typer.Option("--message", "-m", help="Why.")] = None,
) -> None:
    """Take a version out of a serving directory.

    It stays in the store. Never the last, the live or an aliased one.
    """
    with session.store() as store:
        page = promoted_page(store.retire(target, version, model=model, message=message))
    session.show(page)
