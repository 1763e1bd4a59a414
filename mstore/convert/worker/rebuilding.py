"""Builds the model a second time from other initial values, and compares the graphs' constants.

After the restore both models hold the same weights, so every constant that differs was computed
from initial values or drawn at random. Training had others there, and the checkpoint does not hold
them.
"""

import contextlib
import importlib
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.ops import resource_variable_ops

from mstore.convert.builders import is_file, split
from mstore.convert.request import TraceRequest
from mstore.convert.worker.constants import Constant, constants, differing
from mstore.convert.worker.live import all_weights
from mstore.convert.worker.loading import call_builder, load_builder, require_builder
from mstore.convert.worker.preparing import Prepared
from mstore.servable import Servable

_FACTOR, _SHIFT = 1.25, 0.375
_UNCHECKED = "whether constants of the graph depend on initial values could not be checked: "


def unstable_constants(
    build_again: Callable[[set[int]], Prepared],
    model: Any,
    found: Sequence[Constant],
    restore_and_trace: Callable[[Prepared], Sequence[Any]],
) -> tuple[list[Constant], str]:
    """Return the constants that another build of the model does not have.

    Args:
        build_again: makes the model anew, given the identities of the first one's variables.
        model: the model of the first build.
        found: its constants.
        restore_and_trace: restores a prepared model and returns its traced functions.

    Returns:
        The constants, and a warning if the comparison could not be made.
    """
    mine = {weight.key for weight in all_weights(model)}
    try:
        with other_initial_values():
            other = build_again(mine)
        if mine & {weight.key for weight in all_weights(other.model)}:
            return [], _UNCHECKED + "the builder returns the same model each time"
        functions = restore_and_trace(other)
    except Exception as exc:  # noqa: BLE001 - the first build worked; this one is only a check
        traceback.print_exc()
        return [], _UNCHECKED + f"the second build failed ({type(exc).__name__}: {exc})"
    return differing(found, constants(functions, other.model)), ""


def run_builder_again(request: TraceRequest, taken: set[int]) -> Servable:
    """Run the builder again; with its module imported anew if it keeps its model there.

    Args:
        request: names the builder.
        taken: identities of the variables of the model that it made before.
    """
    place, name = split(require_builder(request))
    module = sys.modules.get("mstore_builder" if is_file(place) else place)
    servable = call_builder(getattr(module, name), request)
    if not taken & {weight.key for weight in all_weights(servable.model)}:
        return servable
    keras.utils.clear_session()
    if not is_file(place) and module is not None:
        importlib.reload(module)
    return call_builder(load_builder(request), request)


@contextlib.contextmanager
def other_initial_values() -> Iterator[None]:
    """Change every floating-point value that a variable is created with or assigned."""
    base = resource_variable_ops.BaseResourceVariable
    assign = base.assign

    def create(next_creator: Callable[..., Any], **options: Any) -> Any:
        initial, dtype = options.get("initial_value"), options.get("dtype")
        if callable(initial):
            options["initial_value"] = lambda: _changed(initial(), dtype)
        elif initial is not None:
            options["initial_value"] = _changed(initial, dtype)
        return next_creator(**options)

    def assign_changed(self: Any, value: Any, *arguments: Any, **options: Any) -> Any:
        if self.dtype.is_floating:
            value = _changed(value, self.dtype)
        return assign(self, value, *arguments, **options)

    base.assign = assign_changed
    try:
        with tf.variable_creator_scope(create):
            yield
    finally:
        base.assign = assign


def _changed(value: Any, dtype: Any) -> Any:
    tensor = tf.convert_to_tensor(value, dtype)
    if not tensor.dtype.is_floating:
        return value
    return tensor * tf.cast(_FACTOR, tensor.dtype) + tf.cast(_SHIFT, tensor.dtype)
