"""``mstore add``."""

from pathlib import Path
from typing import Annotated

import typer

from mstore.cli.completion import complete_model
from mstore.cli.pages.checkpoints import added_page
from mstore.cli.registry import command
from mstore.cli.session import Session
from mstore.cli.values import parse_metrics, parse_pairs


@command(
    "add",
    examples=(
        "mstore add ckpts --model mnist                   every checkpoint in the directory",
        "mstore add ckpts --model mnist --latest          as its state file says",
        "mstore add ckpts/ckpt-12 --model mnist --run lr3e4 --metric val_loss=0.31",
    ),
)
def add(
    session: Session,
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...", help="Prefix, any file of a checkpoint, or a directory of them."
        ),
    ],
    model: Annotated[
        str, typer.Option("--model", help="Name of the model.", autocompletion=complete_model)
    ],
    run: Annotated[str | None, typer.Option("--run", help="Name of the training run.")] = None,
    step: Annotated[
        int | None, typer.Option("--step", min=0, help="Training step; else it is looked for.")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", metavar="NAME=NUMBER", help="Repeatable.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Repeatable.")] = None,
    meta: Annotated[
        list[str] | None, typer.Option("--meta", metavar="NAME=TEXT", help="Repeatable.")
    ] = None,
    note: Annotated[str | None, typer.Option("--note", help="Free text.")] = None,
    builder: Annotated[
        str | None,
        typer.Option(
            "--builder", metavar="FILE.py:NAME", help="What builds the model, for export."
        ),
    ] = None,
    example: Annotated[
        Path | None,
        typer.Option(
            "--example", metavar="FILE.npz", help="Batch, and what must come out at each export."
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Supersede other content of the same run and step.")
    ] = False,
    latest: Annotated[
        bool, typer.Option("--latest", help="Of a directory, only the newest by its state file.")
    ] = False,
) -> None:
    """Put checkpoints into the store, each tensor once, durably."""
    metrics, about = parse_metrics(metric or ()), parse_pairs("--meta", meta or ())
    with session.store() as store:
        outcome = store.add_all(
            paths,
            latest=latest,
            model=model,
            run=run,
            step=step,
            metrics=metrics,
            tags=tuple(tag or ()),
            meta=about,
            note=note,
            builder=builder,
            example=example,
            replace=replace,
        )
    if outcome.checkpoints:
        session.show(added_page(outcome.checkpoints))
    session.fail_for(outcome.failures, done=len(outcome.checkpoints))
