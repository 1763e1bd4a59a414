"""The model of a program of TensorFlow 1, written anew; its variables are known by their names."""

import keras
import tensorflow as tf
from keras import layers

from mstore import Servable

X = tf.TensorSpec([None, 4], tf.float32, name="x")


class Hand(tf.Module):
    """Variables made by hand, under the names that the old program gave them."""

    def __init__(self, names=("hidden/w", "hidden/b", "head/w"), units=8):
        super().__init__()
        self.w = tf.Variable(tf.zeros([4, units]), name=names[0])
        self.b = tf.Variable(tf.zeros([units]), name=names[1])
        self.head = tf.Variable(tf.zeros([units, 3]), name=names[2])

    @tf.function(input_signature=[X])
    def serve(self, x):
        return {"y": tf.tanh(x @ self.w + self.b) @ self.head}


def hand():
    return Hand()


def renamed():
    return Hand(("a", "b", "c"))


def doubled():
    return Hand(("hidden/w", "hidden/b", "hidden/w"))


def wider():
    return Hand(units=9)


class Net(keras.Model):
    """Layers, whose variables have the name of the model in front of the old one."""

    def __init__(self):
        super().__init__(name="net")
        self.hidden = layers.Dense(8, "tanh", name="dense")
        self.head = layers.Dense(3, name="dense_1")

    def call(self, x):
        return self.head(self.hidden(x))


def net():
    return Servable(Net(), {"x": X})
