"""Models of Keras 2, as the package tf-keras still makes them."""

import tensorflow as tf
import tf_keras
from tf_keras import layers

from mstore import Servable


def functional():
    left = tf_keras.Input((4,), name="left")
    right = tf_keras.Input((4,), name="right")
    both = layers.Concatenate()([layers.Dense(6, "relu")(left), right])
    both = layers.Dropout(0.3)(layers.BatchNormalization()(both))
    return tf_keras.Model([right, left], [layers.Dense(3, name="score")(both)])


def sequential():
    return tf_keras.Sequential(
        [layers.InputLayer((4,), name="x"), layers.Dense(4, "tanh"), layers.Dense(2, name="y")]
    )


def grouped():
    """Make a model whose configuration Keras 3 cannot read: it has no such operation layers."""
    x = tf_keras.Input((4,), name="x")
    y = layers.Dense(4)(x)
    return tf_keras.Model(x, layers.Dense(2, name="y")(tf.nn.relu(y) * 2.0 + y))


class Net(tf_keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [layers.Dense(4, "relu") for _ in range(2)]
        self.norm = layers.BatchNormalization()

    def call(self, x, training=False):
        for block in self.blocks:
            x = block(x)
        return self.norm(x, training=training)


def subclassed():
    return Servable(Net(), {"x": tf.TensorSpec([None, 4], tf.float32)})
