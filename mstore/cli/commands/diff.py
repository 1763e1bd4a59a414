"""``mstore diff``."""

from typing import Annotated

import typer

from mstore.cli.completion import complete_reference
from mstore.cli.pages.diff import diff_page
from mstore.cli.registry import command
from mstore.cli.session import Session


@command(
    "diff",
    examples=("mstore diff mnist@1200 mnist@1400", "mstore diff mnist@best mnist@latest --all"),
)
def diff(
    session: Session,
    a: Annotated[
        str,
        typer.Argument(metavar="A", help="The first.", autocompletion=complete_reference),
    ],
    b: Annotated[
        str,
        typer.Argument(metavar="B", help="The second.", autocompletion=complete_reference),
    ],
    unchanged: Annotated[bool, typer.Option("--all", help="Unchanged tensors too.")] = False,
) -> None:
    """Compare two checkpoints tensor by tensor.

    Only their indexes are read, so that size does not matter.
    """
    with session.store() as store:
        page = diff_page(store.diff(a, b), unchanged=unchanged)
    session.show(page)
