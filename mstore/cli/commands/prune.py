"""``mstore prune``."""

from functools import partial
from typing import Annotated

import typer

from mstore.cli.completion import complete_model
from mstore.cli.pages.prune import prune_page, question, summary_page
from mstore.cli.registry import command
from mstore.cli.session import Session
from mstore.errors import UsageError


@command(
    "prune",
    examples=(
        "mstore prune --model mnist --keep-last 5 --keep-best 3:val_loss --dry-run",
        "mstore prune --model mnist --run lr3e4 --keep-every 1000 --yes",
    ),
)
def prune(
    session: Session,
    model: Annotated[
        str,
        typer.Option(
            "--model", metavar="MODEL[/RUN]", help="Whose.", autocompletion=complete_model
        ),
    ],
    run: Annotated[str | None, typer.Option("--run", help="Only this run.")] = None,
    keep_last: Annotated[
        int | None, typer.Option("--keep-last", metavar="N", help="The N last steps of each run.")
    ] = None,
    keep_every: Annotated[
        int | None,
        typer.Option("--keep-every", metavar="STEPS", help="One in so many steps, the first."),
    ] = None,
    keep_best: Annotated[
        list[str] | None,
        typer.Option(
            "--keep-best", metavar="N:METRIC", help="The N lowest; N:+METRIC the highest. Repeat."
        ),
    ] = None,
    keep_tagged: Annotated[
        bool, typer.Option("--keep-tagged", help="What has a tag; it stays in any case.")
    ] = False,
    message: Annotated[str | None, typer.Option("--message", "-m", help="Why.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only say what would go, and why.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Take checkpoints out that no rule keeps and nothing needs.

    A checkpoint stays if any rule keeps it, or a version or a tag needs it. Its history stays;
    gc frees the bytes. Adding the same files again brings it back.
    """
    if run and "/" in model:
        raise UsageError(f"the run is given twice: {model!r} and --run {run}")
    if not dry_run:
        session.ensure_asked(yes=yes)
    with session.store() as store:
        decide = partial(
            store.prune,
            model,
            run=run,
            keep_last=keep_last,
            keep_every=keep_every,
            keep_best=keep_best or (),
            keep_tagged=keep_tagged,
            message=message,
        )
        report = decide(dry_run=True)
        for warning in report.warnings:
            session.output.talk(f"warning: {warning}")
        if dry_run or not report.pruned:
            page = prune_page(report)
        elif yes:
            page = prune_page(decide(only=report.pruned))
        else:
            session.show(prune_page(report))
            session.confirm(question(report))
            page = summary_page(decide(only=report.pruned))
    session.show(page)
