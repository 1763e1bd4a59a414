"""Reads the ``.meta`` file beside a name-based checkpoint: the graph that was trained.

It is a ``MetaGraphDef`` (tensorflow/core/protobuf/meta_graph.proto), which is walked, not parsed
whole, as `mstore.formats.saved_model` does. What is in it may be of any size: it is the training
graph, with constants.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mstore.domain.signatures import Signature, TensorSpec
from mstore.errors import DamagedFileError
from mstore.formats import wire
from mstore.formats.files import damaged, read_limited
from mstore.formats.graph_nodes import VARIABLES, nodes, text
from mstore.formats.saved_model import MAX_BYTES, parse_meta_graph

META = ".meta"
"""What follows the prefix of a checkpoint in the name of its graph's file."""

_Value = TypeVar("_Value")
_MAX_FIELDS = 1 << 25
_MAX_DISTINCT = 1 << 18
_GRAPH, _COLLECTION = 2, 4
_KEY, _VALUE, _BYTES_LIST, _ITEM = 1, 2, 2, 1
_PLACEHOLDERS = frozenset({"Placeholder", "PlaceholderV2", "PlaceholderWithDefault"})
_COLLECTIONS = frozenset({"variables", "local_variables", "model_variables"})
_VARIABLE_NAME, _SLICE_INFO, _FULL_NAME = 1, 4, 1
_AGAIN = "copy it again from where it was written, or move it away to take the weights alone"


@dataclass(frozen=True, slots=True)
class MetaVariable:
    """A variable of the graph.

    Attributes:
        name: its name, which is its key in the checkpoint unless it is part of another.
        partitioned: name of the variable that it is a part of, empty where it is whole.
        spec: dtype and shape, where the graph says.
    """

    name: str
    partitioned: str
    spec: TensorSpec | None


@dataclass(frozen=True, slots=True)
class MetaGraphInfo:
    """What a ``.meta`` file holds.

    Attributes:
        tensorflow_version: version of the TensorFlow that wrote it; empty if unknown.
        signatures: its own entry points; most training graphs have none.
        variables: those in its collections of variables, by name.
        placeholders: dtype and shape of each, by the name of its tensor, such as ``x:0``.
        ops: names of all ops in the graph and its functions.
    """

    tensorflow_version: str
    signatures: Mapping[str, Signature]
    variables: tuple[MetaVariable, ...]
    placeholders: Mapping[str, TensorSpec | None]
    ops: frozenset[str]


def read_meta_graph(path: Path) -> MetaGraphInfo:
    """Return what the ``.meta`` file at ``path`` holds.

    Raises:
        InputError: there is no such file.
        DamagedFileError: it is no sound ``MetaGraphDef``, or one without a graph.
        SystemIOError: the operating system refused.
    """
    try:
        return parse_meta(read_limited(path, MAX_BYTES), path=str(path))
    except DamagedFileError as error:
        error.hint = _AGAIN
        raise


def parse_meta(data: bytes, *, path: str) -> MetaGraphInfo:
    """Return what the bytes of a ``.meta`` file hold.

    Raises:
        DamagedFileError: they are no sound ``MetaGraphDef``, or one without a graph.
    """
    whole = parse_meta_graph(data, path=path)
    budget = wire.Budget(_MAX_FIELDS)
    specs: dict[str, TensorSpec | None] = {}
    placeholders: dict[str, TensorSpec | None] = {}
    names: dict[str, str] = {}
    for number, part in wire.messages(memoryview(data), {_GRAPH, _COLLECTION}, budget, path=path):
        if number == _COLLECTION:
            _read_collection(part, names, budget, path)
            continue
        for node in nodes(part, budget, path=path):
            if node.op in VARIABLES:
                _keep(specs, node.name, node.spec(), path)
            elif node.op in _PLACEHOLDERS:
                _keep(placeholders, f"{node.name}:0", node.spec(), path)
    if not whole.ops:
        raise damaged(path, "it holds no graph")
    return MetaGraphInfo(
        tensorflow_version=whole.version,
        signatures=whole.signatures,
        variables=tuple(MetaVariable(name, names[name], specs.get(name)) for name in sorted(names)),
        placeholders=placeholders,
        ops=frozenset(whole.ops - whole.functions),
    )


def _read_collection(
    entry: memoryview, names: dict[str, str], budget: wire.Budget, path: str
) -> None:
    """Add the variables in a collection (``VariableDef``), if it is one of variables."""
    parts = dict(wire.messages(entry, {_KEY, _VALUE}, budget, path=path))
    if text(parts.get(_KEY, entry[:0])) not in _COLLECTIONS:
        return
    value = parts.get(_VALUE, entry[:0])
    for _, listed in wire.messages(value, {_BYTES_LIST}, budget, path=path):
        for _, item in wire.messages(listed, {_ITEM}, budget, path=path):
            _read_variable(item, names, budget, path)


def _read_variable(item: memoryview, names: dict[str, str], budget: wire.Budget, path: str) -> None:
    fields = dict(wire.messages(item, {_VARIABLE_NAME, _SLICE_INFO}, budget, path=path))
    name = text(fields.get(_VARIABLE_NAME, item[:0])).removesuffix(":0")
    whole = ""
    for _, part in wire.messages(
        fields.get(_SLICE_INFO, item[:0]), {_FULL_NAME}, budget, path=path
    ):
        whole = text(part)
    if name:
        _keep(names, name, whole, path)


def _keep(kept: dict[str, _Value], key: str, value: _Value, path: str) -> None:
    """Bound how many names a file can make us hold."""
    if len(kept) >= _MAX_DISTINCT:
        raise damaged(path, "it has more names than any sound graph")
    kept[key] = value
