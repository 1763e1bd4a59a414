"""``mstore doctor``."""

from pathlib import Path
from typing import Annotated

import typer

from mstore.cli.completion import complete_target
from mstore.cli.pages.lint import doctor_page
from mstore.cli.registry import command
from mstore.cli.session import Session


@command(
    "doctor",
    examples=(
        "mstore doctor prod",
        "mstore doctor /models/mnist --config /models/models.config",
    ),
)
def doctor(
    session: Session,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", help="Target or serving directory.", autocompletion=complete_target
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="The server's models.config."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Let warnings count as errors.")] = False,
) -> None:
    """Say what is wrong with a serving directory, and the cure.

    Looks at the directory as `lint` does, holds every byte against the store, reads the server's
    config file and asks the server, as far as these are known. Changes nothing. Exit status 13 when
    there is an error.
    """
    reports = session.doctor(target, config)
    session.show(doctor_page(reports))
    if any(report.failed(strict=strict) for report in reports):
        raise typer.Exit(13)
