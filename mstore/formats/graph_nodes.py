"""The nodes of a ``GraphDef``, one at a time, as views of the file's bytes.

They are ``NodeDef`` and ``AttrValue`` messages (tensorflow/core/framework/node_def.proto and
attr_value.proto).
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from mstore.domain.signatures import TensorSpec
from mstore.domain.tensors import DTYPES
from mstore.formats import protos, wire
from mstore.formats.files import damaged

VARIABLES = frozenset({"VariableV2", "Variable", "VarHandleOp", "AutoReloadVariable"})
"""Ops that are variables."""

WRITERS = re.compile(
    r"Assign\w*|(?:Resource)?(?:Sparse)?Apply\w*|Resource(?:Scatter|StridedSliceAssign)\w*|"
    r"Scatter(?:Nd)?(?:Update|Add|Sub|Mul|Div|Min|Max)|StridedSliceAssign|(?:Resource)?CountUpTo"
)
"""Ops that change variables."""

_REF_TYPES = 100  # DT_FLOAT_REF is DT_FLOAT + 100
_MAX_RANK = 254
_MAX_SHAPE = 1 << 14
_NODE, _NAME, _OP, _INPUT, _ATTRIBUTE = 1, 1, 2, 3, 5
_KEY, _VALUE = 1, 2
_LIBRARY, _FUNCTION, _FUNCTION_NODE = 2, 1, 3
_TEXT, _NUMBER, _TYPE, _SHAPE = 2, 3, 6, 7


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a graph.

    Attributes:
        name: its name.
        op: what it does.
        budget: what is left of the walk over the file.
        path: the file, for errors.
        message: the ``NodeDef``.
    """

    name: str
    op: str
    budget: wire.Budget
    path: str
    message: memoryview

    @property
    def inputs(self) -> list[str]:
        """The tensors it reads, ``NAME`` or ``NAME:INDEX``, and ``^NAME`` of those before it."""
        parts = wire.messages(self.message, {_INPUT}, self.budget, path=self.path)
        return [text(part) for _, part in parts]

    def attribute(self, key: str) -> memoryview | None:
        """Return the ``AttrValue`` under ``key``, None where there is none."""
        for _, entry in wire.messages(self.message, {_ATTRIBUTE}, self.budget, path=self.path):
            parts = dict(wire.messages(entry, {_KEY, _VALUE}, self.budget, path=self.path))
            if text(parts.get(_KEY, entry[:0])) == key:
                return parts.get(_VALUE, entry[:0])
        return None

    def text(self, key: str) -> str:
        """Return an attribute that is a text, empty where there is none."""
        found = ""
        for number, value in self._parts(key):
            if number == _TEXT and not isinstance(value, int):
                found = text(value)
        return found

    def spec(self, dtype_key: str = "dtype", shape_key: str = "shape") -> TensorSpec | None:
        """Return dtype and shape of what the node holds; None where the graph does not say."""
        dtype = ""
        for number, value in self._parts(dtype_key):
            if number == _TYPE and isinstance(value, int):
                dtype = DTYPES.get(value % _REF_TYPES, ("", 0))[0]
        if not dtype:
            return None
        shape = None
        for number, value in self._parts(shape_key):
            if number == _SHAPE and not isinstance(value, int):
                shape = self._dimensions(value)
        return TensorSpec(dtype, shape)

    def _parts(self, key: str) -> Iterator[tuple[int, int | memoryview]]:
        value = self.attribute(key)
        if value is not None:
            yield from wire.fields(value, self.budget, path=self.path)

    def elements(self, shape: memoryview) -> int:
        """Return the number of elements of a ``TensorShapeProto``; 0 where it is open."""
        return math.prod(size or 0 for size in self._dimensions(shape) or (0,))

    def _dimensions(self, data: memoryview) -> tuple[int | None, ...] | None:
        message = protos.Shape()
        try:
            if len(data) > _MAX_SHAPE:
                raise damaged(self.path, "a shape in its graph is longer than any sound one")
            message.ParseFromString(bytes(data))
        except DecodeError as error:
            raise damaged(self.path, "a shape in its graph does not parse") from error
        if message.unknown_rank:
            return None
        sizes = tuple(dimension.size for dimension in message.dim)
        if len(sizes) > _MAX_RANK or min(sizes, default=0) < -1:
            raise damaged(self.path, "a shape in its graph cannot be")
        return tuple(None if size < 0 else size for size in sizes)


def nodes(graph: memoryview, budget: wire.Budget, *, path: str) -> Iterator[Node]:
    """Iterate over the nodes of the main graph in a ``GraphDef``.

    Raises:
        DamagedFileError: the bytes are not a message, or the budget is used up.
    """
    for _, message in wire.messages(graph, {_NODE}, budget, path=path):
        parts = dict(wire.messages(message, {_NAME, _OP}, budget, path=path))
        empty = message[:0]
        yield Node(
            text(parts.get(_NAME, empty)), text(parts.get(_OP, empty)), budget, path, message
        )


def function_ops(graph: memoryview, budget: wire.Budget, *, path: str) -> set[str]:
    """Return the ops in the functions of a ``GraphDef``.

    Raises:
        DamagedFileError: the bytes are not a message, or the budget is used up.
    """
    found = set()
    for _, library in wire.messages(graph, {_LIBRARY}, budget, path=path):
        for _, function in wire.messages(library, {_FUNCTION}, budget, path=path):
            for _, node in wire.messages(function, {_FUNCTION_NODE}, budget, path=path):
                for _, op in wire.messages(node, {_OP}, budget, path=path):
                    found.add(text(op))
    return found


def text(data: bytes | memoryview) -> str:
    """Return a name in a message as text; bytes that are not UTF-8 as escapes."""
    return bytes(data).decode("utf-8", "backslashreplace")
