"""The application: every command registered, and the options before the command."""

from typing import Annotated

import typer

from mstore import __version__
from mstore.cli.commands import (  # noqa: F401 - importing a command registers it
    add,
    audit,
    checkout,
    diff,
    doctor,
    export,
    fsck,
    gc,
    init,
    lint,
    list_,
    log,
    promote,
    prune,
    retire,
    rollback,
    show,
    tag,
    target,
    verify,
)
from mstore.cli.registry import JsonOption, QuietOption, StoreOption, app
from mstore.cli.settings import Settings
from mstore.errors import UsageError

__all__ = ["app"]

# \b keeps the lines of a paragraph as they are.
_HELP = """Git for TensorFlow checkpoints and the SavedModels they become.

\b
  mstore init
  mstore add ckpts --model mnist
  mstore export mnist@best --builder model.py:build --to serving/mnist
  mstore audit serving/mnist

\b
A checkpoint:  mnist  mnist@1200  mnist/run@1200  mnist@best:val_loss
               mnist@TAG  a3f91c (first digits of its id)
A version:     mnist:4  mnist:latest  mnist:production (alias)

\b
Exit status: 0 done, 1 failed, 2 usage, 3 done in part, 10 no store,
11 locked, 12 reference unknown or ambiguous, 13 integrity or proof
failed, 130 interrupted.
"""


@app.callback(invoke_without_command=True, help=_HELP)
def options(
    ctx: typer.Context,
    store_path: StoreOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)
    ] = False,
) -> None:
    """Keep the options for the command that follows."""
    if version:
        typer.echo(f"mstore {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        raise UsageError("no command is given", hint="mstore --help lists the commands")
    ctx.obj = Settings(store_path, as_json, quiet)
