"""What the SavedModel will be asked: each signature's inputs, and the function behind it."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from mstore.convert.request import TraceRequest
from mstore.convert.worker.dialects import Ends, maker_of
from mstore.domain.signatures import TensorSpec
from mstore.errors import InputError
from mstore.servable import Servable

DEFAULT = "serving_default"
_AUTO_INPUT = re.compile(r"(keras_tensor|input_layer)(_\d+)?")


@dataclass(frozen=True, slots=True)
class Entry:
    """One signature to be.

    Attributes:
        name: of the signature.
        specs: of its inputs, in the order in which ``function`` takes them.
        function: takes the tensors by position, returns tensors in any structure.
        output_names: names for the flat outputs, where the model knows them.
    """

    name: str
    specs: Mapping[str, tf.TensorSpec]
    function: Callable[..., Any]
    output_names: tuple[str, ...] | None = None


def given_specs(servable: Servable, request: TraceRequest) -> dict[str, tf.TensorSpec]:
    """Return the inputs that the request or the builder gives, by key.

    Raises:
        InputError: if the builder gives something that is no specification.
    """
    if request.inputs:
        return {key: to_tf(key, spec) for key, spec in request.inputs.items()}
    specs = {}
    for key, spec in (servable.inputs or {}).items():
        if not hasattr(spec, "shape") or not hasattr(spec, "dtype"):
            raise InputError(
                f"the builder gives {type(spec).__name__} for the input {key!r}",
                hint=f'give inputs={{"{key}": tf.TensorSpec([None, ...], tf.float32)}}',
            )
        specs[key] = tf.TensorSpec(spec.shape, spec.dtype, name=key)
    return specs


def to_tf(key: str, spec: TensorSpec) -> tf.TensorSpec:
    """Return the specification as TensorFlow's."""
    shape = None if spec.shape is None else list(spec.shape)
    return tf.TensorSpec(shape, tf.as_dtype(spec.dtype), name=key)


def functional_entry(model: Any, given: Mapping[str, tf.TensorSpec], ends: Ends) -> Entry:
    """Return the default entry of a model that knows its inputs.

    Args:
        model: the Keras model to call.
        given: the inputs as the user wants them; empty for the model's own.
        ends: its inputs and outputs.

    Raises:
        InputError: if ``given`` does not fit the model's inputs.
    """
    structure = ends.inputs
    flat = keras.tree.flatten_with_path(structure)
    names = _input_names(flat)
    own = {
        name: tf.TensorSpec(tensor.shape, tensor.dtype, name=name)
        for name, (_, tensor) in zip(names, flat, strict=True)
    }
    _refuse_special(names, [tensor for _, tensor in flat])
    specs = _override(own, given, renamable=all(_AUTO_INPUT.fullmatch(t.name) for _, t in flat))

    def call(*tensors: Any) -> Any:
        return model(keras.tree.pack_sequence_as(structure, list(tensors)), training=False)

    return Entry(DEFAULT, specs, call, _output_names(ends))


def _keyed(path: Sequence[Any]) -> str:
    """Return the name that keys of dicts give a tensor, empty where it is in no dict.

    >>> _keyed(("heads", 1)), _keyed((0, "a")), _keyed((1,))
    ('heads_1', 'a', '')
    """
    first = next((at for at, part in enumerate(path) if isinstance(part, str)), len(path))
    return "_".join(str(part) for part in path[first:])


def _input_names(flat: Sequence[tuple[Any, Any]]) -> list[str]:
    names: list[str] = []
    unnamed = 0
    for path, tensor in flat:
        keyed = _keyed(path)
        if keyed:
            name = keyed
        elif _AUTO_INPUT.fullmatch(tensor.name):
            name = f"inputs_{unnamed}" if unnamed else "inputs"
            unnamed += 1
        else:
            name = tensor.name
        names.append(re.sub(r"\s", "_", name))
    if len(set(names)) != len(names):
        raise InputError(
            "two inputs of the model have the same name: " + ", ".join(names),
            hint="give each keras.Input a name of its own",
        )
    return names


def _refuse_special(names: Sequence[str], tensors: Sequence[Any]) -> None:
    for name, tensor in zip(names, tensors, strict=True):
        if getattr(tensor, "sparse", False) or getattr(tensor, "ragged", False):
            raise InputError(
                f"the input {name!r} is sparse or ragged, which TensorFlow Serving cannot send",
                hint="return mstore.Servable with a signature that takes dense tensors",
            )


def _override(
    own: Mapping[str, tf.TensorSpec], given: Mapping[str, tf.TensorSpec], *, renamable: bool
) -> dict[str, tf.TensorSpec]:
    """Return the user's specifications in the order of the model's inputs."""
    if not given:
        return dict(own)
    if set(given) == set(own):
        ordered = {name: given[name] for name in own}
    elif len(given) == len(own) and (renamable or len(own) == 1):
        ordered = dict(given)
    else:
        raise InputError(
            f"the model's inputs are {', '.join(own)}, not {', '.join(given)}",
            hint="use the model's names",
        )
    for spec, (name, wanted) in zip(own.values(), ordered.items(), strict=True):
        if not spec.shape.is_compatible_with(wanted.shape):
            raise InputError(f"the input {name!r} is {spec.shape} in the model, not {wanted.shape}")
    return ordered


def _output_names(ends: Ends) -> tuple[str, ...]:
    flat = keras.tree.flatten_with_path(ends.outputs)
    names = []
    for index, (path, tensor) in enumerate(flat):
        keyed = _keyed(path)
        layer = maker_of(tensor)
        if keyed:
            names.append(keyed)
        elif is_auto_name(layer.name, type(layer)):
            names.append(f"output_{index}")
        else:
            names.append(layer.name)
    if len(set(names)) != len(names):
        return tuple(f"output_{index}" for index in range(len(flat)))
    return tuple(names)


def is_auto_name(name: str, kind: type) -> bool:
    """Return whether Keras made up this name from the class."""
    snake = re.sub(r"\W+", "", kind.__name__)
    snake = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", snake)
    snake = re.sub("([a-z])([A-Z])", r"\1_\2", snake).lower()
    return re.fullmatch(rf"{re.escape(snake)}(_\d+)?", name) is not None


def own_functions(module: Any) -> dict[str, Any]:
    """Return the ``tf.function`` methods that come with an ``input_signature``, by name."""
    found = {}
    for name in sorted({*dir(type(module)), *vars(module)}):
        if name.startswith("_") and name != "__call__":
            continue
        # Looked up without running the properties of Keras models, some of which raise.
        plain = inspect.getattr_static(module, name, None)
        if getattr(plain, "input_signature", None) is not None:
            found[DEFAULT if name == "__call__" else name] = getattr(module, name)
    return found


def signature_entry(name: str, function: Any, inputs: Mapping[str, tf.TensorSpec]) -> Entry:
    """Return the entry for a signature function of the user's.

    Raises:
        InputError: if its parameters are not among the inputs.
    """
    own = getattr(function, "input_signature", None)
    python = getattr(function, "python_function", function)
    parameters = _parameters(python)
    if own is not None:
        specs = _named(name, own, parameters)
        return Entry(name, specs, function)
    takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    taken = {key: spec for key, spec in inputs.items() if takes_all or key in parameters}
    required = [
        p.name
        for p in parameters.values()
        if p.default is p.empty and p.kind not in {p.VAR_KEYWORD, p.VAR_POSITIONAL}
    ]
    if not set(required) <= set(taken):
        if len(inputs) == 1 and len(required) == 1:
            return Entry(name, dict(inputs), function)
        raise InputError(
            f"the signature {name!r} takes {', '.join(required)}, and the inputs are "
            + (", ".join(inputs) or "not given"),
            hint='give each of them in Servable(inputs={"x": tf.TensorSpec(...)})',
        )

    def call(*tensors: Any) -> Any:
        return function(**dict(zip(taken, tensors, strict=True)))

    return Entry(name, taken, call)


def _parameters(function: Any) -> dict[str, inspect.Parameter]:
    try:
        parameters = dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return {}
    parameters.pop("self", None)
    return parameters


def _named(
    name: str, specs: Any, parameters: Mapping[str, inspect.Parameter]
) -> dict[str, tf.TensorSpec]:
    named: dict[str, tf.TensorSpec] = {}
    for spec, parameter in zip(specs, [*parameters, *([None] * len(specs))], strict=False):
        if not isinstance(spec, tf.TensorSpec):
            raise InputError(
                f"the input_signature of {name!r} is nested, and a signature is flat",
                hint="give mstore.Servable a function that takes single tensors",
            )
        key = spec.name or parameter or f"inputs_{len(named)}"
        named[key] = tf.TensorSpec(spec.shape, spec.dtype, name=key)
    return named
