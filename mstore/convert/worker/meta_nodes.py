"""The trained graph as nodes by name: what depends on what, and what the signatures need."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mstore.errors import InputError
from mstore.formats.graph_nodes import WRITERS

PLACEHOLDERS = frozenset({"Placeholder", "PlaceholderV2"})
"""Ops that must be fed."""

_MAX_DIGITS = 9
_TABLES = re.compile(r"(?:Anonymous)?(?:Mutable)?(?:Dense)?HashTable(?:OfTensors)?(?:V2)?")
_MUTABLE_TABLES = re.compile(r".*(?:Mutable|Dense).*HashTable.*")
_INITIALIZERS = re.compile(r"InitializeTable(?:FromTextFile)?(?:V2)?|LookupTableImport(?:V2)?")
_PYTHON = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})
_PIPELINE = re.compile(
    r"(?:Iterator|MultiDeviceIterator)GetNext\w*|OptionalGetValue|QueueDequeue\w*|ReaderRead\w*"
)


def split(tensor: str) -> tuple[str, int]:
    """Return the node and the output's number of an input of a node.

    >>> split("dense/MatMul"), split("split:1")
    (('dense/MatMul', 0), ('split', 1))
    """
    name, colon, index = tensor.rpartition(":")
    numbered = colon and index.isdecimal() and len(index) <= _MAX_DIGITS
    return (name, int(index)) if numbered else (tensor, 0)


def full(tensor: str) -> str:
    """Return a tensor's name with its number.

    >>> full("x"), full("x:1")
    ('x:0', 'x:1')
    """
    name, index = split(tensor)
    return f"{name}:{index}"


@dataclass(frozen=True)
class Nodes:
    """The nodes of a graph.

    Attributes:
        graph: the ``GraphDef``.
        by_name: its nodes.
    """

    graph: Any
    by_name: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        """Index the nodes by name."""
        object.__setattr__(self, "by_name", {node.name: node for node in self.graph.node})

    def require(self, tensor: str) -> Any:
        """Return the node of a tensor that somebody named.

        Raises:
            InputError: there is none.
        """
        name, _ = split(tensor)
        node = self.by_name.get(name)
        if node is None:
            close = difflib.get_close_matches(name, self.by_name, 3, 0.5)
            raise InputError(
                f"the graph has no tensor {tensor!r}",
                hint=f"it has {', '.join(f'{item}:0' for item in close)}" if close else "",
            )
        return node

    def before(self, tensors: Iterable[str], cut: frozenset[str]) -> set[str]:
        """Return the names of the nodes that ``tensors`` depend on, not going past ``cut``."""
        found: set[str] = set()
        queue = [split(tensor)[0] for tensor in tensors if full(tensor) not in cut]
        while queue:
            name = queue.pop()
            if name in found or name not in self.by_name:
                continue
            found.add(name)
            queue += [before for before, _ in self.edges(name, cut)]
        return found

    def edges(self, name: str, cut: frozenset[str]) -> Iterator[tuple[str, str]]:
        """Iterate over the inputs of a node: the node before it, and the input as written."""
        for text in self.by_name[name].input:
            if text.startswith("^"):
                # To wait for what is fed is to wait for nothing.
                if not any(split(tensor)[0] == text[1:] for tensor in cut):
                    yield text[1:], text
            elif full(text) not in cut:
                yield split(text)[0], text

    def constant(self, tensor: str) -> tuple[str, Any] | None:
        """Return the node and the value of a constant, also behind identities; else None."""
        node = self.by_name.get(split(tensor)[0])
        while node is not None and node.op == "Identity":
            node = self.by_name.get(split(node.input[0])[0])
        return (node.name, node.attr["value"].tensor) if node and node.op == "Const" else None

    def with_tables(self, found: set[str], cut: frozenset[str]) -> tuple[set[str], list[str]]:
        """Return ``found`` and what fills the tables in it, and the nodes that do the filling.

        Raises:
            InputError: nothing fills a table, or training did.
        """
        tables = {name for name in found if _TABLES.fullmatch(self.by_name[name].op)}
        filling: list[str] = []
        filled: set[str] = set()
        for node in self.graph.node:
            if _INITIALIZERS.fullmatch(node.op) and split(node.input[0])[0] in tables:
                filling.append(node.name)
                filled.add(split(node.input[0])[0])
        for name in sorted(tables):
            if _MUTABLE_TABLES.fullmatch(self.by_name[name].op) or name not in filled:
                raise InputError(
                    f"the outputs look up the table {name!r}, whose entries are not in the graph",
                    hint="only tables that are filled from constants or from a file are exported",
                )
        return found | self.before(filling, cut), sorted(set(filling))

    def refuse(self, found: set[str]) -> None:
        """Refuse nodes that cannot be served.

        Raises:
            InputError: naming the first of them.
        """
        for name in sorted(found):
            op = self.by_name[name].op
            if op in _PYTHON:
                raise InputError(
                    f"the outputs call Python code (the node {name!r}, {op}), which no server has",
                    hint="feed what it gives, or choose outputs that do not need it: "
                    f"--input NAME={name}:0",
                )
            if _PIPELINE.fullmatch(op):
                raise InputError(
                    f"the outputs read from the input pipeline of training (the node {name!r}, "
                    f"{op})",
                    hint=f"make what it gives an input: --input NAME={name}:0",
                )
            if WRITERS.fullmatch(op):
                raise InputError(
                    f"the outputs change variables (the node {name!r}, {op})",
                    hint="choose outputs of inference, not of training",
                )
