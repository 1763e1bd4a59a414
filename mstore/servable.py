"""What a builder hands over when the model alone does not say how it is to be served."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Servable:
    """A model with the inputs and the entry points it is served by.

    Nothing heavy is imported here, so that the file with the builder needs no more than it did.

    Attributes:
        model: what training put into ``tf.train.Checkpoint``: a Keras model or layer, or a
            ``tf.Module``.
        inputs: key to ``tf.TensorSpec``; needed where the model does not say (subclassed models).
        signatures: name to a function that takes some of ``inputs`` by keyword and returns a dict
            of tensors. Left out, ``serving_default`` calls the model.
    """

    model: Any
    inputs: Mapping[str, Any] | None = None
    signatures: Mapping[str, Callable[..., Any]] | None = None
