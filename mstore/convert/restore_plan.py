"""Checks that a SavedModel's restore op fills every variable of its graph, each once.

A graph of TensorFlow 1 says itself how it is restored: from the op that its ``SaverDef`` names hang
assignments, each from an output of a ``RestoreV2`` node whose constants name the tensors
(tensorflow/core/protobuf/saver.proto, tensorflow/cc/saved_model/loader.cc). No TensorFlow here.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mstore.domain.tensors import TensorTable
from mstore.errors import ProofError
from mstore.formats import wire
from mstore.formats.files import read_limited
from mstore.formats.graph_nodes import VARIABLES, WRITERS, Node, function_ops, nodes, text
from mstore.formats.saved_model import FILE_NAME, MAX_BYTES, variables_prefix
from mstore.formats.slices import slice_key_of
from mstore.formats.tensor_bundle import BundleFiles

_MAX_FIELDS = 1 << 25
_META_GRAPH, _GRAPH, _SAVER, _RESTORE_OP = 2, 2, 3, 3
_ASSIGNS = frozenset({"Assign", "AssignVariableOp"})
_FOLLOWED = frozenset({*_ASSIGNS, "NoOp", "Identity", "RestoreV2"})
_TENSOR, _STRING_VALUE, _TENSOR_SHAPE = 8, 8, 2
_VALUE = 1  # place of the value among the inputs of an assignment
_MAX_NAMES = 1 << 18
_SHOWN = 8


@dataclass
class _Graph:
    """What of a graph has to do with variables."""

    restore: str = ""
    variables: set[str] = field(default_factory=set)
    inputs: dict[str, list[str]] = field(default_factory=dict)
    assigns: set[str] = field(default_factory=set)
    writers: list[str] = field(default_factory=list)
    reads: dict[str, Node] = field(default_factory=dict)
    constants: dict[str, Node] = field(default_factory=dict)


def refuse_unrestored(saved_model: Path) -> None:
    """Check how a SavedModel with one graph of TensorFlow 1 is restored.

    Every variable must be assigned exactly once by the restore op, from exactly one tensor of
    ``variables.index``; every tensor must be used; nothing else may change a variable.

    Raises:
        ProofError: naming what is not so.
        DamagedFileError: the SavedModel is damaged.
        SystemIOError: the operating system refused.
    """
    path = saved_model / FILE_NAME
    graph = _read(path)
    assigned = Counter(split_name(graph.inputs[name][0]) for name in _restored(graph))
    faults = [
        f"the variable {name} is restored {assigned[name]} times"
        for name in sorted(graph.variables)
        if assigned[name] != 1
    ]
    faults += [
        f"{name} is restored and is no variable" for name in assigned.keys() - graph.variables
    ]
    restored = set(_restored(graph))
    faults += [f"{name} changes variables" for name in graph.writers if name not in restored]
    faults += _wrong_keys(graph, restored, BundleFiles(variables_prefix(saved_model)).table)
    if faults:
        shown = "".join(f"\n  {fault}" for fault in faults[:_SHOWN])
        raise ProofError(
            f"the SavedModel does not restore its variables as it must:{shown}",
            subjects=faults,
            hint="nothing was published; this is an error of mstore, please report it",
        )


def split_name(tensor: str) -> str:
    """Return the node of an input as a graph writes it.

    >>> split_name("w:0"), split_name("^save/Assign")
    ('w', 'save/Assign')
    """
    return tensor.removeprefix("^").partition(":")[0]


def _read(path: Path) -> _Graph:
    data = memoryview(read_limited(path, MAX_BYTES))
    budget = wire.Budget(_MAX_FIELDS)
    graph = _Graph()
    for _, meta in wire.messages(data, {_META_GRAPH}, budget, path=str(path)):
        for number, part in wire.messages(meta, {_GRAPH, _SAVER}, budget, path=str(path)):
            if number == _SAVER:
                for _, name in wire.messages(part, {_RESTORE_OP}, budget, path=str(path)):
                    graph.restore = text(name)
                continue
            for node in nodes(part, budget, path=str(path)):
                _take(node, graph)
            ops = function_ops(part, budget, path=str(path))
            graph.writers += [f"a function ({op})" for op in ops if WRITERS.fullmatch(op)]
    return graph


def _take(node: Node, graph: _Graph) -> None:
    if node.op in VARIABLES:
        graph.variables.add(node.name)
    if node.op in _FOLLOWED:
        graph.inputs[node.name] = node.inputs
    if node.op in _ASSIGNS:
        graph.assigns.add(node.name)
    if WRITERS.fullmatch(node.op):
        graph.writers.append(node.name)
    if node.op == "RestoreV2":
        graph.reads[node.name] = node
    if node.op == "Const" and len(graph.constants) < _MAX_NAMES:
        graph.constants[node.name] = node


def _restored(graph: _Graph) -> list[str]:
    """Return the assignments that the restore op waits for."""
    found, queue, seen = [], [graph.restore], set()
    while queue:
        name = queue.pop()
        if name in seen or name not in graph.inputs:
            continue
        seen.add(name)
        if name in graph.assigns:
            if graph.inputs[name]:
                found.append(name)
            continue
        queue += [split_name(tensor) for tensor in graph.inputs[name]]
    return found


def _wrong_keys(graph: _Graph, restored: set[str], table: TensorTable) -> Iterator[str]:
    used: Counter[bytes | None] = Counter()
    lists = {name: list(_keys(graph, name)) for name in graph.reads}
    for name in sorted(restored):
        value = graph.inputs[name][_VALUE : _VALUE + 1]
        key = _key(graph, lists, value[0]) if value else None
        if key is None:
            yield f"{name} assigns something that is not restored"
        used[key] += 1
    stored = {tensor.key for tensor in table.values}
    for key in stored | {key for key in used if key is not None}:
        shown = key.decode("utf-8", "backslashreplace")
        if key not in stored:
            yield f"{shown} is restored and not stored"
        elif used[key] != 1:
            yield f"{shown} is stored and restored into {used[key]} variables"


def _key(graph: _Graph, lists: dict[str, list[bytes]], tensor: str) -> bytes | None:
    """Return the key that is read into a tensor, also through identities."""
    seen = 0
    while split_name(tensor) not in lists:
        inputs = graph.inputs.get(split_name(tensor), [])
        seen += 1
        if not inputs or split_name(tensor) in graph.assigns or seen > _SHOWN:
            return None
        tensor = inputs[0]
    index = tensor.rpartition(":")[2] if ":" in tensor else "0"
    keys = lists[split_name(tensor)]
    return keys[int(index)] if index.isdecimal() and int(index) < len(keys) else None


def _keys(graph: _Graph, read: str) -> Iterator[bytes]:
    """Iterate over the keys that a ``RestoreV2`` node reads, by output."""
    inputs = graph.inputs[read]
    if len(inputs) < 3:  # noqa: PLR2004 - prefix, names, slices
        return
    names, specs = (_strings(graph, split_name(tensor)) for tensor in inputs[1:3])
    for name, spec in zip(names, specs, strict=False):
        key = slice_key_of(name, spec.decode("ascii", "replace"))
        if key is not None:
            yield key


def _strings(graph: _Graph, name: str) -> list[bytes]:
    """Return the strings in a constant; the last is repeated where it leaves some out."""
    node = graph.constants.get(name)
    value = None if node is None else node.attribute("value")
    if node is None or value is None:
        return []
    items: list[bytes] = []
    count = 1
    for _, tensor in wire.messages(value, {_TENSOR}, node.budget, path=node.path):
        parts = wire.messages(tensor, {_TENSOR_SHAPE, _STRING_VALUE}, node.budget, path=node.path)
        for number, part in parts:
            if number == _STRING_VALUE:
                items.append(bytes(part))
            else:
                count = node.elements(part)
    if items and len(items) < count <= _MAX_NAMES:
        items += items[-1:] * (count - len(items))
    return items
