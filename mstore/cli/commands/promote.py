"""``mstore promote``."""

from typing import Annotated

import typer

from mstore.cli.completion import complete_target, complete_version
from mstore.cli.pages.versions import promoted_page
from mstore.cli.registry import command
from mstore.cli.session import Session
from mstore.domain.servers import WAIT


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
    label: Annotated[
        list[str] | None,
        typer.Option("--label", help="Label of the server's config that moves to it."),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", metavar="REASON", help="Go on although it would be refused."),
    ] = None,
    message: Annotated[str | None, typer.Option("--message", "-m", help="Why.")] = None,
    wait: Annotated[
        float,
        typer.Option("--wait", metavar="SECONDS", min=0, help="How long its server may take."),
    ] = WAIT,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not ask the target's server.")
    ] = False,
    atol: Annotated[
        float, typer.Option("--atol", min=0, help="How far the server's outputs may be off.")
    ] = 1e-5,
    rtol: Annotated[
        float, typer.Option("--rtol", min=0, help="The same, relative to what is expected.")
    ] = 1e-5,
) -> None:
    """Place a version in a target, whole or not at all.

    It is refused where clients of the live version would break (signature), where it would not be
    served (not-live), where it was rolled back from there (rolled-back) or failed there (failed),
    or where its checks have not passed (checks); --allow takes these words.

    Where the target has a server, it has to serve the version and to give what the golden example
    says; else the version is taken out again. Where it has a config file, the file names the
    version next, and its labels move when the server serves it.
    """
    with session.store() as store:
        page = promoted_page(
            store.promote(
                version,
                target,
                message=message,
                alias=alias,
                allow=allow or (),
                labels=label or (),
                wait=None if no_wait else wait,
                atol=atol,
                rtol=rtol,
            )
        )
    session.show(page)
