"""Learns the program of an export: is it fit for other checkpoints of the same structure?"""

from collections.abc import Mapping
from pathlib import Path

from mstore import disk
from mstore.convert.dyeing import Traced, why_not_linkable
from mstore.convert.fingerprint import FILE_NAME as FINGERPRINT
from mstore.convert.fingerprint import of_other_variables
from mstore.convert.template import Template, linked_table, template_of
from mstore.domain.programs import Program
from mstore.domain.signatures import Signature
from mstore.domain.structure import structure_of
from mstore.domain.tensors import OBJECT_GRAPH_KEY, TensorTable
from mstore.errors import WorkerTimeoutError
from mstore.formats.bundle_writer import encode_index
from mstore.formats.saved_model import variables_prefix
from mstore.formats.tensor_bundle import index_path, read_index, read_tensor, shard_paths
from mstore.ops.context import Context, now
from mstore.ops.programs import Learned, builder_id, is_known, structure_id

_OTHER_LAYOUT = "its variables are not laid out as they are known to be"


def learn(
    context: Context,
    traced: Traced,
    work: Path,
    *,
    program: str,
    model: str,
    checkpoint: str,
    signatures: Mapping[str, Signature],
    builder: Mapping[str, object],
    parameters: Mapping[str, object],
    timeout: float | None,
) -> Learned | None:
    """Return the program of a traced export, ready to be recorded.

    Args:
        context: the store.
        traced: the export, still in its directory.
        work: directory for the exports that this takes; is made.
        program: id of the program.
        model: name of the model.
        checkpoint: id of the checkpoint that was exported.
        signatures: entry points.
        builder: what is recorded of the builder.
        parameters: what it was given.
        timeout: seconds for each export, or None.

    Returns:
        The program, linkable or not; None if the store has it already, or if time ran out.
    """
    result = traced.result
    key = builder_id(builder, parameters, result.code)
    if is_known(context, model, program, key):
        return None
    disk.step("mkdir", work)
    work.mkdir()
    try:
        reason = why_not_linkable(traced, work, timeout=timeout)
    except WorkerTimeoutError:
        return None
    prefix = variables_prefix(traced.request.output)
    table = read_index(prefix)
    template: Template | None = None
    if reason is None:
        template = template_of(table, result.sources)
        if not _gives_the_same(template, traced, table):
            template, reason = None, _OTHER_LAYOUT
    graph = table.get(OBJECT_GRAPH_KEY)
    structure = structure_of(traced.trained.table)
    return Learned(
        program=Program(
            id=program,
            model=model,
            checkpoint=checkpoint,
            linkable=reason is None,
            reason=reason,
            signatures=signatures,
            tensors=len(table.values),
            structure=structure_id(structure),
            root=result.root,
            builder=builder,
            parameters=parameters,
            code=result.code,
            environment=result.environment,
            warnings=result.warnings,
            recorded_at=now(),
        ),
        builder=key,
        structure=structure,
        template=template,
        graph=b"" if graph is None else read_tensor(prefix, table, graph),
        names=result.names,
        dims=result.dims,
    )


def _gives_the_same(template: Template, traced: Traced, table: TensorTable) -> bool:
    """Return whether linking the very checkpoint gives the files that tracing gave."""
    directory = traced.request.output
    prefix = variables_prefix(directory)
    linked = linked_table(template, traced.trained.table)
    index = encode_index(linked)
    sizes = [
        sum(tensor.size for tensor in linked if tensor.shard == shard)
        for shard in range(table.num_shards)
    ]
    with disk.os_errors(f"cannot read {directory}"):
        fingerprint = (directory / FINGERPRINT).read_bytes()
        return (
            index_path(prefix).read_bytes() == index
            and [path.stat().st_size for path in shard_paths(prefix, table.num_shards)] == sizes
            and of_other_variables(fingerprint, index) == fingerprint
        )
