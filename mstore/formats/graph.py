"""Finds the parts of a SavedModel's graphs: nodes, functions, signatures, where it all begins.

``saved_model.pb`` is looked at through a view: of a graph with constants of any size little is
in memory at a time. Messages: tensorflow/core/protobuf/{meta_graph,saver}.proto and
tensorflow/core/framework/{graph,function,node_def,op_def,attr_value,tensor}.proto.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from mstore.domain.graphs import Constant
from mstore.domain.signatures import Signature
from mstore.formats import wire
from mstore.formats.file_view import FileView
from mstore.formats.files import damaged
from mstore.formats.saved_model import INIT_OP_SIGNATURE, OP_SIGNATURES, read_signature
from mstore.formats.saved_model import MAX_SIGNATURE as MAX_ENTRY

AGAIN = "copy the SavedModel again from where it was written, or export it again"
"""What to do about a damaged SavedModel."""

MAX_NAME = 1 << 12
"""Longest name of a node, an op or a function in bytes."""

MAX_NODES = 1 << 18
"""Most nodes of a graph or a function."""

_MAX_FIELDS = 1 << 24
_MAX_GRAPHS = 64
_MAX_SIGNATURES = 1 << 12
_IN_MEMORY = 1 << 20
_SMALL_NODE = 1 << 10
_LARGEST_KEPT = 5
_SCHEMA_VERSION = 1
_INIT_COLLECTIONS = frozenset({b"saved_model_main_op", b"legacy_init_op"})

View = memoryview | FileView


@dataclass
class GraphParts:
    """What is found in one meta graph.

    Attributes:
        path: the file, for errors.
        budget: how much more of the file may be walked.
        tags: its tags.
        version: version of the TensorFlow that wrote it.
        signatures: entry points by name.
        roots: names of the nodes that each signature runs; None where that is not known.
        init: names of the nodes that are run when the version is loaded.
        restore: name of the node that restores the variables, or nothing.
        assets: names of the nodes that hold the path of an asset.
        nodes: each node of the main graph by name.
        functions: each function by name.
        declared: ops of the main graph with the first node of each.
        constants: the largest constants.
        constant_bytes: bytes of all large constants.
    """

    path: str
    budget: wire.Budget
    tags: set[str] = field(default_factory=set)
    version: str = ""
    signatures: dict[str, Signature] = field(default_factory=dict)
    roots: dict[str, tuple[bytes, ...] | None] = field(default_factory=dict)
    init: list[bytes] = field(default_factory=list)
    restore: bytes = b""
    assets: set[bytes] = field(default_factory=set)
    nodes: dict[bytes, View] = field(default_factory=dict)
    functions: dict[bytes, View] = field(default_factory=dict)
    declared: dict[bytes, bytes] = field(default_factory=dict)
    constants: list[Constant] = field(default_factory=list)
    constant_bytes: int = 0

    def messages(self, data: View, *wanted: int) -> Iterator[tuple[int, View]]:
        """Iterate over sub-messages and strings of a message."""
        if isinstance(data, FileView):
            return wire.messages(data, wanted, self.budget, path=self.path)
        return wire.messages(data, wanted, self.budget, path=self.path)

    def text(self, data: View, limit: int = MAX_NAME) -> bytes:
        """Return a short string.

        Raises:
            DamagedFileError: it is longer than ``limit``.
        """
        if len(data) > limit:
            raise self.damaged("a name in it is longer than any sound one")
        return bytes(data)

    def damaged(self, what: str) -> Exception:
        """Return the error that says what is wrong with the file."""
        return damaged(self.path, what, hint=AGAIN)


def in_memory(data: View) -> View:
    """Return the bytes themselves where there are not too many of them, else the view."""
    return (
        memoryview(bytes(data)) if isinstance(data, FileView) and len(data) <= _IN_MEMORY else data
    )


def node_name(tensor: bytes) -> bytes:
    """Return the node of a tensor or of a control input.

    >>> node_name(b"dense/MatMul:0"), node_name(b"^init")
    (b'dense/MatMul', b'init')
    """
    return tensor.removeprefix(b"^").partition(b":")[0]


def printable(text: bytes) -> str:
    """Return a name for people."""
    return text.decode("utf-8", "backslashreplace")


def find_graphs(data: FileView, *, path: str) -> list[GraphParts]:
    """Return the parts of each meta graph of a ``SavedModel`` message; there is at least one.

    Raises:
        DamagedFileError: the bytes are not a sound message.
    """
    budget = wire.Budget(_MAX_FIELDS)
    graphs: list[GraphParts] = []
    for number, value in wire.fields(data, budget, path=path):
        if number == 1 and value != _SCHEMA_VERSION:
            raise damaged(path, "it is of an unknown schema version", hint=AGAIN)
        if number == 2:  # noqa: PLR2004 - meta_graphs
            if isinstance(value, int):
                raise damaged(path, "it has a number where a graph must be", hint=AGAIN)
            graphs.append(_meta_graph(value, budget, path))
            if len(graphs) > _MAX_GRAPHS:
                raise damaged(path, "it has more graphs than any sound SavedModel", hint=AGAIN)
    if not graphs:
        raise damaged(path, "it holds no graph", hint=AGAIN)
    return graphs


def _meta_graph(data: View, budget: wire.Budget, path: str) -> GraphParts:
    graph = GraphParts(path, budget)
    for number, part in graph.messages(data, 1, 2, 3, 4, 5, 6):
        match number:
            case 1:
                _meta_info(part, graph)
            case 2:
                _graph_def(part, graph)
            case 3:
                for _, name in graph.messages(part, 3):
                    graph.restore = node_name(graph.text(name))
            case 4:
                _collection(part, graph)
            case 5:
                _signature(part, graph)
            case _:
                _asset(part, graph)
        if len(graph.signatures) > _MAX_SIGNATURES:
            raise graph.damaged("it has more signatures than any sound SavedModel")
        if max(len(graph.init), len(graph.assets)) > MAX_NODES:
            raise graph.damaged("it has more names than any sound SavedModel")
    return graph


def _meta_info(data: View, graph: GraphParts) -> None:
    for number, part in graph.messages(data, 4, 5):
        if number == 5:  # noqa: PLR2004 - tensorflow_version
            graph.version = printable(graph.text(part))
        elif len(graph.tags) < _MAX_GRAPHS:
            graph.tags.add(printable(graph.text(part)))


def _collection(data: View, graph: GraphParts) -> None:
    """Find the initialization op in an entry of ``collection_def``."""
    key = b""
    for number, part in graph.messages(data, 1, 2):
        if number == 1:
            key = graph.text(part)
        elif key in _INIT_COLLECTIONS:
            for _, names in graph.messages(part, 1):  # node_list
                named = islice(graph.messages(names, 1), MAX_NODES)
                graph.init += [node_name(graph.text(name)) for _, name in named]


def _signature(data: View, graph: GraphParts) -> None:
    if len(data) > MAX_ENTRY:
        raise graph.damaged("a signature of it is larger than any sound one")
    loaded = memoryview(bytes(data))
    name, signature, outputs = read_signature(loaded, path=graph.path)
    roots = tuple(node_name(output) for output in outputs)
    if name == INIT_OP_SIGNATURE:
        graph.init += roots
    elif name not in OP_SIGNATURES:
        graph.signatures[name] = signature
        graph.roots[name] = roots if all(roots) else None


def _asset(data: View, graph: GraphParts) -> None:
    for _, info in graph.messages(data, 1):
        for _, name in graph.messages(info, 1):
            graph.assets.add(node_name(graph.text(name)))


def _graph_def(data: View, graph: GraphParts) -> None:
    for number, part in graph.messages(data, 1, 2):
        if number == 1:
            name, op = _register(part, graph)
            graph.nodes[name] = part
            graph.declared.setdefault(op, name)
        else:
            for _, function in graph.messages(part, 1):
                _function(function, graph)
        if max(len(graph.nodes), len(graph.functions)) > MAX_NODES:
            raise graph.damaged("it has more nodes than any sound graph")


def _function(data: View, graph: GraphParts) -> None:
    function = b""
    large = []
    for number, part in graph.messages(data, 1, 3):
        if number == 1:
            for _, name in graph.messages(in_memory(part), 1):
                function = graph.text(name)
        elif len(part) > _SMALL_NODE:
            large.append(part)
    for node in large:
        _register(node, graph, function)
    graph.functions[function] = data


def _register(data: View, graph: GraphParts, function: bytes = b"") -> tuple[bytes, bytes]:
    """Return name and op of a node; note how large it is if it is a constant."""
    name = op = b""
    value = 0
    for number, part in graph.messages(in_memory(data), 1, 2, 5):
        if number == 1:
            name = graph.text(part)
        elif number == 2:  # noqa: PLR2004 - op
            op = graph.text(part)
        elif len(part) > _SMALL_NODE:
            value = max(value, len(part))
    if op == b"Const" and value:
        where = b"/".join(filter(None, (function, name)))
        graph.constant_bytes += value
        graph.constants.append(Constant(printable(where), value))
        graph.constants.sort(key=lambda constant: -constant.size)
        del graph.constants[_LARGEST_KEPT:]
    return name, op
