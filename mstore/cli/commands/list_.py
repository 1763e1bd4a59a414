"""``mstore list``."""

from typing import Annotated

import typer

from mstore.cli.completion import complete_model
from mstore.cli.pages.checkpoints import checkpoints_page
from mstore.cli.pages.programs import programs_page
from mstore.cli.pages.targets import deployed_page
from mstore.cli.pages.versions import versions_page
from mstore.cli.registry import command
from mstore.cli.session import Session
from mstore.errors import UsageError


@command(
    "list",
    aliases=("ls",),
    examples=(
        "mstore list",
        "mstore list mnist/lr3e4 --limit 5",
        "mstore list mnist --versions",
        "mstore list --deployed --json",
    ),
)
def list_(
    session: Session,
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL[/RUN]]", help="Only these.", autocompletion=complete_model),
    ] = None,
    run: Annotated[str | None, typer.Option("--run", help="Only this run.")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most so many, the newest.")
    ] = None,
    versions: Annotated[
        bool, typer.Option("--versions", help="Versions, not checkpoints.")
    ] = False,
    deployed: Annotated[bool, typer.Option("--deployed", help="What is in which target.")] = False,
    programs: Annotated[
        bool, typer.Option("--programs", help="Programs that versions are linked with.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Superseded and pruned checkpoints too.")
    ] = False,
) -> None:
    """List checkpoints, versions, deployments or programs, newest first."""
    if versions + deployed + programs > 1:
        raise UsageError(
            "--versions, --deployed and --programs exclude each other", hint="give one of them"
        )
    name, _, run_name = (model or "").partition("/")
    if run and run_name:
        raise UsageError(f"the run is given twice: {model!r} and --run {run}")
    with session.store() as store:
        if versions:
            page = versions_page(store.versions(name or None)[:limit])
        elif deployed:
            page = deployed_page(store.deployed(name or None)[:limit])
        elif programs:
            page = programs_page(store.programs(name or None, limit=limit))
        else:
            page = checkpoints_page(
                store.list(
                    name or None,
                    run=run or run_name or None,
                    limit=limit,
                    superseded=everything,
                    pruned=everything,
                )
            )
    session.show(page)
