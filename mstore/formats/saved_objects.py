"""The objects of a SavedModel: the name in the program of each variable.

``SavedObjectGraph`` (tensorflow/core/protobuf/saved_object_graph.proto) stands in the meta graph.
A variable's key in ``variables.index`` is its path through these objects, each local name escaped
(tensorflow/python/trackable/trackable_utils.py), with ``/.ATTRIBUTES/VARIABLE_VALUE`` behind it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from mstore.formats import wire
from mstore.formats.files import damaged

MAX_ITEMS = 1 << 19
"""Most objects and edges between them that are read together."""

_SUFFIX = b"/.ATTRIBUTES/VARIABLE_VALUE"
_ESCAPE = re.compile(rb"\.([.S])")
_ESCAPED = {b".": b".", b"S": b"/"}
_NODES = 1
_CHILDREN, _VARIABLE = 1, 7
_NODE_ID, _LOCAL_NAME = 1, 2
_VARIABLE_NAME = 6


class SavedObjects:
    """The objects of one meta graph; each is read when a path first leads through it."""

    def __init__(self, data: memoryview, budget: wire.Budget, *, path: str) -> None:
        """Find the objects in a ``SavedObjectGraph``.

        Raises:
            DamagedFileError: the bytes are not a message, or have more parts than any sound one.
        """
        self._budget = budget
        self._path = path
        self._left = MAX_ITEMS
        self._nodes = list(self._counted(data, _NODES))
        self._children: dict[int, Mapping[bytes, int]] = {}

    def variable_names(self, keys: Iterable[bytes]) -> dict[bytes, str]:
        """Return the name of the variable under each key that leads to one.

        Raises:
            DamagedFileError: an object is not a message, or there are too many.
        """
        names = {key: self._name(self._at(key.removesuffix(_SUFFIX))) for key in keys}
        return {key: name for key, name in names.items() if name}

    def _at(self, path: bytes) -> int | None:
        """Return the number of the object at ``path``, None if there is none."""
        number: int | None = 0
        for part in path.split(b"/"):
            name = _ESCAPE.sub(lambda match: _ESCAPED[match[1]], part)
            number = None if number is None else self._children_of(number).get(name)
        return number

    def _children_of(self, number: int) -> Mapping[bytes, int]:
        if number not in self._children:
            found: dict[bytes, int] = {}
            for part in self._counted(self._node(number), _CHILDREN):
                values = dict(wire.fields(part, self._budget, path=self._path))
                child, name = values.get(_NODE_ID, 0), values.get(_LOCAL_NAME)
                if isinstance(child, int) and isinstance(name, memoryview):
                    found[bytes(name)] = child
            self._children[number] = found
        return self._children[number]

    def _name(self, number: int | None) -> str:
        name = b""
        for _, variable in self._messages(self._node(number), _VARIABLE):
            for _, text in self._messages(variable, _VARIABLE_NAME):
                name = bytes(text)
        return name.decode("utf-8", "backslashreplace")

    def _node(self, number: int | None) -> memoryview:
        if number is None or number >= len(self._nodes):
            return memoryview(b"")
        return self._nodes[number]

    def _counted(self, data: memoryview, number: int) -> Iterator[memoryview]:
        for _, part in self._messages(data, number):
            self._left -= 1
            if self._left < 0:
                raise damaged(self._path, "it has more objects than any sound SavedModel")
            yield part

    def _messages(self, data: memoryview, number: int) -> Iterator[tuple[int, memoryview]]:
        return wire.messages(data, {number}, self._budget, path=self._path)
