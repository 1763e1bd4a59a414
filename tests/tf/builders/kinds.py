"""The kinds of models of the table in the README; each function is a builder and saves everywhere.

Custom classes are registered, as `.keras` files need them to be.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from mstore import Servable

register = keras.saving.register_keras_serializable("kinds")


def several_inputs_and_outputs():
    age, words = keras.Input((1,), name="age"), keras.Input((4,), dtype="int32", name="words")
    joined = layers.Concatenate()([age, layers.Flatten()(layers.Embedding(30, 6)(words))])
    hidden = layers.Dense(12, "gelu")(joined)
    outputs = {"score": layers.Dense(1)(hidden), "class": layers.Dense(3, "softmax")(hidden)}
    return keras.Model({"age": age, "words": words}, outputs)


def sequential_without_shape():
    model = keras.Sequential([layers.Dense(9, "relu"), layers.Dense(2)])
    return Servable(model, {"x": tf.TensorSpec([None, 5], tf.float32)})


@register
class Blocks(keras.Model):
    def __init__(self, width=6, **options):
        super().__init__(**options)
        self.width = width
        self.blocks = [layers.Dense(width, "tanh") for _ in range(3)]
        self.heads = {"low": layers.Dense(1), "high": layers.Dense(1)}

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return {name: head(x) for name, head in self.heads.items()}

    def get_config(self):
        return {**super().get_config(), "width": self.width}


def layers_in_lists_and_dicts():
    return Servable(Blocks(), {"x": tf.TensorSpec([None, 5], tf.float32)})


def two_towers():
    tower = keras.Sequential([layers.Input((6,)), layers.Dense(8, "relu"), layers.Dense(4)])
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    near = layers.Dot(1, normalize=True, name="near")([tower(a), tower(b)])
    return keras.Model([a, b], near)


@register
class TwoLosses(keras.Model):
    """Trains its two parts by losses of its own."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            loss = tf.reduce_mean((predicted - y) ** 2) + 0.1 * tf.reduce_mean(predicted**2)
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return {"loss": loss}


def batch_norm_own_train_step():
    x = keras.Input((8, 8, 1), name="image")
    y = layers.BatchNormalization()(layers.Conv2D(4, 3, activation="relu")(x))
    y = layers.DepthwiseConv2D(3)(y)
    return TwoLosses(x, layers.Dense(2)(layers.Flatten()(y)))


def adapted_normalization():
    norm = layers.Normalization(axis=-1)
    norm.adapt(np.arange(40, dtype="float32").reshape(8, 5) ** 1.5)
    return keras.Sequential([layers.Input((5,), name="x"), norm, layers.Dense(2)])


def vocabulary_of_strings():
    words = layers.TextVectorization(max_tokens=20, output_sequence_length=4)
    words.adapt(["good film", "bad film", "odd"])
    text = keras.Input((), dtype="string", name="text")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(20, 5)(words(text)))
    return keras.Model(text, layers.Dense(1, "sigmoid")(x))


def masked_recurrent():
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    x = layers.Embedding(25, 7, mask_zero=True)(tokens)
    x = layers.Bidirectional(layers.GRU(5, return_sequences=True))(x)
    return keras.Model(tokens, layers.Dense(3)(layers.LSTM(6)(x)))


def transformer_block():
    x = keras.Input((None, 8), name="x")
    y = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 4)(x, x))
    y = y + layers.Dense(8)(layers.Dense(16, "gelu")(y))
    return keras.Model(x, ops.mean(y, axis=1))


def dropout_and_noise():
    return keras.Sequential(
        [
            layers.Input((8, 8, 3), name="image"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3),
            layers.GaussianNoise(0.3),
            layers.Dropout(0.4, seed=9),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


def mixed_bfloat16():
    half = keras.DTypePolicy("mixed_bfloat16")
    x = keras.Input((6,), name="x")
    y = layers.Dense(16, "relu", dtype=half)(x)
    return keras.Model(x, layers.Dense(2, dtype="float32")(y))


def grouped_convolution():
    x = keras.Input((6, 6, 4), name="image")
    return keras.Model(x, layers.Flatten()(layers.Conv2D(4, 3, groups=2)(x)))


@register
class Scaled(layers.Layer):
    def __init__(self, power, **options):
        super().__init__(**options)
        self.power = power

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        return ops.sign(x) * ops.abs(x) ** self.power * self.scale

    def get_config(self):
        return {**super().get_config(), "power": self.power}


def custom_layer_with_config():
    return keras.Sequential([layers.Input((5,), name="x"), Scaled(1.5), layers.Dense(2)])


def frozen_with_lora():
    base = layers.Dense(8, name="base")
    model = keras.Sequential([layers.Input((6,), name="x"), base, layers.ReLU(), layers.Dense(2)])
    base.enable_lora(2)
    return model


def lambda_layer():
    x = keras.Input((4,), name="x")
    return keras.Model(x, layers.Dense(2)(layers.Lambda(lambda v: v * 2.0 + 1.0)(x)))


class Plain(tf.Module):
    def __init__(self):
        super().__init__()
        self.steps = [
            {"w": tf.Variable(tf.ones([4, 4])), "b": tf.Variable(tf.zeros([4]))},
            {"w": tf.Variable(tf.ones([4, 2])), "b": tf.Variable(tf.zeros([2]))},
        ]
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer([b"up", b"down"], tf.constant([1.0, -1.0])), 0.0
        )

    def __call__(self, x, way):
        for step in self.steps:
            x = tf.tanh(x @ step["w"] + step["b"])
        return {"y": x * self.table.lookup(way)[:, None]}


def plain_module_with_table():
    way = tf.TensorSpec([None], tf.string)
    return Servable(Plain(), {"x": tf.TensorSpec([None, 4], tf.float32), "way": way})
