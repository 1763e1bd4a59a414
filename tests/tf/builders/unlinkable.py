"""Models whose graph, assets or variables depend on values of the checkpoint."""

import keras
import numpy as np
import tensorflow as tf

from mstore import Servable

INPUTS = {"x": tf.TensorSpec([None, 4], tf.float32)}
WORDS = {"word": tf.TensorSpec([None], tf.string)}


class Gated(tf.Module):
    """Takes a branch by the value of a variable when it is traced."""

    def __init__(self):
        super().__init__()
        self.w, self.gate = tf.Variable([1.0, 2.0, 3.0, 4.0]), tf.Variable(0.5)

    def __call__(self, x):
        with tf.init_scope():
            is_open = bool(self.gate > 0)
        return x * self.w if is_open else x - self.gate


def gated():
    return Servable(Gated(), INPUTS)


def numbered(words):
    numbers = tf.range(1, len(words) + 1, dtype=tf.int64)
    pairs = tf.lookup.KeyValueTensorInitializer(tf.constant(words), numbers)
    return tf.lookup.StaticHashTable(pairs, 0)


class Worded(keras.layers.Layer):
    """Its vocabulary is a variable; the lookup keeps a copy of it in the graph."""

    def __init__(self):
        super().__init__()
        self.words = tf.Variable(["", ""])
        self.scale = tf.Variable([1.0])
        self.lookup = numbered(["one", "two"])

    def finalize_state(self):
        self.lookup = numbered(self.words.numpy())

    def call(self, word):
        return tf.cast(self.lookup.lookup(word), tf.float32) * self.scale + tf.cast(
            tf.size(self.words), tf.float32
        )


def worded():
    return Servable(Worded(), WORDS)


class Derived(keras.layers.Layer):
    """Sets a variable from another one when it is restored."""

    def build(self, shape):
        self.base = self.add_weight(shape=(shape[-1],), initializer="ones", name="base")
        self.twice = self.add_weight(shape=(shape[-1],), initializer="zeros", name="twice")
        self.finalize_state()

    def finalize_state(self):
        self.twice.assign(np.asarray(self.base) * 2)

    def call(self, x):
        return x * self.twice + self.base


def derived():
    x = keras.Input((4,), name="x")
    return keras.Model(x, Derived(name="derived")(x))
