"""``mstore verify``."""

import typer

from mstore.cli.pages.verify import verify_page
from mstore.cli.registry import command
from mstore.cli.session import Session


@command("verify", examples=("mstore verify", "mstore verify --json"))
def verify(session: Session) -> None:
    """Check every byte of the store; change nothing.

    Exit status 13 when something is damaged or missing.
    """
    with session.store() as store:
        report = store.verify()
    session.show(verify_page(report))
    if not report.clean:
        raise typer.Exit(13)
