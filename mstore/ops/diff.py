"""Compare checkpoints tensor by tensor, from their indexes alone."""

from mstore.domain.records import ChangeKind, Diff, TensorChange
from mstore.domain.tensors import Tensor, TensorTable
from mstore.ops.context import Context
from mstore.ops.query import find_checkpoint
from mstore.ops.stored import tensor_table


def tensors(context: Context, reference: str) -> TensorTable:
    """Return the tensor table of the checkpoint that a reference names."""
    return tensor_table(context, context.manifest(find_checkpoint(context, reference).manifest))


def diff(context: Context, a: str, b: str) -> Diff:
    """Compare two checkpoints tensor by tensor, from their indexes alone."""
    first, second = find_checkpoint(context, a), find_checkpoint(context, b)
    before = tensor_table(context, context.manifest(first.manifest))
    after = tensor_table(context, context.manifest(second.manifest))
    return Diff(first.checkpoint, second.checkpoint, compare(before, after))


def compare(before: TensorTable, after: TensorTable) -> tuple[TensorChange, ...]:
    """Return what happened to each tensor of two tables, in name order."""
    keys = {tensor.key for table in (before, after) for tensor in table.values}
    changes = [_change(before.get(key), after.get(key)) for key in keys]
    return tuple(sorted(changes, key=lambda change: (change.name, change.key)))


def _change(before: Tensor | None, after: Tensor | None) -> TensorChange:
    tensor = after or before
    assert tensor is not None  # noqa: S101 - the key came from one of the two
    return TensorChange(
        kind=_kind(before, after),
        name=tensor.full_name or tensor.name,
        key=tensor.name,
        before=(before.dtype, before.shape) if before else None,
        after=(after.dtype, after.shape) if after else None,
        bytes=tensor.size,
    )


def _kind(before: Tensor | None, after: Tensor | None) -> ChangeKind:
    if before is None:
        return "added"
    if after is None:
        return "removed"
    if (before.dtype, before.shape) != (after.dtype, after.shape):
        return "reshaped"
    return "unchanged" if before.crc32c == after.crc32c else "changed"
