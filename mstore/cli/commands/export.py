"""``mstore export``."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from mstore.cli.completion import complete_reference
from mstore.cli.pages.versions import exported_page
from mstore.cli.registry import command
from mstore.cli.session import Session
from mstore.cli.values import parse_inputs, parse_outputs, parse_pairs
from mstore.errors import UsageError


class Weights(str, Enum):
    """What to export where an optimizer keeps moving averages of the weights."""

    raw = "raw"
    ema = "ema"


@command(
    "export",
    examples=(
        "mstore export mnist@best --builder model.py:build",
        "mstore export mnist@best:val_loss --builder model.py:build --to serving/mnist",
        "mstore export mnist@1200 --builder model.py:build --input 'x=float32[?,10]'",
        "mstore export old@1200 --input x=images:0 --output scores=Softmax:0",
        "mstore export mnist@1300  # linked: no TensorFlow, no builder",
    ),
)
def export(
    session: Session,
    reference: Annotated[
        str,
        typer.Argument(metavar="REF", help="A checkpoint.", autocompletion=complete_reference),
    ],
    builder: Annotated[
        str | None,
        typer.Option(
            "--builder",
            metavar="FILE.py:NAME",
            help="What builds the model (FILE.py: its classes); default: what add recorded.",
        ),
    ] = None,
    builder_arg: Annotated[
        list[str] | None,
        typer.Option("--builder-arg", metavar="NAME=TEXT", help="Argument for it. Repeatable."),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input", metavar="NAME=DTYPE[DIM,...]", help="Where the model is silent. Repeatable."
        ),
    ] = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option("--output", metavar="NAME=OP:0", help="Of a TF1 graph. Repeatable."),
    ] = None,
    root: Annotated[
        str | None, typer.Option("--root", help="Where in the checkpoint the model is.")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="BASE", help="Serving directory to put it in too."),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Run code that a Keras file carries in Lambda layers.")
    ] = False,
    allow_unrestored: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-unrestored", metavar="NAME", help="Variable not of the checkpoint. Repeatable."
        ),
    ] = None,
    allow_lint: Annotated[
        list[str] | None,
        typer.Option("--allow-lint", metavar="KIND", help="Lint error to allow. Repeatable."),
    ] = None,
    weights: Annotated[
        Weights | None,
        typer.Option("--weights", help="The weights, or their moving averages (use_ema)."),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", min=0.1, help="Stop the conversion after it."),
    ] = None,
    message: Annotated[str | None, typer.Option("--message", "-m", help="Why.")] = None,
    trace: Annotated[
        bool, typer.Option("--trace", help="Run the builder though a program could be linked.")
    ] = False,
    program: Annotated[
        str | None,
        typer.Option("--program", metavar="ID", help="Link with it; see: mstore list --programs."),
    ] = None,
    learn: Annotated[
        bool,
        typer.Option("--learn/--no-learn", help="Record the program of a model that was traced."),
    ] = True,
    example: Annotated[
        Path | None,
        typer.Option(
            "--example",
            metavar="FILE.npz",
            help="Batch, and what must come out (output/KEY).",
        ),
    ] = None,
    atol: Annotated[
        float, typer.Option("--atol", min=0, help="How far an output may be off.")
    ] = 1e-5,
    rtol: Annotated[
        float, typer.Option("--rtol", min=0, help="The same, relative to what is expected.")
    ] = 1e-5,
    warmup: Annotated[
        bool,
        typer.Option("--warmup/--no-warmup", help="Make the example the version's warmup request."),
    ] = True,
    check: Annotated[
        bool, typer.Option("--check", help="Let TensorFlow's loader run what was linked, too.")
    ] = False,
) -> None:
    """Turn a checkpoint into a SavedModel proven to hold its weights.

    Each export gets the next version number of its model. The first export of an architecture
    runs its builder, twice, to learn the program; later checkpoints of the same structure are
    linked with that, without the builder and without TensorFlow. Its loader runs what was traced,
    and golden examples; what was linked only with --check.
    """
    if trace and program is not None:
        raise UsageError("--trace and --program exclude each other", hint="give one of them")
    arguments = parse_pairs("--builder-arg", builder_arg or ())
    specs = parse_inputs(inputs or ())
    tensors = parse_outputs(outputs or ())
    with session.store() as store:
        version = store.export(
            reference,
            builder=builder,
            builder_args=arguments,
            inputs=specs,
            outputs=tensors,
            root=root,
            to=to,
            trust=trust,
            allow_unrestored=tuple(allow_unrestored or ()),
            allow_lint=tuple(allow_lint or ()),
            weights=weights.value if weights is not None else None,
            timeout=timeout,
            message=message,
            trace=trace,
            program=program,
            learn=learn,
            example=example,
            atol=atol,
            rtol=rtol,
            warmup=warmup,
            check=check,
        )
    session.show(exported_page(version))
