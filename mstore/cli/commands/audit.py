"""``mstore audit``."""

from typing import Annotated

import typer

from mstore.cli.completion import complete_target
from mstore.cli.pages.audit import audit_page, audits_page
from mstore.cli.registry import command
from mstore.cli.session import Session


@command(
    "audit",
    examples=(
        "mstore audit /models/mnist",
        "mstore audit prod --at 2026-11-03T09:00",
        "mstore audit /models/mnist/4 --json",
    ),
)
def audit(
    session: Session,
    where: Annotated[
        str | None,
        typer.Argument(
            metavar="[TARGET]",
            help="Target, serving directory, or one version in it. Default: all targets.",
            autocompletion=complete_target,
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="What was there then, as the ledger tells."),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Only of this model.")] = None,
) -> None:
    """Say which checkpoint is served and whether a byte has changed.

    Changes nothing. Exit status 13 unless every version is proven; with --at, which looks at no
    file, 0 when anything is known of that time.
    """
    reports = session.audits(where, at=at, model=model)
    one = where is not None and len(reports) == 1
    session.show(audit_page(reports[0]) if one else audits_page(reports))
    if at is None and not all(report.proven for report in reports):
        raise typer.Exit(13)
