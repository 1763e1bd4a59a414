"""``mstore checkout``."""

from pathlib import Path
from typing import Annotated

import typer

from mstore.cli.completion import complete_reference
from mstore.cli.pages.checkpoints import checkout_page
from mstore.cli.registry import command
from mstore.cli.session import Session


@command(
    "checkout",
    examples=("mstore checkout mnist@latest resume", "mstore checkout a3f91c /tmp/ckpt -q"),
)
def checkout(
    session: Session,
    reference: Annotated[
        str,
        typer.Argument(metavar="REF", help="A checkpoint.", autocompletion=complete_reference),
    ],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write its files.")],
) -> None:
    """Write a checkpoint's original files, to resume training.

    They come back bit for bit.
    """
    with session.store() as store:
        page = checkout_page(store.checkout(reference, directory))
    session.show(page)
