"""Finds out how a model wants its inputs, by calling it on made-up batches.

A call also builds the layers that have no weights before it. It is made eagerly: layers that
compute something while they are built (``Normalization``) fail in a symbolic call, and leave
tensors of a dead graph behind.
"""

import contextlib
import gc
import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.layers import layer as keras_layer

from mstore.convert.madeup import TEXTS, choices
from mstore.convert.worker.dialects import is_layer
from mstore.convert.worker.entries import DEFAULT, Entry
from mstore.convert.worker.inference import replaced
from mstore.errors import BuilderError, InputError
from mstore.servable import Servable

BATCH = 2
_TRAINING_FLAGS = ("training", "is_training")
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to hand the inputs to a model.

    Attributes:
        keys: of the inputs it hands over.
        call: takes the model and the tensors by key.
    """

    keys: tuple[str, ...]
    call: Callable[[Any, Mapping[str, Any]], Any]


def concrete(shape: tf.TensorShape, length: int, batch: int = BATCH) -> tuple[int, ...]:
    """Return ``shape`` with the open dimensions filled: the first by ``batch``."""
    return tuple(
        known if known is not None else (batch if index == 0 else length)
        for index, known in enumerate(shape.as_list())
    )


def made_up(spec: tf.TensorSpec, shape: tuple[int, ...], text: bytes = TEXTS[0]) -> tf.Tensor:
    """Return a tensor of this shape that most models accept; strings are all ``text``."""
    if spec.dtype == tf.string:
        return tf.fill(shape, text)
    if spec.dtype == tf.bool:
        return tf.fill(shape, value=True)
    if spec.dtype.is_floating or spec.dtype.is_complex:
        count = int(np.prod(shape, dtype=np.int64))
        return tf.cast(tf.reshape(tf.range(count, dtype=tf.float32) % 7 / 7, shape), spec.dtype)
    return tf.zeros(shape, spec.dtype)


def find_call(
    servable: Servable, specs: Mapping[str, tf.TensorSpec], rebuild: Callable[[], Servable]
) -> tuple[Servable, Entry, dict[str, tuple[int, ...]]]:
    """Call the model until one way works.

    Args:
        servable: what the builder returned; its model does not know its inputs.
        specs: what it takes, by key.
        rebuild: runs the builder again; a failed call may leave half-built layers behind.

    Returns:
        The servable whose model was called, its default entry, and the shapes.

    Raises:
        InputError: if the specifications leave the rank open.
        BuilderError: if no way works.
    """
    for key, spec in specs.items():
        if spec.shape.rank is None:
            raise InputError(
                f"the input {key!r} has no rank, and the model must be called to be built",
                hint=f"give its dimensions: --input '{key}={spec.dtype.name}[?,10]'",
            )
    first: BaseException | None = None
    for way in ways(servable.model, tuple(specs)):
        for length, text in tries(specs):
            shapes = {key: concrete(spec.shape, length) for key, spec in specs.items()}
            batch = {key: made_up(specs[key], shapes[key], text) for key in specs}
            try:
                with eager_building():
                    way.call(servable.model, batch)
            except Exception as exc:  # noqa: BLE001 - the user's model may raise anything
                first = first or exc
                keras.utils.clear_session()
                gc.collect()
                servable = rebuild()
                continue
            return servable, _entry(servable.model, way, specs), shapes
    raise _uncallable(servable.model, specs, first) from first


def _entry(model: Any, way: Way, specs: Mapping[str, tf.TensorSpec]) -> Entry:
    def call(*tensors: Any) -> Any:
        return way.call(model, dict(zip(specs, tensors, strict=True)))

    return Entry(DEFAULT, dict(specs), call)


def tries(specs: Mapping[str, tf.TensorSpec]) -> Iterator[tuple[int, bytes]]:
    """Yield lengths for open dimensions and strings to try with these inputs."""
    return choices(
        has_open=any(None in spec.shape.as_list()[1:] for spec in specs.values()),
        has_strings=any(spec.dtype == tf.string for spec in specs.values()),
    )


def _uncallable(
    model: Any, specs: Mapping[str, tf.TensorSpec], exc: BaseException | None
) -> BuilderError:
    given = ", ".join(f"{key}={spec.dtype.name}{spec.shape}" for key, spec in specs.items())
    if exc is not None:
        traceback.print_exception(exc)
    return BuilderError(
        f"{type(model).__name__} cannot be called with the inputs {given}: "
        f"{type(exc).__name__}: {exc}",
        hint="give the inputs as the model's call takes them, open dimensions as numbers where "
        "the model needs them: --input 'x=float32[?,224,224,3]'",
    )


@contextlib.contextmanager
def eager_building() -> Iterator[None]:
    """Let Keras build layers by the eager call itself, not by a symbolic one before it.

    Models that make a layer in their first call may: Keras locks them only after the symbolic one.
    """
    with (
        replaced(keras_layer, "might_have_unbuilt_state", lambda _: lambda _layer: False),
        replaced(keras.Layer, "_lock_state", lambda _: lambda _layer: None),
    ):
        yield


def ways(model: Any, inputs: Iterable[str]) -> list[Way]:
    """Return the ways in which the model could take the inputs, the likeliest first.

    Raises:
        InputError: if the model cannot be called, or takes other inputs.
    """
    name = "call" if is_layer(model) else "__call__"
    function = inspect.getattr_static(type(model), name, None)
    if function is None:
        raise InputError(
            f"{type(model).__name__} cannot be called",
            hint="return mstore.Servable(model, inputs={...}, signatures={...})",
        )
    keys = tuple(inputs)
    parameters = _parameters(function)
    flags = {flag: False for flag in _TRAINING_FLAGS if flag in parameters}
    takers = [name for name in parameters if name not in {*_TRAINING_FLAGS, "mask"}]
    required = {name for name in takers if parameters[name].default is inspect.Parameter.empty}
    found = []
    if set(keys) <= set(takers) and required <= set(keys):
        found.append(Way(keys, lambda m, t: _by_keyword(m, t, takers, parameters, flags)))
    if len(required) <= 1:
        if len(keys) == 1:
            found.append(Way(keys, lambda m, t: m(*t.values(), **flags)))
        found.append(Way(keys, lambda m, t: m(dict(t), **flags)))
        if len(keys) > 1:
            found.append(Way(keys, lambda m, t: m(list(t.values()), **flags)))
    if not found:
        raise InputError(
            f"{type(model).__name__} takes {', '.join(takers)}, not {', '.join(keys)}",
            hint="name the inputs as the parameters of its call",
        )
    return found


def _by_keyword(
    model: Any,
    tensors: Mapping[str, Any],
    takers: Sequence[str],
    parameters: Mapping[str, inspect.Parameter],
    flags: Mapping[str, bool],
) -> Any:
    # Keras wants the first argument by position; the others may be keyword-only.
    by_position = []
    left = dict(tensors)
    for name in takers:
        if name not in left or parameters[name].kind not in _BY_POSITION:
            break
        by_position.append(left.pop(name))
    return model(*by_position, **left, **flags)


def _parameters(function: Any) -> dict[str, inspect.Parameter]:
    """Return the named parameters of a method as its class defines it, without ``self``."""
    try:
        parameters = inspect.signature(getattr(function, "python_function", function)).parameters
    except (TypeError, ValueError):
        return {}
    variable = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    own = list(parameters.items())[1:]
    return {name: parameter for name, parameter in own if parameter.kind not in variable}
