"""Recurrent and attentive models, with masks."""

import keras
import tensorflow as tf
from keras import layers, ops

from mstore import Servable


@keras.saving.register_keras_serializable()
class MinimalCell(layers.Layer):
    """A recurrent cell of one's own."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = units

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], self.units), name="w")
        self.u = self.add_weight(shape=(self.units, self.units), initializer="orthogonal", name="u")
        self.forget = self.add_weight(shape=(self.units,), initializer="ones", name="forget")

    def get_config(self):
        return {**super().get_config(), "units": self.units}

    def call(self, x, states):
        (h,) = states
        new = ops.tanh(ops.matmul(x, self.w) + ops.matmul(h * self.forget, self.u))
        return new, [new]


def tagger():
    """Stacked recurrent layers of all kinds over masked words."""
    words = keras.Input((None,), dtype="int64", name="words")
    x = layers.Embedding(30, 6, mask_zero=True)(words)
    x = layers.Bidirectional(layers.GRU(4, return_sequences=True), merge_mode="sum")(x)
    x = layers.LSTM(5, return_sequences=True, recurrent_dropout=0.2)(x)
    x = layers.Bidirectional(
        layers.RNN(MinimalCell(3), return_sequences=True),
        backward_layer=layers.RNN(MinimalCell(3), return_sequences=True, go_backwards=True),
    )(x)
    x = layers.SimpleRNN(4, return_sequences=True)(x)
    return keras.Model(words, layers.Dense(3, activation="softmax", name="tag")(x))


def forecaster():
    """Encoder and decoder that hand over their states, and stacked cells."""
    past, known = keras.Input((8, 3), name="past"), keras.Input((4, 2), name="known")
    _, h, c = layers.LSTM(6, return_state=True)(past)
    y = layers.LSTM(6, return_sequences=True)(known, initial_state=[h, c])
    cells = [layers.GRUCell(4), MinimalCell(4), layers.LSTMCell(3)]
    y = layers.RNN(layers.StackedRNNCells(cells), return_sequences=True)(y)
    return keras.Model([past, known], layers.TimeDistributed(layers.Dense(1), name="demand")(y))


def radar():
    frames = keras.Input((3, 6, 6, 1), name="frames")
    x = layers.ConvLSTM2D(2, 3, padding="same", return_sequences=True)(frames)
    x = layers.ConvLSTM2D(2, 3)(layers.BatchNormalization()(x))
    return keras.Model(frames, layers.Flatten()(x))


class Positions(layers.Layer):
    """Learnt positions; hands the mask on."""

    def __init__(self, length, dim):
        super().__init__()
        self.supports_masking = True
        self.table = layers.Embedding(length, dim)

    def call(self, x):
        return x + self.table(ops.arange(ops.shape(x)[1]))


class Block(layers.Layer):
    def __init__(self, dim, heads):
        super().__init__()
        self.supports_masking = True
        self.attend = layers.MultiHeadAttention(heads, dim // heads, dropout=0.1)
        self.norms = layers.LayerNormalization(), layers.LayerNormalization()
        self.first, self.second = self.norms
        self.feed = keras.Sequential([layers.Dense(dim * 2, "gelu"), layers.Dense(dim)])

    def call(self, x, training=None, mask=None):
        padding = None if mask is None else mask[:, None, :]
        y = self.attend(x, x, attention_mask=padding, training=training)
        x = self.first(x + y)
        return self.second(x + self.feed(x))


class Encoder(keras.Model):
    """A small transformer whose call takes a mask, and makes one from its tokens."""

    def __init__(self, vocabulary=40, dim=8):
        super().__init__()
        self.embed = layers.Embedding(vocabulary, dim, mask_zero=True)
        self.positions = Positions(32, dim)
        self.block_a, self.block_b = Block(dim, 2), Block(dim, 4)
        self.head = layers.Dense(vocabulary, use_bias=False)

    def call(self, inputs, training=None, mask=None):
        x = self.positions(self.embed(inputs))
        mask = self.embed.compute_mask(inputs) if mask is None else mask
        for block in (self.block_a, self.block_b):
            x = block(x, training=training, mask=mask)
        weights = ops.cast(mask, x.dtype)[..., None]
        pooled = ops.sum(x * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1.0)
        return {"logits": self.head(x), "sentence": pooled}


def encoder():
    return Servable(Encoder(), {"inputs": tf.TensorSpec([None, None], tf.int32)})


def cross_attention():
    """Three ways to attend, two sequences, and a mask that comes as an input."""
    q, v = keras.Input((None, 6), name="query"), keras.Input((None, 6), name="value")
    keep = keras.Input((None,), dtype="bool", name="keep")
    a = layers.Attention(use_scale=True)([q, v], mask=[None, keep])
    b = layers.AdditiveAttention()([q, v], mask=[None, keep])
    c = layers.GroupQueryAttention(3, 4, 2)(q, v)
    x = layers.Add()([a, b, c])
    x = layers.LayerNormalization(rms_scaling=False)(x)
    return keras.Model([q, v, keep], layers.GlobalAveragePooling1D(name="context")(x))


def speaker(batch: int = 2):
    """A stateful network, whose batch is fixed."""
    frames = keras.Input(batch_shape=(batch, 5, 3), name="frames")
    return keras.Model(frames, layers.Dense(2)(layers.LSTM(4, stateful=True)(frames)))
