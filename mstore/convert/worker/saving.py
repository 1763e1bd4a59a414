"""Writes the SavedModel that TensorFlow Serving's C++ loader can serve.

A ``tf.Module`` tracks the raw variables and the tables that the signatures use, and nothing else.
Tracking Keras variables instead makes a second handle for each weight, of which the C++ loader
restores the one that no function reads.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.checkpoint import util as checkpoint_util

from mstore.convert.worker.live import Weight, as_weight, known_weights, reachable
from mstore.errors import BuilderError


def captured_weights(model: Any, functions: Sequence[Any]) -> list[Weight]:
    """Return the variables that the functions use, in an order that depends on the model alone."""
    names = known_weights(model)
    captured = {id(v): v for function in functions for v in function.graph.variables}
    order = {key: index for index, key in enumerate(names)}
    known = [names[key] for key in sorted(set(captured) & set(names), key=order.__getitem__)]
    return known + [as_weight(v) for key, v in captured.items() if key not in names]


def captured_resources(model: Any, functions: Sequence[Any]) -> list[tuple[str, Any]]:
    """Return the tables and other resources that the functions use, with their paths.

    Raises:
        BuilderError: if a function uses a resource that hangs on nothing.
    """
    variables = {id(v.handle) for function in functions for v in function.graph.variables}
    wanted = {
        id(outer): outer
        for function in functions
        for outer, _ in function.graph.captures
        if outer.dtype == tf.resource and id(outer) not in variables
    }
    found: dict[int, tuple[str, Any]] = {}
    for path, thing in _owners(model):
        handle = getattr(thing, "resource_handle", None)
        if handle is not None and id(handle) in wanted:
            found.setdefault(id(handle), (path, thing))
    lost = [outer for key, outer in wanted.items() if key not in found]
    if lost:
        raise BuilderError(
            f"a signature uses {len(lost)} table(s) that the model does not hold",
            hint="keep each lookup table as an attribute of the model",
        )
    return [found[key] for key in wanted]


def _owners(model: Any) -> Iterator[tuple[str, Any]]:
    for path, thing in reachable(model):
        yield path, thing
        inner = getattr(thing, "_table", None)  # of tf.lookup.StaticVocabularyTable
        if inner is not None:
            yield f"{path}._table", inner


class _Bundle(tf.Module):
    """What the SavedModel tracks.

    The object graph in ``variables.data`` repeats each attribute's name in the variable's key, so
    the variables hang on the root itself, and their names are numbers.
    """

    def __init__(self, weights: Sequence[Any], resources: Sequence[Any]) -> None:
        super().__init__()
        for index, weight in enumerate(weights):
            setattr(self, _weight_name(index), weight)
        for index, resource in enumerate(resources):
            setattr(self, _resource_name(index), resource)


def _weight_name(index: int) -> str:
    return str(index)


def _resource_name(index: int) -> str:
    return f"table{index}"


@contextlib.contextmanager
def _without_full_names() -> Iterator[None]:
    """Leave the variables' names out of the object graph in ``variables.data``.

    ``saved_model.pb`` holds them already, and nothing restores a SavedModel by them; in a model of
    many small variables they are a percent of the file. A TensorFlow that keeps this function
    elsewhere writes them all the same.
    """
    original = getattr(checkpoint_util, "get_full_name", None)
    if original is None:
        yield
        return
    checkpoint_util.get_full_name = lambda _variable: ""
    try:
        yield
    finally:
        checkpoint_util.get_full_name = original


def save(
    directory: Path,
    functions: Mapping[str, Any],
    weights: Sequence[Weight],
    resources: Sequence[tuple[str, Any]],
) -> None:
    """Write the SavedModel; its variables get the keys of ``weight_key``."""
    bundle = _Bundle([weight.variable for weight in weights], [thing for _, thing in resources])
    with _without_full_names():
        tf.saved_model.save(bundle, str(directory), signatures=dict(functions))


def weight_key(index: int) -> str:
    """Return the key in ``variables.index`` of the variable at this place."""
    return f"{_weight_name(index)}/.ATTRIBUTES/VARIABLE_VALUE"


def resource_key(index: int, name: str) -> str:
    """Return the key in ``variables.index`` of one part of the table at this place."""
    return f"{_resource_name(index)}/.ATTRIBUTES/{name}"


def is_mutable(resource: Any) -> bool:
    """Return whether a table's content is a matter of training and not of the program."""
    return isinstance(
        resource,
        (tf.lookup.experimental.MutableHashTable, tf.lookup.experimental.DenseHashTable),
    )


def versions() -> dict[str, str]:
    """Return the versions of what made the SavedModel."""
    import platform  # noqa: PLC0415

    import numpy as np  # noqa: PLC0415

    return {
        "python": platform.python_version(),
        "tensorflow": str(tf.__version__),
        "keras": str(keras.__version__),
        "numpy": str(np.__version__),
    }
