"""Follows what a server runs of a SavedModel: from the signatures, from loading, into functions.

What stands in a graph and is reached from neither is never run: a training step, the functions of
methods that no signature calls, the saver's other half. So it is no matter for a server.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from mstore.domain.graphs import Graph, OpUse, Origin
from mstore.domain.serving_ops import CHECKPOINT_OPS, FILE_INPUTS
from mstore.formats.file_view import FileView
from mstore.formats.files import open_regular
from mstore.formats.graph import (
    MAX_NODES,
    GraphParts,
    View,
    find_graphs,
    in_memory,
    node_name,
    printable,
)

_MAX_INPUTS = 1 << 16
_MAX_USES = 1 << 13
_MAX_HOPS = 64
_MAX_TRACED = 16
_CALLS = frozenset({b"PartitionedCall", b"StatefulPartitionedCall"})
_MUST_COMPILE = b"_XlaMustCompile"
_ALTERNATIVES = b"api_implements"
_RESTORING = "\0restoring"
_LIST_OF_FUNCTIONS = 0x4A  # field 9 of AttrValue.ListValue, a message


def read_graphs(path: Path) -> tuple[Graph, ...]:
    """Return what each meta graph of a ``saved_model.pb`` does; there is at least one.

    Raises:
        InputError: there is no such file.
        DamagedFileError: it is not a sound SavedModel.
        SystemIOError: the operating system refused.
    """
    with open_regular(path) as file:
        view = FileView(file, str(path))
        return tuple(_walk(parts) for parts in find_graphs(view, path=str(path)))


def _walk(parts: GraphParts) -> Graph:
    walk = _Walk(parts)
    for signature, roots in parts.roots.items():
        walk.run(tuple(parts.nodes) if roots is None else roots, signature)
    walk.run(parts.init, None)
    walk.run((parts.restore,), _RESTORING)
    declared = {
        printable(op): printable(node)
        for op, node in parts.declared.items()
        if op not in parts.functions
    }
    return Graph(
        tags=frozenset(parts.tags),
        tensorflow_version=parts.version,
        signatures=MappingProxyType(parts.signatures),
        ops=tuple(walk.uses.values()),
        declared=MappingProxyType(declared),
        must_compile=MappingProxyType(walk.must_compile),
        constants=tuple(parts.constants),
        constant_bytes=parts.constant_bytes,
        restores=parts.restore in parts.nodes,
    )


@dataclass
class _Node:
    """One node, read as far as it matters here."""

    name: bytes = b""
    op: bytes = b""
    inputs: list[bytes] = field(default_factory=list)
    functions: list[bytes] = field(default_factory=list)
    must_compile: bool = False


@dataclass(frozen=True, slots=True)
class _Place:
    """An input of a node in a function, or in the main graph where that has no name."""

    function: bytes
    node: _Node
    at: int


_UNKNOWN: tuple[Origin, str] = ("unknown", "")


@dataclass
class _Walk:
    """What has been reached so far, and from where."""

    parts: GraphParts
    uses: dict[tuple[str, str], OpUse] = field(default_factory=dict)
    must_compile: dict[str, str | None] = field(default_factory=dict)
    seen: set[bytes] = field(default_factory=set)
    entered: set[bytes] = field(default_factory=set)
    callers: dict[bytes, tuple[bytes, View]] = field(default_factory=dict)
    path_variables: set[bytes] | None = None
    indexed: tuple[bytes, dict[bytes, View]] = field(default_factory=lambda: (b"", {}))
    traced: int = 0

    def run(self, roots: Iterable[bytes], reason: str | None) -> None:
        """Follow everything that the named nodes of the main graph need."""
        waiting, functions = deque[bytes](), deque[bytes]()
        self._push(roots, waiting)
        while waiting or functions:
            if waiting:
                view = self.parts.nodes[waiting.popleft()]
                node = self._visit(b"", view, reason, functions)
                self._push((node_name(tensor) for tensor in node.inputs), waiting)
            else:
                self._enter(functions.popleft(), reason, functions)

    def _push(self, names: Iterable[bytes], waiting: deque[bytes]) -> None:
        for name in names:
            if name in self.parts.nodes and name not in self.seen:
                self.seen.add(name)
                waiting.append(name)

    def _enter(self, name: bytes, reason: str | None, functions: deque[bytes]) -> None:
        """Visit every node of a function."""
        body = self.parts.functions[name]
        alternative = False
        for number, part in self.parts.messages(body, 3, 5):
            if number == 3:  # noqa: PLR2004 - node_def
                self._visit(name, part, reason, functions)
                continue
            key, value = self._attribute(part)
            alternative = alternative or key == _ALTERNATIVES
            if key == _MUST_COMPILE and self._flag(value):
                self._compiled(name, reason)
        if alternative:
            # The runtime puts the function of the same name for this processor in its place
            # (tensorflow/core/grappler/optimizers/implementation_selector.cc).
            self._forget_gpu_ops(name)

    def _forget_gpu_ops(self, function: bytes) -> None:
        prefix = printable(function) + "/"
        for key, use in list(self.uses.items()):
            if use.op.startswith("CudnnRNN") and use.node.startswith(prefix):
                del self.uses[key]

    def _visit(
        self, function: bytes, view: View, reason: str | None, functions: deque[bytes]
    ) -> _Node:
        node = self._read(view)
        where = node.name if not function else function + b"/" + node.name
        if node.must_compile:
            self._compiled(where, reason)
        called = [*node.functions]
        if node.op in self.parts.functions:
            called.append(node.op)
        elif reason != _RESTORING or printable(node.op) not in CHECKPOINT_OPS:
            self._use(node, function, where, reason)
        if node.op in _CALLS or node.op in self.parts.functions:
            for name in called:
                self.callers.setdefault(name, (function, view))
        for name in called:
            if name in self.parts.functions and name not in self.entered:
                self.entered.add(name)
                functions.append(name)
        return node

    def _compiled(self, where: bytes, reason: str | None) -> None:
        if len(self.must_compile) < _MAX_USES:
            self.must_compile.setdefault(printable(where), _public(reason))

    def _use(self, node: _Node, function: bytes, where: bytes, reason: str | None) -> None:
        op = printable(node.op)
        use = OpUse(op, printable(where), _public(reason))
        if op in FILE_INPUTS and self.traced < _MAX_TRACED:
            self.traced += 1
            at = FILE_INPUTS[op]
            origin, file = (
                self._origin(_Place(function, node, at or 0)) if at is not None else _UNKNOWN
            )
            use = replace(use, origin=origin, file=file)
        key = (op, f"{use.origin} {use.file}" if use.origin else "")
        known = self.uses.get(key)
        if known is None and len(self.uses) >= _MAX_USES:
            raise self.parts.damaged("it has more kinds of ops than any sound graph")
        self.uses[key] = replace(known, count=known.count + 1) if known else use

    def _read(self, view: View) -> _Node:
        node = _Node()
        for number, part in self.parts.messages(in_memory(view), 1, 2, 3, 5):
            if number == 1:
                node.name = self.parts.text(part)
            elif number == 2:  # noqa: PLR2004 - op
                node.op = self.parts.text(part)
            elif number == 3:  # noqa: PLR2004 - input
                node.inputs.append(self.parts.text(part))
                if len(node.inputs) > _MAX_INPUTS:
                    raise self.parts.damaged("a node in it has more inputs than any sound one")
            else:
                key, value = self._attribute(part)
                if value is None:
                    continue
                if key == _MUST_COMPILE:
                    node.must_compile = self._flag(value)
                node.functions += self._functions(value)
        return node

    def _attribute(self, entry: View) -> tuple[bytes, View | None]:
        key, value = b"", None
        for number, part in self.parts.messages(entry, 1, 2):
            if number == 1:
                key = self.parts.text(part)
            else:
                value = part
        return key, value

    def _flag(self, value: View | None) -> bool:
        """Return whether an ``AttrValue`` is the number one: field 5, a varint."""
        return value is not None and len(value) == 2 and (value[0], value[1]) == (0x28, 1)  # noqa: PLR2004

    def _functions(self, value: View) -> Iterator[bytes]:
        """Iterate over the functions that an ``AttrValue`` names."""
        for number, part in self.parts.messages(value, 1, 10):
            if number == 10:  # noqa: PLR2004 - func
                yield from self._function_name(part)
            elif len(part) and part[0] == _LIST_OF_FUNCTIONS:
                for _, function in self.parts.messages(part, 9):
                    yield from self._function_name(function)

    def _function_name(self, data: View) -> Iterator[bytes]:
        for _, name in self.parts.messages(data, 1):
            yield self.parts.text(name)

    def _origin(self, place: "_Place") -> tuple[Origin, str]:
        """Find where an input of a node comes from, through calls and copies."""
        found: _Place | tuple[Origin, str] = place
        for _ in range(_MAX_HOPS):
            if not isinstance(found, _Place):
                return found
            found = self._supplier(found)
        return _UNKNOWN

    def _supplier(self, place: "_Place") -> "_Place | tuple[Origin, str]":
        """Go one step back from an input: to its origin, or to the input to look at next."""
        data = [name for name in place.node.inputs if not name.startswith(b"^")]
        if place.at >= len(data):
            return _UNKNOWN
        function, name = place.function, node_name(data[place.at])
        if not function and name in self.parts.assets:
            return "asset", ""
        view = self._find(function, name)
        if view is None:
            return (self._argument(function, name) if function else None) or _UNKNOWN
        return self._through(function, view)

    def _through(self, function: bytes, view: View) -> "_Place | tuple[Origin, str]":
        """Tell what a node that gives a file's name makes of it."""
        node = self._read(view)
        if node.op == b"Const":
            return "constant", self._constant(view)
        if node.op == b"Placeholder":
            return "request", ""
        if node.op == b"ReadVariableOp" and not function:
            known = node_name(b"".join(node.inputs[:1])) in self._paths()
            return ("asset", "") if known else _UNKNOWN
        return _Place(function, node, 0) if node.op == b"Identity" else _UNKNOWN

    def _find(self, function: bytes, name: bytes) -> View | None:
        if not function:
            return self.parts.nodes.get(name)
        if self.indexed[0] != function:
            self.indexed = function, self._index(function)
        return self.indexed[1].get(name)

    def _index(self, function: bytes) -> dict[bytes, View]:
        """Return the nodes of a function by name."""
        index: dict[bytes, View] = {}
        for _, part in self.parts.messages(self.parts.functions[function], 3):
            for _, name in self.parts.messages(in_memory(part), 1):
                index[self.parts.text(name)] = part
            if len(index) > MAX_NODES:
                raise self.parts.damaged("a function in it has more nodes than any sound one")
        return index

    def _argument(self, function: bytes, name: bytes) -> "_Place | None":
        """Return the call that gives a function its argument, and the argument's number."""
        caller = self.callers.get(function)
        if caller is None:
            return None
        for _, signature in self.parts.messages(self.parts.functions[function], 1):
            arguments = self.parts.messages(in_memory(signature), 2)
            for at, (_, argument) in enumerate(arguments):
                for _, found in self.parts.messages(argument, 1):
                    if self.parts.text(found) == name:
                        return _Place(caller[0], self._read(caller[1]), at)
        return None

    def _paths(self) -> set[bytes]:
        """Return the variables that hold the path of an asset.

        TensorFlow 2 assigns it when the version is loaded and reads it from there.
        """
        if self.path_variables is None:
            assigned = (self._read(view) for view in self.parts.nodes.values())
            self.path_variables = {
                node_name(node.inputs[0])
                for node in assigned
                if node.op == b"AssignVariableOp"
                and node_name(b"".join(node.inputs[1:2])) in self.parts.assets
            }
        return self.path_variables

    def _constant(self, view: View) -> str:
        """Return the first string of a constant: ``attr["value"].tensor.string_val[0]``."""
        for _, entry in self.parts.messages(in_memory(view), 5):
            key, value = self._attribute(entry)
            if key == b"value" and value is not None:
                for _, tensor in self.parts.messages(value, 8):
                    for _, text in self.parts.messages(tensor, 8):
                        return printable(bytes(text[:300]))
        return ""


def _public(reason: str | None) -> str | None:
    return None if reason == _RESTORING else reason
