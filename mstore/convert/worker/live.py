"""The live model: its variables, its children and what hangs on it. Imports TensorFlow."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from mstore.errors import BuilderError


@dataclass(frozen=True, slots=True)
class Weight:
    """A variable of the live model.

    Attributes:
        variable: the raw ``tf.Variable``.
        name: its name in the program; for Keras the path through the layers.
        key: identity of the raw variable.
    """

    variable: Any
    name: str

    @property
    def key(self) -> int:
        """Identity of the raw variable while it lives."""
        return id(self.variable)

    @property
    def dtype(self) -> str:
        """TensorFlow's name of the element type."""
        return str(tf.as_dtype(self.variable.dtype).name)

    @property
    def shape(self) -> tuple[int | None, ...] | None:
        """Length of each dimension, None where it is open."""
        return shape_of(self.variable.shape)


def shape_of(shape: Any) -> tuple[int | None, ...] | None:
    """Return a ``tf.TensorShape`` as a tuple; None where even the rank is open."""
    shape = tf.TensorShape(shape)
    return None if shape.rank is None else tuple(shape.as_list())


def is_variable(thing: Any) -> bool:
    """Return whether ``thing`` is a TensorFlow or Keras variable."""
    return isinstance(thing, (tf.Variable, keras.Variable))


def as_weight(variable: Any) -> Weight:
    """Return a variable of either kind as a ``Weight``."""
    if isinstance(variable, keras.Variable):
        return Weight(variable.value, variable.path)
    return Weight(variable, variable.name.removesuffix(":0"))


def is_model(thing: Any) -> bool:
    """Return whether ``thing`` can be restored and served."""
    return isinstance(thing, (keras.Layer, tf.Module)) or (
        isinstance(thing, tf.__internal__.tracking.Trackable) and not is_variable(thing)
    )


def require_model(model: Any, builder: str) -> None:
    """Refuse what is no model.

    Raises:
        BuilderError: if ``model`` is neither a Keras model or layer nor a ``tf.Module``.
    """
    if not is_model(model):
        raise BuilderError(
            f"the builder {builder} returned {type(model).__name__}, which is no model",
            hint="return a Keras model or layer, a tf.Module, or mstore.Servable(model, ...)",
        )


def children(thing: Any) -> Mapping[str, Any]:
    """Return what a checkpoint follows from ``thing``: local name to object."""
    found: Mapping[str, Any] = tf.train.TrackableView.children(thing)
    return found


def is_idle(thing: Any) -> bool:
    """Return whether ``thing`` is a layer that no call for service has built.

    A head that only training calls is one. Should a signature need it after all, it makes
    variables then, for which the checkpoint has nothing.
    """
    return isinstance(thing, keras.Layer) and not thing.built and not thing.variables


def trainable_weights(model: Any) -> list[Weight]:
    """Return the trainable variables in the order in which an optimizer is built on them."""
    return _unique(getattr(model, "trainable_variables", ()))


def all_weights(model: Any) -> list[Weight]:
    """Return the variables that the model says it has."""
    return _unique(getattr(model, "variables", ()))


def known_weights(model: Any) -> dict[int, Weight]:
    """Return every variable that hangs on the model by its identity, named as the model does."""
    known = {weight.key: weight for weight in all_weights(model)}
    for _, thing in reachable(model):
        if is_variable(thing):
            weight = as_weight(thing)
            known.setdefault(weight.key, weight)
    return known


def _unique(variables: Any) -> list[Weight]:
    weights: dict[int, Weight] = {}
    for variable in variables:
        if is_variable(variable):
            weight = as_weight(variable)
            weights.setdefault(weight.key, weight)
    return list(weights.values())


def reachable(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield path and object for everything that hangs on the model, in containers too.

    Checkpoints do not follow Keras layers into Python lists and dicts; this does.
    """
    seen: set[int] = set()
    stack: list[tuple[str, Any]] = [(type(model).__name__, model)]
    while stack:
        path, thing = stack.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        yield path, thing
        stack.extend(reversed(list(_parts(path, thing))))


def _parts(path: str, thing: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(thing, Mapping):
        for key, value in thing.items():
            yield f"{path}[{key!r}]", value
    elif isinstance(thing, (list, tuple)):
        for index, value in enumerate(thing):
            yield f"{path}[{index}]", value
    elif is_model(thing):
        # Public names first: the first path to a thing is the one that messages show.
        for name, value in sorted(vars(thing).items(), key=lambda item: (item[0][:1] == "_", item)):
            if _is_interesting(value) and not name.startswith("_self_"):
                yield f"{path}.{name}", value


def _is_interesting(value: Any) -> bool:
    return isinstance(
        value, (list, tuple, Mapping, tf.__internal__.tracking.Trackable, tf.Tensor)
    ) and not isinstance(value, (str, bytes))
