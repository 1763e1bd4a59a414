"""``mstore show``."""

from typing import Annotated

import typer

from mstore.cli.completion import complete_reference
from mstore.cli.pages.show import show_page
from mstore.cli.registry import command
from mstore.cli.session import Session
from mstore.domain.programs import Program


@command(
    "show",
    examples=("mstore show mnist@best", "mstore show a3f91c --tensors", "mstore show mnist:4"),
)
def show(
    session: Session,
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REF",
            help="A checkpoint, a version or a program.",
            autocompletion=complete_reference,
        ),
    ],
    tensors: Annotated[bool, typer.Option("--tensors", help="Every tensor as well.")] = False,
) -> None:
    """Show all that is known of a checkpoint, a version or a program."""
    with session.store() as store:
        record = store.show(reference)
        program = isinstance(record, Program)
        table = store.tensors(reference) if tensors and not program else None
    session.show(show_page(record, table))
