"""The three classic recipes, and builders that make something else than training did."""

import keras
import tensorflow as tf
from keras import layers

from mstore import Servable

INPUTS = {"x": tf.TensorSpec([None, 4], tf.float32)}


def sequential():
    return keras.Sequential(
        [layers.Input((4,)), layers.Dense(8, "relu"), layers.Dense(8), layers.Dense(3)]
    )


class Net(keras.Model):
    """Subclassed, with its layers made in ``__init__``; the switches make it another one."""

    def __init__(self, units=8, extra=False, missing=False, swapped=False, dtype=None):
        super().__init__(dtype=dtype)
        self.d1 = layers.Dense(units, "relu", dtype=dtype)
        if not missing:
            self.d2 = layers.Dense(units, "tanh", dtype=dtype)
        self.out = layers.Dense(3, dtype=dtype)
        if extra:
            self.d3 = layers.Dense(3, dtype=dtype)
        self.missing, self.extra, self.swapped = missing, extra, swapped

    def call(self, x):
        x = self.d1(x)
        if not self.missing:
            x = self.d2(x)
        x = self.out(x)
        return self.d3(x) if self.extra else x


def subclassed():
    return Servable(Net(), INPUTS)


def subclassed_without_inputs():
    return Net()


def missing_layer():
    return Servable(Net(missing=True), INPUTS)


def extra_layer():
    return Servable(Net(extra=True), INPUTS)


def other_shape():
    return Servable(Net(units=9), INPUTS)


def other_dtype():
    return Servable(Net(dtype="float64"), {"x": tf.TensorSpec([None, 4], tf.float64)})


def with_arguments(units: int, extra: bool = False, note: str = ""):
    return Servable(Net(units=units, extra=extra), INPUTS)


def not_a_model():
    return {"weights": [1, 2, 3]}


def sequential_missing():
    return keras.Sequential([layers.Input((4,)), layers.Dense(8, "relu"), layers.Dense(3)])


def sequential_unbuilt():
    return keras.Sequential([layers.Dense(8, "relu"), layers.Dense(8), layers.Dense(3)])


class Parsed(tf.Module):
    """Takes serialized ``tf.train.Example`` messages, as estimators were served."""

    def __init__(self):
        super().__init__()
        self.w = tf.Variable(tf.random.normal([4, 3], seed=2))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(self, examples):
        spec = {"x": tf.io.FixedLenFeature([4], tf.float32)}
        return {"y": tf.io.parse_example(examples, spec)["x"] @ self.w}
