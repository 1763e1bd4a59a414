"""``mstore lint``."""

from pathlib import Path
from typing import Annotated

import typer

from mstore.cli.pages.lint import lint_page
from mstore.cli.registry import command
from mstore.cli.session import Session


@command(
    "lint",
    examples=(
        "mstore lint /models/mnist",
        "mstore lint /models/mnist/4 --json",
        "mstore lint exported/saved_model --strict",
    ),
)
def lint(
    session: Session,
    path: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A SavedModel, a version, or a serving directory."),
    ],
    strict: Annotated[bool, typer.Option("--strict", help="Let warnings count as errors.")] = False,
) -> None:
    """Say what TensorFlow Serving would refuse, and why.

    Needs no store, no server and no TensorFlow; changes nothing. Exit status 13 when there is an
    error.
    """
    report = session.lint(path)
    session.show(lint_page(report))
    if report.failed(strict=strict):
        raise typer.Exit(13)
