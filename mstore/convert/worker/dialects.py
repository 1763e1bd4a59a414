"""The two Keras that a model can be of: Keras 3, and Keras 2 as the package tf-keras.

tf-keras is only known here once the builder, or the file that is loaded, has made it be imported.
"""

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from mstore.errors import MissingExtraError

_OLD = "tf_keras"


@dataclass(frozen=True, slots=True)
class Ends:
    """What a functional model takes and gives, in the structure that it was built with.

    Attributes:
        inputs: symbolic tensors.
        outputs: symbolic tensors.
    """

    inputs: Any
    outputs: Any


def import_old(why: str) -> Any:
    """Import tf-keras.

    Raises:
        MissingExtraError: if it is not installed; ``why`` it is needed is in the message.
    """
    if importlib.util.find_spec(_OLD) is None:
        raise MissingExtraError(
            f"{why}, and tf-keras is not installed", hint="pip install tf-keras"
        )
    return importlib.import_module(_OLD)


def is_layer(thing: Any) -> bool:
    """Return whether ``thing`` is a layer or model of either Keras."""
    old = sys.modules.get(_OLD)
    return isinstance(thing, keras.Layer) or (
        old is not None and isinstance(thing, old.layers.Layer)
    )


def is_training_only(thing: Any) -> bool:
    """Return whether ``thing`` is an optimizer, a metric or a random seed: no weights to serve."""
    kinds: tuple[type, ...] = (
        keras.optimizers.Optimizer,
        keras.metrics.Metric,
        keras.random.SeedGenerator,
    )
    old = sys.modules.get(_OLD)
    if old is not None:
        kinds += (old.optimizers.Optimizer, old.optimizers.legacy.Optimizer, old.metrics.Metric)
    return isinstance(thing, kinds)


def is_old(model: Any) -> bool:
    """Return whether ``model`` is of Keras 2."""
    old = sys.modules.get(_OLD)
    return old is not None and isinstance(model, old.layers.Layer)


def ends_of(model: Any) -> Ends | None:
    """Return what a model takes and gives, None where it does not know that itself."""
    if is_old(model):
        if not getattr(model, "_is_graph_network", False):
            return None
        return Ends(model._nested_inputs, model._nested_outputs)  # noqa: SLF001 - kept nowhere else
    inner: Any = (
        getattr(model, "_functional", None) if isinstance(model, keras.Sequential) else model
    )
    if isinstance(model, keras.Model) and hasattr(inner, "_inputs_struct"):
        return Ends(inner._inputs_struct, inner._outputs_struct)  # noqa: SLF001 - the same
    return None


def maker_of(tensor: Any) -> Any:
    """Return the layer that gives a symbolic tensor."""
    history = tensor._keras_history  # noqa: SLF001 - no public way to the layer
    return history.layer if hasattr(history, "layer") else history.operation


def environment() -> Mapping[str, str]:
    """Return the version of tf-keras, where it was used."""
    old = sys.modules.get(_OLD)
    return {} if old is None else {"tf_keras": str(old.__version__)}
