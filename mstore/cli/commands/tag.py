"""``mstore tag``."""

from typing import Annotated

import typer

from mstore.cli.completion import complete_reference
from mstore.cli.pages.checkpoints import checkpoint_page
from mstore.cli.pages.versions import aliased_page
from mstore.cli.registry import command
from mstore.cli.session import Session


@command("tag", examples=("mstore tag mnist@1200 baseline", "mstore tag mnist:4 production"))
def tag(
    session: Session,
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REF", help="A checkpoint, or a version.", autocompletion=complete_reference
        ),
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The tag, or the alias.")],
) -> None:
    """Give a checkpoint a tag or a version an alias.

    One that another checkpoint or version of the model has moves.
    """
    with session.store() as store:
        if ":" in reference.partition("@")[0]:
            page = aliased_page(store.alias(reference, name), name)
        else:
            page = checkpoint_page(store.tag(reference, name))
    session.show(page)
