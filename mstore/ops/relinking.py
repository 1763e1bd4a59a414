"""Makes a version by linking, where a program of the store fits the checkpoint."""

from collections.abc import Mapping
from pathlib import Path

from mstore.catalog.checkpoints import CheckpointRow
from mstore.convert.process import has_tensorflow, require_tensorflow
from mstore.domain.tensors import TensorTable
from mstore.errors import UsageError
from mstore.objects.manifest import Manifest
from mstore.ops.choosing import Wanted, choose
from mstore.ops.context import Context
from mstore.ops.linking import Linked, link
from mstore.ops.lint import ensure_servable
from mstore.ops.made import ExportOptions, Made
from mstore.ops.programs import LINKABLE, Recorded
from mstore.ops.stored import tensor_table


def link_checkpoint(
    context: Context, row: CheckpointRow, options: ExportOptions, work: Path
) -> Made | None:
    """Link a checkpoint with the program that fits it; None where it has to be converted.

    The result passes the lint. Its graph is the one that TensorFlow's C++ loader ran when the
    program was recorded; it is run again for a golden example, or where that is asked for.

    Raises:
        InputError: nothing is here to trace with, and no program fits.
        UnknownReferenceError: there is no such program.
        UsageError: the program that was named is not linkable, or more than one would do.
        LintError: TensorFlow Serving could not serve the result.
        MissingExtraError: a run is asked for, and TensorFlow is not installed.
        LoadCheckError: TensorFlow's C++ loader cannot load or run the result.
        DamagedStoreError: the store cannot give the bytes that are on record.
    """
    manifest = context.manifest(row.manifest)
    if row.checkpoint.format != LINKABLE or manifest.architecture is not None:
        if options.program is not None:
            raise UsageError(
                f"a checkpoint of the format {row.checkpoint.format} is not linked"
                + (", as it carries a graph of its own" if manifest.architecture else ""),
                hint="export it without --program",
            )
        return None
    if options.trace:
        return None
    trained = tensor_table(context, manifest)
    wanted = Wanted(options.builder, options.search_path, options.parameters, options.program)
    recorded = choose(context, row.checkpoint, trained, wanted)
    if recorded is None:
        return None
    linked = _link(context, recorded, manifest, trained)
    return _checked(context, row, recorded, linked, options, work / "linked")


def _link(context: Context, recorded: Recorded, manifest: Manifest, trained: TensorTable) -> Linked:
    size = sum(tensor.size for tensor in trained)
    context.progress.start(f"linking with program {recorded.program.id[:12]}", size)
    try:
        return link(context, recorded, manifest, trained)
    finally:
        context.progress.finish()


def _checked(
    context: Context,
    row: CheckpointRow,
    recorded: Recorded,
    linked: Linked,
    options: ExportOptions,
    target: Path,
) -> Made:
    if options.check:
        require_tensorflow()
    program, runs = recorded.program, options.check
    outcome, example = "skipped", None
    figures: Mapping[str, object] = {}
    notes: tuple[str, ...] = ()
    if options.example is not None or row.checkpoint.example is not None:
        # What has to do with arrays brings numpy along.
        from mstore.ops import golden  # noqa: PLC0415

        example = golden.golden_example(context, row, options, program.signatures)
        if example is not None and options.warmup:
            linked = linked.with_warmup(
                golden.warmup(row.checkpoint.model, example, program.signatures)
            )
        runs = runs or (example is not None and has_tensorflow())
        if example is not None and not runs:
            notes = ("the golden example was not run: TensorFlow is not installed",)
    context.progress.start("running the model" if runs else "checking the model", None)
    try:
        linked.write(context, target, values=runs)
        warnings = ensure_servable(target, options.allow_lint)
        if runs:
            from mstore.convert.check import check  # noqa: PLC0415 - the same

            outputs = check(
                target,
                program.signatures,
                dims=recorded.dims,
                example=example,
                timeout=options.timeout,
            )
            if example is not None:
                outcome, figures = golden.parity(example, outputs, options)
    finally:
        context.progress.finish()
    load = "passed" if runs else "skipped"
    return Made(
        "link",
        linked,
        linked.proven,
        program.signatures,
        linked.records,
        builder=program.builder,
        parameters=program.parameters,
        root=program.root,
        environment=program.environment,
        warnings=(*program.warnings, *warnings, *notes),
        checks={"weights": "proven", "load": load, "parity": outcome},
        parity=figures,
    )
