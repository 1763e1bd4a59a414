"""``mstore target``."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from mstore.cli.completion import complete_model, complete_target
from mstore.cli.pages.targets import target_page, targets_page
from mstore.cli.registry import command, group
from mstore.cli.session import Session


class ServerPolicy(str, Enum):
    """How a server chooses what to serve."""

    LATEST = "latest"
    SPECIFIC = "specific"


target = group("target", "Name the serving directories that are looked after.")


@command(
    "add",
    within=target,
    examples=(
        "mstore target add prod /models/mnist --model mnist",
        "mstore target add edge /models --model mnist --model bert --keep 3",
        "mstore target add live /models/mnist --model mnist --server localhost:8501",
        "mstore target add main /srv/mnist --model mnist --policy specific --config tfs.config",
    ),
)
def add(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called.")],
    base: Annotated[Path, typer.Argument(metavar="BASE", help="The directory.")],
    model: Annotated[
        list[str],
        typer.Option("--model", help="Model to serve.", autocompletion=complete_model),
    ],
    keep: Annotated[
        int | None, typer.Option("--keep", min=1, help="Versions that stay. Default: all.")
    ] = None,
    server: Annotated[
        str | None,
        typer.Option("--server", metavar="HOST:PORT", help="Its server's REST or gRPC port."),
    ] = None,
    policy: Annotated[
        ServerPolicy, typer.Option("--policy", help="How the server chooses what to serve.")
    ] = ServerPolicy.LATEST,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="The server's models.config, for specific."),
    ] = None,
) -> None:
    """Give a serving directory a name.

    With one --model the directory is that model's base path; with several, each has its own below
    it, DIR/MODEL. With --keep, a promotion retires the oldest versions that nothing needs. With
    --server, promote and rollback ask the server whether it serves what it should.

    With --policy specific, the config FILE tells the server what to serve: promote and rollback
    change the model's entry in it, and nothing else.
    """
    with session.store() as store:
        made = store.add_target(
            name,
            base,
            models=model,
            keep=keep,
            server=server,
            policy="specific" if policy is ServerPolicy.SPECIFIC else "latest",
            config=config,
        )
    session.show(target_page(made, f"made in {made.base}"))


@command("list", within=target, aliases=("ls",), examples=("mstore target list",))
def list_(session: Session) -> None:
    """List targets, and what is live in them."""
    with session.store() as store:
        page = targets_page(store.targets())
    session.show(page)


@command("remove", within=target, aliases=("rm",), examples=("mstore target remove prod",))
def remove(
    session: Session,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Which.", autocompletion=complete_target)
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only say what would be done.")
    ] = False,
) -> None:
    """Forget a target.

    Its directory, what is served from it and its history stay.
    """
    with session.store() as store:
        if dry_run:
            gone, what = store.target(name), "would be forgotten; its directory stays"
        else:
            gone, what = store.remove_target(name), "is forgotten; its directory stays"
    session.show(target_page(gone, what))
