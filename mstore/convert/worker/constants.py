"""The constants of traced functions, and where they may have come from.

A tensor that the user's code computed before the restore (a cached product of weights, folded
statistics, a random projection that is no variable) enters the graph as a constant, and no proof
about variables sees it.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from mstore.convert.worker.live import Weight, reachable

_OPAQUE = (tf.resource, tf.variant)


@dataclass(frozen=True, slots=True)
class Constant:
    """One constant of a graph.

    Attributes:
        label: the attribute it hangs on, or the name of its node.
        dtype: TensorFlow's name of the element type.
        shape: length of each dimension.
        digest: of type and bytes.
    """

    label: str
    dtype: str
    shape: tuple[int, ...]
    digest: bytes

    def __str__(self) -> str:
        """Return label, dtype and shape, for messages."""
        return f"{self.label} {self.dtype}{list(self.shape)}"


def constants(functions: Iterable[Any], model: Any) -> list[Constant]:
    """Return the constants of the functions in graph order, those of inner functions too."""
    owners = {id(thing): path for path, thing in reachable(model) if isinstance(thing, tf.Tensor)}
    found = []
    for function in functions:
        for outer, inner in function.graph.captures:
            if outer.dtype not in _OPAQUE and hasattr(outer, "numpy"):
                label = owners.get(id(outer), f"a tensor captured as {inner.name}")
                found.append(_constant(label, outer.numpy()))
        graph = function.graph.as_graph_def()
        for nodes in (graph.node, *(inner.node_def for inner in graph.library.function)):
            found += _of_nodes(nodes)
    return found


def _of_nodes(nodes: Any) -> Iterator[Constant]:
    for node in nodes:
        # Texts name nodes and files, which differ from one build to the next.
        if node.op == "Const" and node.attr["dtype"].type != tf.string.as_datatype_enum:
            yield _constant(node.name, tf.make_ndarray(node.attr["value"].tensor))


def _constant(label: str, value: Any) -> Constant:
    array = np.asarray(value)
    return Constant(label, str(array.dtype), array.shape, digest(array))


def digest(array: Any) -> bytes:
    """Return a digest of the element type and the elements, whatever the shape."""
    array = np.asarray(array)
    raw = repr(array.tolist()).encode() if array.dtype == object else array.tobytes()
    return hashlib.blake2b(raw, digest_size=16, person=str(array.dtype).encode()[:16]).digest()


def differing(first: Sequence[Constant], second: Sequence[Constant]) -> list[Constant]:
    """Return the constants of ``first`` that ``second`` does not have.

    The two come from two builds of one model, so that they pair up by position; if they do not,
    only how often each content occurs is compared.
    """
    if [(c.dtype, c.shape) for c in first] == [(c.dtype, c.shape) for c in second]:
        return [a for a, b in zip(first, second, strict=True) if a.digest != b.digest]
    left = Counter(constant.digest for constant in second)
    missing = []
    for constant in first:
        left[constant.digest] -= 1
        if left[constant.digest] < 0:
            missing.append(constant)
    return missing


class Snapshot:
    """What the variables held at one moment, as digests."""

    def __init__(self, weights: Iterable[Weight]) -> None:
        """Remember each variable's value, unless all its elements are equal."""
        self._names: dict[bytes, str] = {}
        self.remember(weights)

    def remember(self, weights: Iterable[Weight]) -> None:
        """Remember what the variables hold now, beside what they held before."""
        for weight in weights:
            value = weight.variable.numpy()
            if value.size > 1 and value.dtype != object and (value != value.flat[0]).any():
                self._names[digest(value)] = weight.name

    def forget(self, values: Iterable[Any]) -> None:
        """Drop those that a variable still holds after the restore."""
        for value in values:
            self._names.pop(digest(value), None)

    def copies(self, found: Iterable[Constant]) -> list[tuple[Constant, str]]:
        """Return the constants that equal a remembered value, with the variable's name."""
        return [(c, self._names[c.digest]) for c in found if c.digest in self._names]
