"""Reads what a SavedModel directory holds: tags, signatures, variables, ops and assets.

``saved_model.pb`` is a ``SavedModel`` message (tensorflow/core/protobuf/saved_model.proto and
meta_graph.proto). It is walked, not parsed whole, so that constants in the graph and hostile
nesting cost no memory.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from google.protobuf.message import DecodeError

from mstore.domain.signatures import Signature, TensorSpec
from mstore.domain.tensors import DTYPES, TensorTable
from mstore.errors import InputError
from mstore.formats import protos, wire
from mstore.formats.files import damaged, read_limited
from mstore.formats.saved_objects import SavedObjects
from mstore.formats.tensor_bundle import index_path, read_table

MAX_BYTES = (1 << 31) - 1
"""Largest ``saved_model.pb`` in bytes: protocol buffers cannot be larger."""

FILE_NAME = "saved_model.pb"
"""Name of the file that makes a directory a SavedModel."""

INIT_OP_SIGNATURE = "__saved_model_init_op"
"""Signature that only names the initialization op; not an entry point."""

OP_SIGNATURES = frozenset({INIT_OP_SIGNATURE, "__saved_model_train_op"})
"""Signatures that name an op instead of tensors (saved_model/signature_constants.py)."""

MAX_SIGNATURE = 1 << 20
"""Largest entry of a signature in bytes."""

_MAX_DISTINCT = 1 << 18
_MAX_RANK = 254
_MAX_GRAPHS = 64
_MAX_FIELDS = 1 << 25  # a graph of a million nodes has ten million
_SCHEMA_VERSION = 1
_REF_TYPES = 100  # DT_FLOAT_REF is DT_FLOAT + 100
_SERVE = "serve"
_OTHER_FILES = {
    "saved_model.pbtxt": "it is saved as text (saved_model.pbtxt)",
    "saved_model.cpb": "it is saved in chunks (saved_model.cpb)",
}
_AGAIN = "copy the SavedModel again from where it was written, or export it again"


@dataclass(frozen=True)
class SavedModelInfo:
    """What a SavedModel holds.

    Attributes:
        tag_sets: tags of each meta graph, in stored order.
        signatures: entry points of the meta graph for serving (the first if none is tagged so).
        tensorflow_version: version of the TensorFlow that wrote it; empty if unknown.
        variables: its tensors; None where it has no variables.
        handles: shared name of each variable handle in the main graph to how many nodes make it.
        variable_names: key of each variable in ``variables`` to its name in the program.
        assets: file names under ``assets/`` that the model refers to.
        ops: names of all ops in the graph and its functions.
    """

    tag_sets: list[frozenset[str]]
    signatures: Mapping[str, Signature]
    tensorflow_version: str
    variables: TensorTable | None
    handles: Mapping[str, int]
    variable_names: Mapping[bytes, str]
    assets: tuple[str, ...]
    ops: frozenset[str]


@dataclass
class _MetaGraph:
    """What is gathered from one meta graph, and how much more of the file may be walked."""

    budget: wire.Budget
    tags: set[str] = field(default_factory=set)
    version: str = ""
    signatures: dict[str, Signature] = field(default_factory=dict)
    handles: dict[str, int] = field(default_factory=dict)
    assets: list[str] = field(default_factory=list)
    ops: set[str] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)
    objects: SavedObjects | None = None


def read_saved_model(directory: Path) -> SavedModelInfo:
    """Return what the SavedModel in ``directory`` holds.

    Raises:
        InputError: the directory holds no ``saved_model.pb``.
        DamagedFileError: a file of it is damaged or missing.
        SystemIOError: the operating system refused.
    """
    path = directory / FILE_NAME
    if not path.exists():
        _refuse(directory)
    data = read_limited(path, MAX_BYTES)
    graphs = parse_saved_model(data, path=str(path))
    prefix = variables_prefix(directory)
    variables = read_table(prefix) if index_path(prefix).exists() else None
    chosen = next((graph for graph in graphs if _SERVE in graph.tags), graphs[0])
    names = {item.key: item.full_name for item in variables or () if item.full_name}
    nameless = [item.key for item in variables or () if not item.full_name]
    if chosen.objects is not None:
        names |= chosen.objects.variable_names(nameless)
    return SavedModelInfo(
        tag_sets=[frozenset(graph.tags) for graph in graphs],
        signatures=MappingProxyType(chosen.signatures),
        tensorflow_version=chosen.version,
        variables=variables,
        handles=MappingProxyType(chosen.handles),
        variable_names=MappingProxyType(names),
        assets=tuple(chosen.assets),
        ops=frozenset(chosen.ops - chosen.functions),
    )


def variables_prefix(directory: Path) -> Path:
    """Return the prefix of the bundle that holds a SavedModel's variables."""
    return directory / "variables" / "variables"


def _refuse(directory: Path) -> None:
    if not directory.exists():
        raise InputError(f"there is no directory {directory}", hint="check the path")
    for name, what in _OTHER_FILES.items():
        if (directory / name).exists():
            raise InputError(
                f"the SavedModel {directory} cannot be read: {what}",
                hint="save it again as a binary saved_model.pb",
            )
    raise InputError(
        f"{directory} is not a SavedModel: it has no {FILE_NAME}",
        hint="give the directory that holds saved_model.pb",
    )


def parse_saved_model(data: bytes, *, path: str) -> list[_MetaGraph]:
    """Return what each meta graph of a ``SavedModel`` message holds; there is at least one.

    Raises:
        DamagedFileError: the bytes are not a sound message.
    """
    graphs = []
    budget = wire.Budget(_MAX_FIELDS)
    for number, value in wire.fields(memoryview(data), budget, path=path):
        if number == 1 and value != _SCHEMA_VERSION:
            raise damaged(path, "it is of an unknown schema version", hint=_AGAIN)
        if number == 2:  # noqa: PLR2004 - meta_graphs
            graphs.append(_meta_graph(_view(value, path), budget, path))
            if len(graphs) > _MAX_GRAPHS:
                raise damaged(path, "it has more graphs than any sound SavedModel", hint=_AGAIN)
    if not graphs:
        raise damaged(path, "it holds no graph", hint=_AGAIN)
    return graphs


def parse_meta_graph(data: bytes, *, path: str) -> _MetaGraph:
    """Return what a ``MetaGraphDef`` message by itself holds, as in a ``.meta`` file.

    Raises:
        DamagedFileError: the bytes are not a sound message.
    """
    return _meta_graph(memoryview(data), wire.Budget(_MAX_FIELDS), path)


def _meta_graph(data: memoryview, budget: wire.Budget, path: str) -> _MetaGraph:
    graph = _MetaGraph(budget)
    for number, part in wire.messages(data, {1, 2, 5, 6, 7}, graph.budget, path=path):
        if number == 1:
            _meta_info(part, graph, path)
        elif number == 2:  # noqa: PLR2004 - graph_def
            _graph(part, graph, path)
        elif number == 5:  # noqa: PLR2004 - signature_def
            _signature(part, graph, path)
        elif number == 7:  # noqa: PLR2004 - object_graph_def
            graph.objects = SavedObjects(part, graph.budget, path=path)
        else:
            graph.assets.append(_asset(part, graph, path))
    return graph


def _meta_info(data: memoryview, graph: _MetaGraph, path: str) -> None:
    """Read the tags and the version from a ``MetaInfoDef``."""
    for number, part in wire.messages(data, {4, 5}, graph.budget, path=path):
        if number == 4:  # noqa: PLR2004 - tags
            graph.tags.add(_text(part))
        else:
            graph.version = _text(part)


def _asset(data: memoryview, graph: _MetaGraph, path: str) -> str:
    """Return the file name in an ``AssetFileDef``."""
    name = ""
    for _, part in wire.messages(data, {2}, graph.budget, path=path):
        name = _text(part)
    return name


def _graph(data: memoryview, graph: _MetaGraph, path: str) -> None:
    """Gather the ops of a ``GraphDef`` and of the functions in its library."""
    for number, part in wire.messages(data, {1, 2}, graph.budget, path=path):
        if number == 1:
            _node(part, graph, path)
        else:
            for _, function in wire.messages(part, {1}, graph.budget, path=path):
                _function(function, graph, path)


def _function(data: memoryview, graph: _MetaGraph, path: str) -> None:
    for number, part in wire.messages(data, {1, 3}, graph.budget, path=path):
        if number == 1:
            for _, name in wire.messages(part, {1}, graph.budget, path=path):
                _keep(graph.functions, _text(name), path)
        else:
            _keep(graph.ops, _text(_op(part, graph, path)), path)


def _op(node: memoryview, graph: _MetaGraph, path: str) -> memoryview:
    op = node[:0]
    for _, part in wire.messages(node, {2}, graph.budget, path=path):
        op = part
    return op


def _node(data: memoryview, graph: _MetaGraph, path: str) -> None:
    op = _text(_op(data, graph, path))
    _keep(graph.ops, op, path)
    if op != "VarHandleOp":
        return
    name = shared = ""
    for number, part in wire.messages(data, {1, 5}, graph.budget, path=path):
        if number == 1:
            name = _text(part)
        else:
            shared = _shared_name(part, graph, path) or shared
    shared = shared or name  # the kernel falls back to the node's name
    _keep(graph.handles, shared, path)
    graph.handles[shared] = graph.handles.get(shared, 0) + 1


def _shared_name(entry: memoryview, graph: _MetaGraph, path: str) -> str:
    """Return the text of an attribute called ``shared_name``, empty for any other."""
    parts = dict(wire.messages(entry, {1, 2}, graph.budget, path=path))
    if _text(parts.get(1, entry[:0])) != "shared_name":
        return ""
    attribute = dict(wire.messages(parts.get(2, entry[:0]), {2}, graph.budget, path=path))
    return _text(attribute.get(2, entry[:0]))


def _signature(data: memoryview, graph: _MetaGraph, path: str) -> None:
    name, signature, _ = read_signature(data, path=path)
    if name not in OP_SIGNATURES:
        graph.signatures[name] = signature


def read_signature(data: memoryview, *, path: str) -> tuple[str, Signature, tuple[bytes, ...]]:
    """Return the name of a signature, what it says, and the names of its output tensors.

    The name of a sparse or composite tensor is empty: it has several.

    Raises:
        DamagedFileError: ``data`` is no entry of ``MetaGraphDef.signature_def``.
    """
    if len(data) > MAX_SIGNATURE:
        raise damaged(path, "a signature of it is larger than any sound one", hint=_AGAIN)
    message = protos.SignatureEntry()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise damaged(path, "a signature of it does not parse", hint=_AGAIN) from error
    name = _text(message.key)
    outputs = tuple(entry.value.name for entry in message.value.outputs)
    if name in OP_SIGNATURES:  # an op has no type
        return name, Signature(MappingProxyType({}), MappingProxyType({})), outputs
    signature = Signature(
        MappingProxyType(dict(_specs(message.value.inputs, path))),
        MappingProxyType(dict(_specs(message.value.outputs, path))),
    )
    return name, signature, outputs


def _specs(entries: Any, path: str) -> Iterator[tuple[str, TensorSpec]]:
    for entry in entries:
        name = _text(entry.key)
        number = entry.value.dtype
        dtype, _ = DTYPES.get(number - _REF_TYPES if number > _REF_TYPES else number, ("", 0))
        shape = entry.value.tensor_shape
        dimensions = tuple(None if dim.size == -1 else dim.size for dim in shape.dim)
        if not dtype or len(dimensions) > _MAX_RANK or min(d or 0 for d in (0, *dimensions)) < 0:
            raise damaged(
                path, f"the type or shape of {name} in a signature cannot be", hint=_AGAIN
            )
        yield name, TensorSpec(dtype, None if shape.unknown_rank else dimensions)


def _keep(names: set[str] | dict[str, int], name: str, path: str) -> None:
    """Bound how many distinct names a file can make us hold."""
    if len(names) >= _MAX_DISTINCT:
        raise damaged(path, "it has more names than any sound SavedModel", hint=_AGAIN)
    if isinstance(names, set):
        names.add(name)


def _view(value: int | memoryview, path: str) -> memoryview:
    if isinstance(value, int):
        raise damaged(path, "it has a number where a graph must be", hint=_AGAIN)
    return value


def _text(data: bytes | memoryview) -> str:
    return bytes(data).decode("utf-8", "backslashreplace")
