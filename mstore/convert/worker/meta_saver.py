"""Which tensor of the checkpoint each variable of the trained graph was saved as.

The ``.meta`` holds the saver that wrote the checkpoint (``SaverDef``): from its restore op hang the
assignments of all variables, each fed by an output of a ``RestoreV2`` node that names the tensor.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow.core.framework import variable_pb2

from mstore.convert.worker.meta_nodes import Nodes, split
from mstore.domain.tensors import DTYPES, TensorTable
from mstore.errors import ProofError
from mstore.formats.graph_nodes import VARIABLES
from mstore.formats.slices import slice_key_of

_ASSIGNS = frozenset({"Assign", "AssignVariableOp"})
_RESTORES = frozenset({"RestoreV2", "RestoreSlice", "Restore"})
_PASSED = frozenset({"Identity", "Reshape", "Cast"})
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Stored:
    """A variable and its tensor in the checkpoint.

    Attributes:
        node: name of the variable's node.
        name: name under which it is saved.
        spec: which slice of it, in the notation of ``shape_and_slices``; empty for the whole.
        dtype: TensorFlow's name of the element type.
        shape: of the node.
    """

    node: str
    name: str
    spec: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def key(self) -> bytes:
        """The key in the checkpoint, and in what is exported."""
        key = slice_key_of(self.name.encode(), self.spec)
        if key is None:
            raise ProofError(
                f"the slice {self.spec!r} of {self.name} cannot be read", subjects=[self.node]
            )
        return key


def stored_variables(nodes: Nodes, meta: Any, names: Iterable[str]) -> list[Stored]:
    """Return what each variable was saved as, by key.

    Args:
        nodes: the graph.
        meta: the ``MetaGraphDef``.
        names: nodes of the variables.

    Raises:
        ProofError: the saver of the graph does not save one of them.
    """
    restore = meta.saver_def.restore_op_name
    saved = _saved(nodes, restore) if restore else _listed_slices(meta)
    found, lost = [], []
    for name in sorted(names):
        node = nodes.by_name[name]
        # Without a saver in it, a graph was saved under the names of its variables.
        source = saved.get(name) if restore else saved.get(name, (name, ""))
        if source is None:
            lost.append(name)
            continue
        dtype = DTYPES.get(node.attr["dtype"].type % 100, ("", 0))[0]
        shape = tuple(int(dimension.size) for dimension in node.attr["shape"].shape.dim)
        found.append(Stored(name, *source, dtype, shape))
    if lost:
        raise ProofError(
            "training did not save these variables that the outputs use:" + _listed(lost),
            subjects=lost,
            hint="choose outputs that do not need them, or save them in training",
        )
    return sorted(found, key=lambda item: item.key)


def require_stored(variables: Iterable[Stored], table: TensorTable, meta: str) -> None:
    """Check that the checkpoint has each variable with its dtype and shape.

    Raises:
        ProofError: naming those that it has not.
    """
    faults = {}
    for item in variables:
        tensor = table.get(item.key)
        if tensor is None or tensor.sliced:
            faults[item.node] = f"{item.node} is not in the checkpoint"
        elif (tensor.dtype, tensor.shape) != (item.dtype, item.shape):
            faults[item.node] = (
                f"{item.node} is {item.dtype}{list(item.shape)}, and the checkpoint has "
                f"{tensor.dtype}{list(tensor.shape)}"
            )
    if faults:
        raise ProofError(
            f"the graph in {meta} does not fit the checkpoint:" + _listed(list(faults.values())),
            subjects=list(faults),
            hint="the .meta beside a checkpoint must be the one that was saved with it",
        )


def _saved(nodes: Nodes, restore: str) -> dict[str, tuple[str, str]]:
    """Return name and slice for each variable that the restore op assigns."""
    found = {}
    for name in nodes.before([restore], frozenset()):
        node = nodes.by_name[name]
        if node.op not in _ASSIGNS:
            continue
        variable = split(node.input[0])[0]
        source = _source(nodes, node.input[1])
        if variable in nodes.by_name and nodes.by_name[variable].op in VARIABLES and source:
            found[variable] = source
    return found


def _listed_slices(meta: Any) -> dict[str, tuple[str, str]]:
    """Return name and slice for each part of a partitioned variable in the collection of all."""
    found = {}
    for data in meta.collection_def["variables"].bytes_list.value:
        try:
            variable = variable_pb2.VariableDef.FromString(data)
        except DecodeError:
            continue  # a variable that is then missed is named as not in the checkpoint
        part = variable.save_slice_info_def
        if part.full_name:
            sizes = " ".join(str(size) for size in part.full_shape)
            extents = zip(part.var_offset, part.var_shape, strict=False)
            spec = f"{sizes} {':'.join(f'{start},{length}' for start, length in extents)}"
            found[split(variable.variable_name)[0]] = (part.full_name, spec)
    return found


def _source(nodes: Nodes, tensor: str) -> tuple[str, str] | None:
    """Follow what is assigned back to the tensor that is read."""
    name, index = split(tensor)
    while (node := nodes.by_name.get(name)) is not None and node.op in _PASSED:
        name, index = split(node.input[0])
    if node is None or node.op not in _RESTORES:
        return None
    names = list(_texts(nodes, node.input[1]))
    specs = list(_texts(nodes, node.input[2])) if node.op != "Restore" else [""]
    if index >= len(names) or index >= len(specs):
        return None
    return names[index], specs[index]


def _texts(nodes: Nodes, tensor: str) -> Iterator[str]:
    found = nodes.constant(tensor)
    if found is None:
        return
    value = found[1]
    count = 1
    for dimension in value.tensor_shape.dim:
        count *= dimension.size
    items = list(value.string_val)
    # A constant may leave out what repeats its last element.
    for index in range(min(count, 1 << 20)):
        yield (items[min(index, len(items) - 1)] if items else b"").decode("utf-8", "replace")


def _listed(lines: list[str]) -> str:
    shown = "".join(f"\n  {line}" for line in lines[:_SHOWN])
    left = len(lines) - _SHOWN
    return shown + (f"\n  and {left} more" if left > 0 else "")
