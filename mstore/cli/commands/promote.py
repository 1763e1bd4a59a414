"""``mstore promote``."""

from typing import Annotated

import typer

from mstore.cli.completion import complete_target, complete_version
from mstore.cli.pages.versions import promoted_page
from mstore.cli.registry import command
from mstore.cli.session import Session


@command(
    "promote",
    examples=(
        "mstore promote mnist:4 prod --alias stable -m 'best of the sweep'",
        "mstore promote mnist:4 /models/mnist",
    ),
)
def promote(
    session: Session,
    version: Annotated[
        str,
        typer.Argument(
            metavar="VERSION", help="mnist:4, mnist:latest.", autocompletion=complete_version
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="Target, or serving directory (base path of the model).",
            autocompletion=complete_target,
        ),
    ],
    alias: Annotated[str | None, typer.Option("--alias", help="Name the version gets.")] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", metavar="REASON", help="Go on although it would be refused."),
    ] = None,
    message: Annotated[str | None, typer.Option("--message", "-m", help="Why.")] = None,
) -> None:
    """Place a version in a target, whole or not at all.

    It is refused where clients of the live version would break (signature), where it would not be
    served (not-live), where it was rolled back from there (rolled-back), or where its checks have
    not passed (checks); --allow takes these words.
    """
    with session.store() as store:
        page = promoted_page(
            store.promote(version, target, message=message, alias=alias, allow=allow or ())
        )
    session.show(page)
