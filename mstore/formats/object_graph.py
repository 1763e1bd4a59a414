"""The object graph of a TensorFlow 2 checkpoint: which variable each key belongs to.

``TrackableObjectGraph`` (tensorflow/core/protobuf/trackable_object_graph.proto) stands in the
bundle as a string scalar under ``_CHECKPOINTABLE_OBJECT_GRAPH``; a checkpoint without it is
name-based, as TensorFlow 1 wrote them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from google.protobuf.message import DecodeError

from mstore.formats import protos, wire
from mstore.formats.files import damaged

MAX_BYTES = 1 << 25
"""Longest serialized object graph that is read."""

MAX_ITEMS = 1 << 19
"""Most nodes, children, attributes and slots that a graph may have together."""

_NO_CHILDREN: Mapping[str, int] = MappingProxyType({})
_NODES = 1


@dataclass(frozen=True, slots=True)
class Attribute:
    """One saved value of an object.

    Attributes:
        name: ``VARIABLE_VALUE`` for variables.
        full_name: name of the variable in the training program; empty where it has none.
        checkpoint_key: key in the index.
    """

    name: str
    full_name: str
    checkpoint_key: bytes


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot variable that an optimizer keeps for another variable.

    Attributes:
        variable: number of the node of the variable that the slot belongs to.
        name: name of the slot, such as ``momentum``.
        node: number of the node of the slot variable itself.
    """

    variable: int
    name: str
    node: int


@dataclass(frozen=True, slots=True)
class Node:
    """One object of the graph.

    Attributes:
        children: local name to number of the child's node.
        attributes: values saved for the object itself.
        slots: slot variables, where the object is an optimizer of Keras 2.
    """

    children: Mapping[str, int]
    attributes: tuple[Attribute, ...]
    slots: tuple[Slot, ...] = ()


@dataclass(frozen=True, slots=True)
class ObjectGraph:
    """The objects of a checkpoint; the root is node 0.

    Attributes:
        nodes: the objects in stored order.
    """

    nodes: tuple[Node, ...]

    def full_names(self) -> dict[bytes, str]:
        """Return the variable name recorded for each checkpoint key that has one."""
        names: dict[bytes, str] = {}
        for node in self.nodes:
            for attribute in node.attributes:
                if attribute.full_name:
                    names.setdefault(attribute.checkpoint_key, attribute.full_name)
        return names


def parse_object_graph(data: bytes, *, path: str) -> ObjectGraph:
    """Return the object graph in ``data``, the element of the string tensor.

    Args:
        data: the serialized ``TrackableObjectGraph``.
        path: the file it comes from, for the error.

    Raises:
        DamagedFileError: it does not parse, is too large, or refers to nodes that it lacks.
    """
    if len(data) > MAX_BYTES:
        raise damaged(path, f"its object graph has {len(data)} bytes")
    # Nodes are parsed one at a time: a few bytes of a hostile graph can ask for many objects.
    left = MAX_ITEMS
    budget = wire.Budget(MAX_ITEMS)
    message = protos.TrackableObject()
    nodes: list[Node] = []
    for _, value in wire.messages(memoryview(data), {_NODES}, budget, path=path):
        try:
            message.ParseFromString(value)
        except DecodeError as error:
            raise damaged(path, "a node of its object graph does not parse") from error
        left -= (
            1 + len(message.children) + len(message.attributes) + 2 * len(message.slot_variables)
        )
        if left < 0:
            raise damaged(path, "its object graph is larger than that of any sound checkpoint")
        nodes.append(_node(message))
    for node in nodes:
        _check_references(node, len(nodes), path)
    return ObjectGraph(tuple(nodes))


def _check_references(node: Node, count: int, path: str) -> None:
    references = [*node.children.values()]
    for slot in node.slots:
        references += (slot.variable, slot.node)
    if references and not 0 <= min(references) <= max(references) < count:
        raise damaged(path, "its object graph refers to a node that it does not have")


def _node(message: Any) -> Node:
    children = {_text(child.local_name): child.node_id for child in message.children}
    slots = tuple(
        Slot(slot.original_variable_node_id, _text(slot.slot_name), slot.slot_variable_node_id)
        for slot in message.slot_variables
    )
    attributes = tuple(
        Attribute(_text(item.name), _text(item.full_name), item.checkpoint_key)
        for item in message.attributes
    )
    return Node(MappingProxyType(children) if children else _NO_CHILDREN, attributes, slots)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
