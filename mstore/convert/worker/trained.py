"""What the checkpoint holds: the object graph of the training program and its tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from mstore.domain.tensors import OBJECT_GRAPH_KEY
from mstore.errors import DamagedFileError, InputError

VARIABLE = "VARIABLE_VALUE"
_OPTIMIZER_LIST = "_trainable_variables"
# Keras 3 names the first two, Keras 2 and tf.compat the others.
_OPTIMIZER_MARKS = ("_iterations", "_learning_rate", "iter", "beta_1", "inner_optimizer")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A variable of the training program.

    Attributes:
        key: key of its tensor in the checkpoint.
        full_name: its name in the training program; empty where there was none.
        dtype: TensorFlow's name of the element type.
        shape: length of each dimension.
    """

    key: str
    full_name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def is_bookkeeping(self) -> bool:
        """Whether this is a step, an epoch or a seed, as training keeps beside its weights."""
        if "seed_generator_state" in self.full_name:
            return True
        return self.shape == () and self.dtype in {"int32", "int64", "uint32", "uint64"}


@dataclass(slots=True)
class Node:
    """An object of the training program.

    Attributes:
        children: local name to node number.
        leaf: the variable, if it is one.
        state_keys: keys of other things it stored, such as the content of a table.
        slots: of an optimizer of Keras 2, node of the variable, name, and node of the slot.
    """

    children: dict[str, int] = field(default_factory=dict)
    leaf: Leaf | None = None
    state_keys: tuple[str, ...] = ()
    slots: tuple[tuple[int, str, int], ...] = ()

    @property
    def is_optimizer(self) -> bool:
        """Whether this looks like an optimizer."""
        return _OPTIMIZER_LIST in self.children or any(
            mark in self.children for mark in _OPTIMIZER_MARKS
        )


def open_reader(prefix: Path) -> Any:
    """Return TensorFlow's reader of a checkpoint.

    Raises:
        DamagedFileError: if TensorFlow cannot read it.
    """
    try:
        return tf.train.load_checkpoint(str(prefix))
    except (tf.errors.OpError, ValueError) as exc:
        raise _unreadable(prefix, exc) from exc


def has_object_graph(reader: Any) -> bool:
    """Return whether ``tf.train.Checkpoint`` wrote it; ``Saver`` keeps names alone."""
    return bool(reader.has_tensor(OBJECT_GRAPH_KEY.decode()))


def _unreadable(prefix: Path, exc: Exception) -> DamagedFileError:
    return DamagedFileError(f"cannot read the checkpoint {prefix}: {exc}", path=str(prefix))


class Trained:
    """A checkpoint, opened.

    Attributes:
        nodes: the objects; number 0 is the root.
        paths: node number to its shortest path of local names.
    """

    def __init__(self, prefix: Path) -> None:
        """Open the checkpoint.

        Raises:
            DamagedFileError: if TensorFlow cannot read it.
            InputError: if it has no object graph.
        """
        self._reader = open_reader(prefix)
        try:
            self._shapes: Mapping[str, list[int]] = self._reader.get_variable_to_shape_map()
            self._dtypes: Mapping[str, Any] = self._reader.get_variable_to_dtype_map()
            self.nodes = self._read_graph(prefix)
        except (tf.errors.OpError, ValueError) as exc:
            raise _unreadable(prefix, exc) from exc
        self.paths = self._walk()

    def _read_graph(self, prefix: Path) -> list[Node]:
        if not has_object_graph(self._reader):
            raise InputError(
                f"the checkpoint {prefix} has no object graph: it was not written by "
                "tf.train.Checkpoint",
                hint="restore it in the training program and save it with tf.train.Checkpoint",
            )
        key = OBJECT_GRAPH_KEY.decode()
        graph = trackable_object_graph_pb2.TrackableObjectGraph()
        graph.ParseFromString(self._reader.get_tensor(key))
        return [self._node(proto) for proto in graph.nodes]

    def _node(self, proto: Any) -> Node:
        slots = tuple(
            (slot.original_variable_node_id, slot.slot_name, slot.slot_variable_node_id)
            for slot in proto.slot_variables
        )
        node = Node({child.local_name: child.node_id for child in proto.children}, slots=slots)
        for attribute in proto.attributes:
            key = attribute.checkpoint_key
            if attribute.name == VARIABLE and key in self._shapes:
                node.leaf = Leaf(
                    key,
                    attribute.full_name,
                    tf.as_dtype(self._dtypes[key]).name,
                    tuple(self._shapes[key]),
                )
            elif attribute.name != "OBJECT_CONFIG_JSON":
                node.state_keys += (key,)
        return node

    def _walk(self) -> dict[int, tuple[str, ...]]:
        paths: dict[int, tuple[str, ...]] = {0: ()} if self.nodes else {}
        queue = list(paths)
        for number in queue:
            for name, child in self.nodes[number].children.items():
                if child not in paths:
                    paths[child] = (*paths[number], name)
                    queue.append(child)
        return paths

    def has(self, key: str) -> bool:
        """Return whether there is a tensor under ``key``."""
        return key in self._shapes

    def keys(self) -> list[str]:
        """Return the keys of all tensors, sorted."""
        return sorted(self._shapes)

    def read(self, key: str) -> Any:
        """Return the tensor under ``key`` as a numpy array."""
        return self._reader.get_tensor(key)

    def items(self, number: int, name: str) -> list[int] | None:
        """Return the nodes of the list ``name`` of a node in order; None if it has no such list."""
        listed = self.nodes[number].children.get(name)
        if listed is None:
            return None
        entries = self.nodes[listed].children
        if not all(index.isdecimal() for index in entries):
            return None
        return [entries[index] for index in sorted(entries, key=int)]

    def optimizers(self) -> list[int]:
        """Return the nodes that hold a list of the variables they train."""
        return [n for n in self.paths if _OPTIMIZER_LIST in self.nodes[n].children]

    def weights_of_no_optimizer(self) -> list[str]:
        """Return the keys of variables that are reached past all optimizers, sorted.

        Counters and seeds, which only serve training, are left out.
        """
        seen, queue, keys = {0}, [0], set()
        for number in queue:
            node = self.nodes[number]
            if node.leaf is not None and not node.leaf.is_bookkeeping:
                keys.add(node.leaf.key)
            for name, child in node.children.items():
                if child in seen or name == "save_counter" or self.nodes[child].is_optimizer:
                    continue
                seen.add(child)
                queue.append(child)
        return sorted(keys)

    def models(self) -> list[int]:
        """Return the nodes beside each other below the root that could be models."""
        top = self.nodes[0].children
        return [
            number
            for name, number in top.items()
            if not name.startswith("_")
            and self.nodes[number].leaf is None
            and not self.nodes[number].is_optimizer
        ]

    def trained_by(self, optimizer: int) -> list[int]:
        """Return the variables' nodes that an optimizer trains, in its order."""
        return self.items(optimizer, _OPTIMIZER_LIST) or []
