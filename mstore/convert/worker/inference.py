"""Traces some of Keras's layers as a server needs them, and not as training does.

* A convolution in groups is wrapped into a function that XLA must compile, because TensorFlow has
  no gradient for it on a CPU. A server has XLA disabled, and its kernels know groups only with
  oneDNN; each group is a convolution of its own instead.
* A recurrent layer with dropout draws its masks before it looks whether it is training. Nobody uses
  them in service, but the graph would need the seed, which no checkpoint holds.

Rehearsal compares what is traced so with the layers as they are.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf
from keras import ops
from keras.src.backend.tensorflow import nn as keras_nn


@contextlib.contextmanager
def replaced(owner: Any, name: str, stand_in: Callable[[Any], Any]) -> Iterator[None]:
    """Replace an attribute for a while, where this version of its owner has it.

    Args:
        owner: module or class.
        name: of the attribute.
        stand_in: takes the original, returns what stands in for it.
    """
    original = getattr(owner, name, None)
    if original is None:
        yield
        return
    setattr(owner, name, stand_in(original))
    try:
        yield
    finally:
        setattr(owner, name, original)


@contextlib.contextmanager
def for_inference() -> Iterator[None]:
    """Trace convolutions in groups one by one, and recurrent layers without dropout's seeds."""
    with (
        replaced(keras_nn, "conv", _conv_by_group),
        replaced(keras.layers.RNN, "call", _call_without_masks),
    ):
        yield


def _conv_by_group(original: Any) -> Any:
    signature = inspect.signature(original)

    def conv(*arguments: Any, **options: Any) -> Any:
        given = signature.bind(*arguments, **options).arguments
        data_format = given.get("data_format") or keras.config.image_data_format()
        if data_format != "channels_last":
            return original(*arguments, **options)
        inputs, kernel = (ops.convert_to_tensor(given[name]) for name in ("inputs", "kernel"))
        groups = inputs.shape[-1] // kernel.shape[-2]
        if groups == 1:
            return original(*arguments, **options)
        pairs = zip(tf.split(inputs, groups, -1), tf.split(kernel, groups, -1), strict=True)
        return tf.concat([original(**{**given, "inputs": x, "kernel": k}) for x, k in pairs], -1)

    return conv


def _call_without_masks(original: Any) -> Any:
    signature = inspect.signature(original)

    def call(*arguments: Any, **options: Any) -> Any:
        if signature.bind(*arguments, **options).arguments.get("training"):
            return original(*arguments, **options)
        with replaced(keras.layers.RNN, "_maybe_config_dropout_masks", lambda _: _draw_nothing):
            return original(*arguments, **options)

    return call


def _draw_nothing(_layer: Any, _cell: Any, _sequence: Any, _state: Any) -> None:
    """Stand in for the drawing of masks."""
