"""``mstore promote``."""

from pathlib import Path
from typing import Annotated

import typer

from mstore.cli.completion import complete_version
from mstore.cli.pages.versions import promoted_page
from mstore.cli.registry import command
from mstore.cli.session import Session


@command(
    "promote",
    examples=("mstore promote mnist:4 /models/mnist -m 'best of the sweep'",),
)
def promote(
    session: Session,
    version: Annotated[
        str,
        typer.Argument(
            metavar="VERSION", help="mnist:4, mnist:latest.", autocompletion=complete_version
        ),
    ],
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Serving directory (base path of the model).")
    ],
    message: Annotated[str | None, typer.Option("--message", "-m", help="Why.")] = None,
) -> None:
    """Place a version in a serving directory, whole or not at all."""
    with session.store() as store:
        page = promoted_page(store.promote(version, directory, message=message))
    session.show(page)
