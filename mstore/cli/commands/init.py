"""``mstore init``."""

from pathlib import Path
from typing import Annotated

import typer

from mstore.cli.pages.stores import store_page
from mstore.cli.registry import command
from mstore.cli.session import Session


@command("init", examples=("mstore init", "mstore init /data/team"))
def init(
    session: Session,
    directory: Annotated[
        Path | None, typer.Argument(help="Where to make .mstore; the working directory.")
    ] = None,
) -> None:
    """Make a store.

    Doing it again changes nothing.
    """
    from mstore.store import Store  # noqa: PLC0415 - loads SQLAlchemy

    with Store.init(directory or session.settings.store_path() or Path.cwd()) as store:
        session.show(store_page(str(store.path), created=store.created))
