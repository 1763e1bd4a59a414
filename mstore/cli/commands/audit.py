"""``mstore audit``."""

from pathlib import Path
from typing import Annotated

import typer

from mstore.cli.pages.audit import audit_page
from mstore.cli.registry import command
from mstore.cli.session import Session


@command("audit", examples=("mstore audit /models/mnist", "mstore audit /models/mnist/4 --json"))
def audit(
    session: Session,
    path: Annotated[
        Path, typer.Argument(metavar="DIR", help="Serving directory, or one version in it.")
    ],
) -> None:
    """Say which checkpoint is served and whether a byte has changed.

    Changes nothing. Exit status 13 unless every version is proven.
    """
    report = session.audit(path)
    session.show(audit_page(report))
    if not report.proven:
        raise typer.Exit(13)
