"""Models that are saved as files of Keras; every function here is a builder."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from mstore import Servable

RNG = np.random.default_rng(11)
X4 = {"x": tf.TensorSpec([None, 4], tf.float32)}


@keras.saving.register_keras_serializable(package="filed")
class Scale(layers.Layer):
    def __init__(self, power=1.0, **options):
        super().__init__(**options)
        self.power = power

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        return x * self.scale**self.power

    def get_config(self):
        return {**super().get_config(), "power": self.power}


class Unregistered(Scale):
    pass


def squash(x):
    return ops.tanh(x) * 2


class Blocks(keras.Model):
    """Layers in lists and dicts, which checkpoints of tf.train.Checkpoint lose."""

    def __init__(self, width=4, **options):
        super().__init__(**options)
        self.width = width
        self.blocks = [layers.Dense(width, "relu") for _ in range(3)]
        self.norms = {"a": [layers.BatchNormalization()], "b": layers.LayerNormalization()}
        self.drop = layers.Dropout(0.5)

    def build(self, shape):
        for block in self.blocks:
            block.build(shape)
        self.norms["a"][0].build(shape)
        self.norms["b"].build(shape)

    def call(self, x, training=False):
        for block in self.blocks:
            x = block(x)
        x = self.norms["a"][0](x, training=training)
        return self.norms["b"](self.drop(x, training=training))

    def get_config(self):
        return {**super().get_config(), "width": self.width}


def blocks():
    return Servable(Blocks(), X4)


def named_ends():
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="b-side")
    shared = layers.Dense(6, "tanh")
    both = layers.concatenate([shared(left), layers.Dropout(0.3)(shared(right))])
    both = layers.BatchNormalization()(both)
    return keras.Model([right, left], [layers.Dense(3, name="score")(both), layers.Dense(2)(both)])


def stacked():
    return keras.Sequential(
        [
            layers.Input((4,), name="x"),
            layers.Dense(4, activation="gelu"),  # square: a transposed load would fit
            layers.BatchNormalization(),
            layers.Dropout(0.2),
            layers.Dense(3, name="y"),
        ]
    )


def stacked_wider():
    kept = stacked().layers[:-1]
    return keras.Sequential([layers.Input((4,), name="x"), *kept, layers.Dense(5, name="y")])


def stacked_shorter():
    model = stacked()
    return keras.Sequential([layers.Input((4,), name="x"), *model.layers[:-1]])


def stacked_longer():
    model = stacked()
    return keras.Sequential([layers.Input((4,), name="x"), *model.layers, layers.Dense(2)])


def customized():
    x = keras.Input((4,), name="x")
    y = Unregistered(power=3.0)(Scale(power=2.0)(x))
    return keras.Model(x, layers.Dense(2, activation=squash)(y))


def custom_names():
    return {"Unregistered": Unregistered, "squash": squash}


def bfloats():
    policy = keras.DTypePolicy("mixed_bfloat16")
    return keras.Sequential(
        [
            layers.Input((4,), name="x"),
            layers.Dense(16, "relu", dtype=policy),
            layers.Dense(8, dtype="bfloat16"),
            layers.Dense(2, dtype="float32", name="y"),
        ]
    )


def recurrent():
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    x = layers.Embedding(20, 8, mask_zero=True)(tokens)
    return keras.Model(tokens, layers.Dense(2)(layers.GRU(5)(x)))


def texts():
    text = keras.Input((), dtype="string", name="text")
    city = keras.Input((1,), dtype="string", name="city")
    vectorize = layers.TextVectorization(output_sequence_length=4)
    vectorize.adapt(["good film", "bad film", "odd film"])
    lookup = layers.StringLookup(output_mode="one_hot")
    lookup.adapt([["oslo"], ["rome"], ["oslo"]])
    weigh = layers.TextVectorization(output_mode="tf_idf")
    weigh.adapt(["good film", "bad film", "odd film"])
    x = layers.GlobalAveragePooling1D()(layers.Embedding(8, 4)(vectorize(text)))
    both = layers.concatenate([x, lookup(city), weigh(text)])
    return keras.Model([text, city], layers.Dense(1)(both))


def normalized():
    x = keras.Input((4,), name="x")
    normalize = layers.Normalization()
    normalize.adapt(RNG.normal(3.0, 2.0, size=(40, 4)))
    return keras.Model(x, layers.Dense(2)(normalize(x)))


def unadapted():
    x = keras.Input((4,), name="x")
    return keras.Model(x, layers.Dense(2)(layers.Normalization()(x)))


def with_lambda():
    x = keras.Input((4,), name="x")
    return keras.Model(x, layers.Dense(2)(layers.Lambda(lambda t: t * 3.0, name="triple")(x)))


@keras.saving.register_keras_serializable(package="filed")
class Transposing(layers.Layer):
    """Loads its weights in another order than it saves them in."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], shape[-1]), name="kernel")

    def call(self, x):
        return x @ self.kernel

    def load_own_variables(self, store):
        self.kernel.assign(np.transpose(store["0"]))


def transposing():
    return keras.Sequential([layers.Input((4,), name="x"), Transposing(name="odd")])
