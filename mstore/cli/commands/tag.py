"""``mstore tag``."""

from typing import Annotated

import typer

from mstore.cli.completion import complete_reference
from mstore.cli.pages.checkpoints import checkpoint_page
from mstore.cli.registry import command
from mstore.cli.session import Session


@command("tag", examples=("mstore tag mnist@1200 baseline",))
def tag(
    session: Session,
    reference: Annotated[
        str,
        typer.Argument(metavar="REF", help="A checkpoint.", autocompletion=complete_reference),
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The tag.")],
) -> None:
    """Give a checkpoint a name within its model.

    A tag that another checkpoint of the model has moves.
    """
    with session.store() as store:
        checkpoint = store.tag(reference, name)
    session.show(checkpoint_page(checkpoint))
