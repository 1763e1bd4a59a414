"""Traces grouped convolutions as ordinary ones.

Keras wraps a convolution in groups into a function that XLA must compile, because TensorFlow has
no gradient for it on a CPU. A server runs no gradients, and has XLA disabled.
"""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.tensorflow import nn as keras_nn

_MAX_RANK = 4  # TensorFlow's Conv3D knows no groups on a CPU


@contextlib.contextmanager
def convolutions_without_xla() -> Iterator[None]:
    """Let Keras trace convolutions in groups, channels last, without asking for XLA."""
    original = getattr(keras_nn, "conv", None)
    if original is None:
        yield
        return
    signature = inspect.signature(original)

    def conv(*arguments: Any, **options: Any) -> Any:
        given = signature.bind(*arguments, **options).arguments
        data_format = given.get("data_format") or keras.config.image_data_format()
        if data_format != "channels_last" or len(given["inputs"].shape) > _MAX_RANK:
            return original(*arguments, **options)
        with _functions_without_xla():
            return original(*arguments, **options)

    keras_nn.conv = conv
    try:
        yield
    finally:
        keras_nn.conv = original


@contextlib.contextmanager
def _functions_without_xla() -> Iterator[None]:
    original = tf.function

    def function(*arguments: Any, jit_compile: Any = None, **options: Any) -> Any:
        del jit_compile
        return original(*arguments, **options)

    tf.function = function
    try:
        yield
    finally:
        tf.function = original
