"""Turns entries into concrete functions."""

import contextlib
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from mstore.convert.request import TraceRequest
from mstore.convert.worker.entries import Entry
from mstore.convert.worker.inference import for_inference
from mstore.convert.worker.live import reachable
from mstore.convert.worker.loading import users_code
from mstore.errors import BuilderError, InputError

_INPUT_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")


def trace_entry(entry: Entry, model: Any, request: TraceRequest) -> Any:
    """Trace the entry with its inputs' specifications.

    Raises:
        InputError: if an input's name cannot be written in a graph.
        BuilderError: if the user's function raises, or returns something else than tensors.
    """
    for key in entry.specs:
        if _INPUT_NAME.fullmatch(key) is None:
            raise InputError(
                f"{key!r} cannot be the name of an input",
                hint="use letters, digits, '_', '.', '-' and '/', and begin with a letter or digit",
            )

    def serve(*tensors: Any) -> dict[str, tf.Tensor]:
        return _outputs(entry, entry.function(*tensors))

    with users_code(f"tracing the signature {entry.name!r}", request):
        try:
            return _concrete(serve, entry, autograph=False)
        except tf.errors.OperatorNotAllowedInGraphError:
            # Python's `if` and `for` over tensors need AutoGraph to become graph operations.
            with _converted_calls(model):
                return _concrete(serve, entry, autograph=True)


@contextlib.contextmanager
def _converted_calls(model: Any) -> Iterator[None]:
    """Convert the ``call`` of the user's own Keras layers, which AutoGraph does not see into."""
    layers = [
        thing
        for _, thing in reachable(model)
        if isinstance(thing, keras.Layer) and not type(thing).__module__.startswith("keras.")
    ]
    for layer in layers:
        converted = tf.autograph.to_graph(type(layer).call)
        object.__setattr__(layer, "call", types.MethodType(converted, layer))
    try:
        yield
    finally:
        for layer in layers:
            object.__delattr__(layer, "call")


def cautions(entries: Iterable[Entry], functions: Mapping[str, Any]) -> list[str]:
    """Return what a server's clients will trip over."""
    found = []
    for entry in entries:
        for key, spec in entry.specs.items():
            if spec.shape.rank and spec.shape[0] is not None:
                found.append(
                    f"the input {key!r} of {entry.name!r} has a fixed batch of {spec.shape[0]}"
                )
        for key, tensor in functions[entry.name].structured_outputs.items():
            if tensor.dtype in {tf.float16, tf.bfloat16}:
                found.append(
                    f"the output {key!r} of {entry.name!r} is {tensor.dtype.name}, which the REST "
                    "interface of TensorFlow Serving cannot send"
                )
    return found


def _concrete(serve: Any, entry: Entry, *, autograph: bool) -> Any:
    signature = [
        tf.TensorSpec(spec.shape, spec.dtype, name=key) for key, spec in entry.specs.items()
    ]
    function = tf.function(serve, input_signature=signature, autograph=autograph)
    with for_inference():
        return function.get_concrete_function()


def _outputs(entry: Entry, value: Any) -> dict[str, tf.Tensor]:
    named = named_outputs(entry, value)
    if not named:
        raise BuilderError(f"the signature {entry.name!r} returns no tensor")
    for key, tensor in named.items():
        if not isinstance(tensor, (tf.Tensor, tf.Variable, keras.Variable)):
            raise BuilderError(
                f"the output {key!r} of the signature {entry.name!r} is "
                f"{type(tensor).__name__}, not a dense tensor",
                hint="return dense tensors, in a dict to name them",
            )
    # An identity gives inputs and variables that are returned as they are a node of their own.
    return {key: tf.identity(tensor) for key, tensor in named.items()}


def named_outputs(entry: Entry, value: Any) -> dict[str, Any]:
    """Return what a function returned as named tensors.

    Raises:
        BuilderError: if two outputs have the same name.
    """
    flat = [(path, item) for path, item in keras.tree.flatten_with_path(value) if item is not None]
    if entry.output_names is not None and len(entry.output_names) == len(flat):
        return dict(zip(entry.output_names, (item for _, item in flat), strict=True))
    named: dict[str, Any] = {}
    for index, (path, item) in enumerate(flat):
        keys = [str(part) for part in path]
        name = "_".join(keys) if isinstance(value, Mapping) else f"output_{index}"
        if hasattr(value, "_fields"):
            name = "_".join(_field(value, path))
        if name in named:
            raise BuilderError(f"the signature {entry.name!r} returns two outputs named {name!r}")
        named[name] = item
    return named


def _field(value: Any, path: Any) -> list[str]:
    first, *rest = path
    head = value._fields[first] if isinstance(first, int) else str(first)
    return [head, *(str(part) for part in rest)]
