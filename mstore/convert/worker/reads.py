"""Notices when Python code reads the value of a variable while the graph is made.

What it does with the value (takes a branch, counts a loop, computes a constant) is then in the
graph, and belongs to this one checkpoint.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.ops import resource_variable_ops

_METHODS = ("_read_variable_op", "sparse_read", "gather_nd")


class Reads:
    """The variables that were read outside of any graph.

    Attributes:
        names: what they are called, each once, in order.
    """

    def __init__(self) -> None:
        """Start with none."""
        self.names: dict[str, None] = {}

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Notice reads while the block runs."""
        base = resource_variable_ops.BaseResourceVariable
        originals = {name: getattr(base, name) for name in _METHODS}
        for name, original in originals.items():
            setattr(base, name, self._noting(original))
        try:
            yield
        finally:
            for name, original in originals.items():
                setattr(base, name, original)

    def _noting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def read(variable: Any, *arguments: Any, **options: Any) -> Any:
            if tf.executing_eagerly():
                self.names[str(variable.name).removesuffix(":0")] = None
            return original(variable, *arguments, **options)

        return read
