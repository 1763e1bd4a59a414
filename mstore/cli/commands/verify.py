"""``mstore verify``."""

from typing import Annotated

import typer

from mstore.cli.pages.verify import verify_page
from mstore.cli.registry import command
from mstore.cli.session import Session
from mstore.cli.values import subset_of

SubsetOption = Annotated[
    str | None,
    typer.Option(
        "--read-data-subset", metavar="N/T", help="Read only the N-th of T parts of the data."
    ),
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on where the last verification was stopped.")
]


@command(
    "verify",
    examples=("mstore verify", "mstore verify --json", "mstore verify --read-data-subset 1/7"),
)
def verify(session: Session, subset: SubsetOption = None, resume: ResumeOption = False) -> None:
    """Check the structure and every byte of the store.

    Lists what is damaged, what needs it and what to do. Changes nothing, but adding the same files
    again then replaces what was found damaged. Exit status 13 when something is damaged or missing.
    """
    check(session, subset, resume=resume)


def check(session: Session, subset: str | None, *, resume: bool) -> None:
    """Verify the store and show what was found.

    Raises:
        typer.Exit: something is damaged or missing.
        UsageError: ``subset`` is no ``N/T``.
    """
    with session.store() as store:
        report = store.verify(subset=subset_of(subset), resume=resume)
    session.show(verify_page(report))
    if not report.clean:
        raise typer.Exit(13)
