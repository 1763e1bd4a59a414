"""Makes a version by linking, where a program of the store fits the checkpoint."""

from mstore.catalog.checkpoints import CheckpointRow
from mstore.domain.tensors import TensorTable
from mstore.objects.manifest import Manifest
from mstore.ops.choosing import Wanted, choose
from mstore.ops.context import Context
from mstore.ops.linking import link
from mstore.ops.made import ExportOptions, Made
from mstore.ops.programs import Recorded
from mstore.ops.stored import tensor_table


def link_checkpoint(context: Context, row: CheckpointRow, options: ExportOptions) -> Made | None:
    """Link a checkpoint with the program that fits it; None where it has to be converted.

    Raises:
        InputError: nothing is here to trace with, and no program fits.
        UnknownReferenceError: there is no such program.
        UsageError: the program that was named is not linkable, or more than one would do.
        DamagedStoreError: the store cannot give the bytes that are on record.
    """
    manifest = context.manifest(row.manifest)
    if options.trace or manifest.architecture == "saved-model":
        return None
    trained = tensor_table(context, manifest)
    wanted = Wanted(options.builder, options.search_path, options.parameters, options.program)
    recorded = choose(context, row.checkpoint, trained, wanted)
    return None if recorded is None else _link(context, recorded, manifest, trained)


def _link(context: Context, recorded: Recorded, manifest: Manifest, trained: TensorTable) -> Made:
    program = recorded.program
    size = sum(tensor.size for tensor in trained)
    context.progress.start(f"linking with program {program.id[:12]}", size)
    try:
        linked = link(context, recorded, manifest, trained)
    finally:
        context.progress.finish()
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
        warnings=program.warnings,
        checks={"weights": "proven", "load": "skipped", "parity": "skipped"},
    )
