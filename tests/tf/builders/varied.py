"""Models of many kinds, each with a batch to compare on; every function here is a builder."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from mstore import Servable

RNG = np.random.default_rng(7)


def floats(*shape):
    return RNG.normal(size=shape).astype("float32")


def several_named():
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="b-side")
    both = layers.concatenate([layers.Dense(8, "relu")(left), layers.Dense(8, "tanh")(right)])
    return keras.Model([right, left], [layers.Dense(3, name="score")(both), layers.Dense(2)(both)])


def dict_in_out():
    inputs = {
        "age": keras.Input((1,), name="age"),
        "word": keras.Input((3,), dtype="int32", name="word"),
    }
    word = layers.Flatten()(layers.Embedding(11, 5)(inputs["word"]))
    x = layers.Dense(8, "gelu")(layers.Concatenate()([inputs["age"], word]))
    return keras.Model(inputs, {"logit": layers.Dense(1)(x), "embedding": x})


def nested_shared():
    inner_in = keras.Input((6,))
    inner = keras.Model(inner_in, layers.Dense(6, "relu")(layers.Dense(6, "relu")(inner_in)))
    shared = layers.Dense(6, "tanh")
    x = y = keras.Input((6,), name="x")
    for _ in range(2):
        y = shared(inner(y))
    tower = keras.Sequential([layers.Input((6,)), layers.Dense(6), inner, layers.Dense(2)])
    return keras.Model(x, layers.add([tower(y), tower(x)]))


def picture():
    return keras.Sequential(
        [
            layers.Input((16, 16, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.SeparableConv2D(6, 3),
            layers.GroupNormalization(2),
            layers.Conv2DTranspose(4, 3),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5, "softmax", name="probabilities"),
        ]
    )


def masked_rnn():
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    x = layers.Embedding(20, 8, mask_zero=True)(tokens)
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(x)
    return keras.Model(tokens, layers.Dense(2)(layers.GRU(5)(x)))


def attention():
    x = keras.Input((None, 8), name="x")
    y = layers.MultiHeadAttention(2, 4)(x, x)
    y = layers.LayerNormalization()(layers.add([x, y]))
    y = layers.EinsumDense("btd,de->bte", output_shape=(None, 8), bias_axes="e")(y)
    return keras.Model(x, layers.Dense(3)(y))


def over_time():
    x = keras.Input((None, 8), name="x")
    return keras.Model(x, layers.TimeDistributed(layers.Dense(3))(x))


def mixed_precision():
    policy = keras.DTypePolicy("mixed_bfloat16")
    return keras.Sequential(
        [
            layers.Input((4,), name="x"),
            layers.Dense(16, "relu", dtype=policy),
            layers.Dense(2, dtype="float32", name="y"),
        ]
    )


class Scale(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")
        self.inner = layers.Dense(shape[-1])
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x) * self.scale


class CustomNet(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.second = Scale(), Scale()
        self.shift = tf.Variable([0.5, 0.25, 1.0, 2.0])
        self.gain = keras.Variable([1.0, 2.0, 3.0, 4.0])
        self.drop = layers.Dropout(0.5)

    def call(self, x, training=True):  # a default that must not reach the export
        return self.drop(self.second(self.first(x)), training=training) * self.gain + self.shift


def custom_layers():
    return Servable(CustomNet(), {"x": tf.TensorSpec([None, 4], tf.float32)})


def vectorized_text():
    text = keras.Input((), dtype="string", name="text")
    vectors = layers.TextVectorization(
        vocabulary=["good", "bad", "film"], output_sequence_length=4
    )(text)
    x = layers.GlobalAveragePooling1D()(layers.Embedding(8, 4)(vectors))
    return keras.Model(text, layers.Dense(1, name="positive")(x))


def looked_up():
    city = keras.Input((1,), dtype="string", name="city")
    code = keras.Input((1,), dtype="int64", name="code")
    a = layers.StringLookup(vocabulary=["rome", "oslo"], output_mode="one_hot")(city)
    b = layers.IntegerLookup(vocabulary=[5, 9, 1], output_mode="multi_hot")(code)
    c = layers.Hashing(4, output_mode="one_hot")(city)
    d = layers.Discretization([0.0, 4.0, 8.0], output_mode="one_hot")(ops.cast(code, "float32"))
    return keras.Model([city, code], layers.Dense(2)(layers.concatenate([a, b, c, d])))


class Plain(tf.Module):
    def __init__(self):
        super().__init__()
        self.ws = [tf.Variable(floats(4, 4), name="w") for _ in range(3)]
        self.by_name = {"bias": tf.Variable(floats(4), name="w"), "k": [tf.Variable(floats(4))]}
        self.pair = (tf.Variable(floats(4)), tf.Variable(floats(4)))

    def __call__(self, x):
        for w in self.ws:
            x = tf.nn.tanh(x @ w)
        return {"y": x * self.by_name["k"][0] + self.by_name["bias"] - self.pair[1]}


def plain_module():
    return Servable(Plain(), {"x": tf.TensorSpec([None, 4], tf.float32)})


class WithFunctions(tf.Module):
    def __init__(self):
        super().__init__()
        self.w = tf.Variable(floats(3, 2))
        keys, values = tf.constant(["a", "b"]), tf.constant([1, 2], tf.int64)
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(keys, values), -1
        )
        self.counts = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, 0)

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def __call__(self, x):
        return x @ self.w

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def look(self, words):
        return {"id": self.table.lookup(words), "count": self.counts.lookup(words)}


def own_functions():
    return WithFunctions()


class DictNet(keras.Model):
    def __init__(self):
        super().__init__()
        self.embed, self.out = layers.Embedding(9, 4), layers.Dense(2)

    def call(self, inputs):
        return self.out(inputs["x"] + ops.mean(self.embed(inputs["n"]), axis=1))


def dict_subclass():
    return Servable(
        DictNet(),
        {"x": tf.TensorSpec([None, 4], tf.float32), "n": tf.TensorSpec([None, 2], tf.int64)},
    )


class TwoArguments(keras.Model):
    def __init__(self):
        super().__init__()
        self.q, self.v = layers.Dense(3), layers.Dense(3)

    def call(self, query, *, value, training=None):
        del training
        return self.q(query) - self.v(value), self.q(query)


def two_arguments():
    return Servable(
        TwoArguments(),
        {
            "value": tf.TensorSpec([None, 4], tf.float32),
            "query": tf.TensorSpec([None, 4], tf.float32),
        },
    )


class Listed(keras.Model):
    def __init__(self):
        super().__init__()
        self.stem = layers.Dense(4)
        self.blocks = [layers.Dense(4, "tanh") for _ in range(3)]
        self.heads = {"a": layers.Dense(2), "b": layers.Dense(2)}

    def call(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return {name: head(x) for name, head in self.heads.items()}


def listed():
    return Servable(Listed(), {"x": tf.TensorSpec([None, 4], tf.float32)})


class Normalized(keras.Model):
    def __init__(self):
        super().__init__()
        self.norm, self.out = layers.Normalization(), layers.Dense(2)

    def call(self, x):
        return self.out(self.norm(x))


def normalized():
    return Servable(Normalized(), {"x": tf.TensorSpec([None, 4], tf.float32)})


def normalized_functional():
    x = keras.Input((4,), name="x")
    return keras.Model(x, layers.Dense(2)(layers.Normalization()(x)))


class Branching(keras.Model):
    def __init__(self):
        super().__init__()
        self.out = layers.Dense(2)

    def call(self, x):
        if tf.reduce_sum(x) > 0:
            x = x * 2
        for _ in tf.range(3):
            x = x + 1
        return self.out(x)


def branching():
    return Servable(Branching(), {"x": tf.TensorSpec([None, 4], tf.float32)})


class Tied(keras.Model):
    def __init__(self):
        super().__init__()
        self.embed, self.dense = layers.Embedding(12, 6), layers.Dense(6)
        self.same = self.dense

    def call(self, tokens):
        x = self.same(self.dense(self.embed(tokens)))
        return ops.matmul(x, ops.transpose(self.embed.embeddings))


def tied():
    return Servable(Tied(), {"tokens": tf.TensorSpec([None, None], tf.int32)})


def several_signatures():
    model = Listed()

    def predict(x):
        return model(x)

    def embed(x, scale):
        return {"embedding": model.stem(x) * scale, "as_int": tf.argmax(x, -1)}

    return Servable(
        model,
        {"x": tf.TensorSpec([None, 4], tf.float32), "scale": tf.TensorSpec([None, 1], tf.float32)},
        {"serving_default": predict, "embed": embed},
    )


class Stacked(keras.Model):
    def __init__(self):
        super().__init__()
        self.rnn = layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)])
        self.spectral = layers.SpectralNormalization(layers.Dense(3))

    def call(self, x):
        return self.spectral(self.rnn(x))


def stacked_cells():
    return Servable(Stacked(), {"x": tf.TensorSpec([None, 5, 4], tf.float32)})


class Wrapped(tf.Module):
    def __init__(self):
        super().__init__()
        self.net = keras.Sequential([layers.Input((4,)), layers.Dense(3), layers.Dense(2)])
        self.log_scale = tf.Variable(0.3)

    def __call__(self, x):
        return self.net(x) * tf.exp(self.log_scale)


def keras_in_module():
    return Servable(Wrapped(), {"x": tf.TensorSpec([None, 4], tf.float32)})


class Lazy(keras.Model):
    def __init__(self):
        super().__init__()
        self.body = keras.Sequential([layers.Dense(4), layers.BatchNormalization()])

    def build(self, shape):
        self.out = layers.Dense(shape[-1])
        super().build(shape)

    def call(self, x):
        return self.out(self.body(x))


def lazily_built():
    return Servable(Lazy(), {"x": tf.TensorSpec([None, 4], tf.float32)})


class Gated(layers.Layer):
    """Layers in a list and as an attribute, below others."""

    def __init__(self):
        super().__init__()
        self.steps = [layers.Dense(4, "tanh") for _ in range(2)]
        self.gate = layers.Dense(4, "sigmoid")

    def call(self, x):
        for step in self.steps:
            x = step(x)
        return x * self.gate(x)


def single_layer():
    return Servable(Gated(), {"x": tf.TensorSpec([None, 4], tf.float32)})


class Decoder(keras.Model):
    def __init__(self):
        super().__init__()
        self.embed, self.out = layers.Embedding(30, 8), layers.Dense(30)
        self.attend = [layers.MultiHeadAttention(2, 4) for _ in range(2)]
        self.norms = [layers.LayerNormalization() for _ in range(2)]

    def call(self, tokens):
        x = self.embed(tokens)
        for attend, norm in zip(self.attend, self.norms, strict=True):
            x = norm(x + attend(x, x, use_causal_mask=True))
        return {"logits": self.out(x), "pooled": ops.mean(x, axis=1)}


def causal_decoder():
    return Servable(Decoder(), {"tokens": tf.TensorSpec([None, None], tf.int32)})


class Pictures(keras.Model):
    def __init__(self):
        super().__init__()
        self.conv, self.out = layers.Conv2D(3, 3), layers.Dense(2)

    def call(self, x):
        return self.out(ops.mean(self.conv(x), axis=(1, 2)))


def decode(data):
    return tf.image.resize(tf.io.decode_jpeg(data, channels=3), [16, 16])


def encoded_pictures():
    model = Pictures()

    def serve(image_bytes):
        pixels = tf.map_fn(decode, image_bytes, fn_output_signature=tf.float32)
        return {"scores": model(pixels)}

    return Servable(
        model, {"image_bytes": tf.TensorSpec([None], tf.string)}, {"serving_default": serve}
    )


VOCABULARY = Path(__file__).with_name("colours.txt")


def vocabulary_file():
    colour = keras.Input((1,), dtype="string", name="colour")
    one_hot = layers.StringLookup(vocabulary=str(VOCABULARY), output_mode="one_hot")(colour)
    return keras.Model(colour, layers.Dense(2)(one_hot))


class FileTable(tf.Module):
    def __init__(self):
        super().__init__()
        index = tf.lookup.TextFileIndex
        lines = tf.lookup.TextFileInitializer(
            str(VOCABULARY), tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER
        )
        self.table = tf.lookup.StaticVocabularyTable(lines, 2)
        self.vectors = tf.Variable(floats(5, 3))

    def __call__(self, colour):
        return tf.gather(self.vectors, self.table.lookup(colour))


def table_from_file():
    return Servable(FileTable(), {"colour": tf.TensorSpec([None], tf.string)})


def nested_outputs():
    x = keras.Input((4,), name="x")
    inner = {"b": layers.Dense(2)(x), "c": layers.Dense(1)(x)}
    return keras.Model(x, {"a": inner, "z": layers.Dense(3)(x)})


class Decorated(tf.Module):
    """Makes its variables in the first call, under tf.function, with a flag for training."""

    def __init__(self):
        super().__init__()
        self.w = None

    @tf.function
    def __call__(self, a, b, training=True):
        if self.w is None:
            self.w = tf.Variable(tf.ones([4, 2]))
        return {"y": (a - 2 * b) @ self.w * (0.0 if training else 1.0)}


def decorated_call():
    spec = tf.TensorSpec([None, 4], tf.float32)
    return Servable(Decorated(), {"b": spec, "a": spec})


def double_precision():
    return keras.Sequential(
        [
            layers.Input((4,), dtype="float64", name="x"),
            layers.Dense(4, dtype="float64"),
            layers.Dense(2, dtype="float64"),
        ]
    )
