"""Models by their structure: several inputs and outputs, nesting, sharing, lists and dicts."""

import json

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from mstore import Servable


def spec(*shape, dtype="float32"):
    return tf.TensorSpec([None, *shape], dtype)


# --- functional -------------------------------------------------------------------------------


def ads_ranker(width=16):
    """Three named inputs of three dtypes; a list of outputs in a dict."""
    user = keras.Input(shape=(), dtype="int32", name="user_id")
    history = keras.Input(shape=(None,), dtype="int64", name="history")
    price = keras.Input(shape=(2,), name="price")
    items = layers.Embedding(50, width, name="item_table")
    u = layers.Embedding(20, width, name="user_table")(user)
    h = ops.mean(items(history), axis=1)
    z = layers.Concatenate()([u, h, layers.UnitNormalization()(price)])
    for units in (width, width // 2):
        z = layers.Dense(units, kernel_regularizer="l2")(z)
        z = layers.LeakyReLU()(z)
    outputs = {
        "click": layers.Dense(1, activation="sigmoid", name="click")(z),
        "heads": [layers.Dense(2, name="buy")(z), layers.Dense(3, name="stay")(z)],
    }
    return keras.Model({"user": user, "history": history, "price": price}, outputs)


def siamese():
    def tower():
        a = inputs = keras.Input((10,))
        for i in range(2):
            a = layers.Dense(8, activation="selu", name=f"fc_{i}")(a)
            a = layers.LayerNormalization(name=f"ln_{i}")(a)
        return keras.Model(inputs, layers.UnitNormalization()(a), name="tower")

    left, right = keras.Input((10,), name="left"), keras.Input((10,), name="right")
    net = tower()
    distance = layers.Lambda(lambda ab: ops.abs(ab[0] - ab[1]), output_shape=(8,))
    merged = distance([net(left), net(right)])
    return keras.Model([left, right], layers.Dense(1, activation="sigmoid")(merged))


def transfer(fine_tuned=2):
    """A frozen base in inference mode, of which the last layers are trained again."""
    base = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Conv2D(6, 3, strides=2, use_bias=False),
            layers.BatchNormalization(),
            layers.Activation("relu6"),
            layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2),
            layers.BatchNormalization(scale=False),
        ],
        name="base",
    )
    base.trainable = True
    for layer in base.layers[:-fine_tuned]:
        layer.trainable = False
    photo = keras.Input((12, 12, 3), name="photo")
    x = layers.RandomFlip("horizontal", seed=3)(photo)
    x = layers.RandomRotation(0.1)(x)
    x = base(layers.Rescaling(1 / 127.5, offset=-1)(x), training=False)
    x = layers.GlobalMaxPooling2D()(x)
    x = layers.Dropout(0.4)(x)
    return keras.Model(photo, layers.Dense(4, name="species")(x), name="classifier")


def unet():
    """Convolutions of many kinds, transposed and dilated ones among them."""
    image = keras.Input((16, 16, 1), name="image")
    skips, x = [], image
    for filters in (4, 8):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.SpatialDropout2D(0.1)(x)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(8, 3, dilation_rate=2, padding="same", activation="silu")(x)
    for filters, skip in zip((8, 4), reversed(skips), strict=True):
        x = layers.Conv2DTranspose(filters, 2, strides=2)(x)
        x = layers.Concatenate()([x, skip])
        x = layers.SeparableConv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.BatchNormalization()(x)
    return keras.Model(image, layers.Conv2D(2, 1, activation="softmax", name="mask")(x))


def volumes_and_series():
    volume, series = keras.Input((6, 6, 6, 1), name="volume"), keras.Input((20, 3), name="series")
    v = layers.Conv3D(2, 3)(volume)
    v = layers.Conv3DTranspose(2, 2)(v)
    v = layers.GlobalAveragePooling3D()(v)
    s = layers.SeparableConv1D(4, 3, padding="same")(series)
    s = layers.Conv1D(4, 3, padding="causal", dilation_rate=2)(s)
    s = layers.Conv1DTranspose(3, 3, strides=2)(layers.PReLU(shared_axes=[1])(s))
    s = layers.DepthwiseConv1D(2)(layers.Cropping1D(1)(s))
    s = layers.GlobalAveragePooling1D()(layers.ZeroPadding1D(2)(s))
    return keras.Model([series, volume], layers.Dense(2)(layers.concatenate([v, s])))


class ResidualBlock(layers.Layer):
    """A custom layer with ``get_config``, of which the model is made from a description."""

    def __init__(self, units, rate=0.1, **kwargs):
        super().__init__(**kwargs)
        self.units, self.rate = units, rate
        self.expand = layers.Dense(units * 2, activation="gelu")
        self.contract = layers.Dense(units)
        self.drop = layers.Dropout(rate)

    def build(self, shape):
        self.expand.build(shape)
        self.contract.build((*shape[:-1], self.units * 2))
        self.alpha = self.add_weight(name="alpha", shape=(), initializer="zeros")
        self.built = True

    def call(self, x, training=None):
        y = self.drop(self.contract(self.expand(x)), training=training)
        return x + self.alpha * y

    def get_config(self):
        return {**super().get_config(), "units": self.units, "rate": self.rate}


def from_description():
    """The model goes through JSON, as where the architecture lies in a file beside the code."""
    x = inputs = keras.Input((6,), name="features")
    for _ in range(3):
        x = ResidualBlock(6)(x)
    model = keras.Model(inputs, layers.Dense(1, name="y")(x))
    text = json.loads(json.dumps(model.to_json()))
    return keras.models.model_from_json(text, custom_objects={"ResidualBlock": ResidualBlock})


# --- subclassed -------------------------------------------------------------------------------


class Mixer(keras.Model):
    """Layers in lists of dicts of lists, and beside them attributes made in a loop."""

    def __init__(self, depth=2, dim=6):
        super().__init__(name="mixer")
        self.depth = depth
        self.stages = [
            {
                "norm": layers.LayerNormalization(name=f"norm_{i}"),
                "mlp": [
                    layers.Dense(dim * 2, activation="gelu", name=f"up_{i}"),
                    layers.Dense(dim, name=f"down_{i}"),
                ],
            }
            for i in range(depth)
        ]
        for i in range(depth):
            setattr(self, f"gate_{i}", layers.Dense(dim, activation="sigmoid"))
        self.classifier = layers.Dense(3, name="classifier")

    def call(self, inputs, training=None, mask=None):
        x = inputs
        for i, stage in enumerate(self.stages):
            y = stage["norm"](x)
            for layer in stage["mlp"]:
                y = layer(y)
            x = x + y * getattr(self, f"gate_{i}")(x)
        return {"logits": self.classifier(x), "embedding": x}


def mixer():
    return Servable(Mixer(), inputs={"tokens": spec(6)})


class TiedAutoencoder(keras.Model):
    """The decoder is the encoder's kernel transposed; one layer sits under two names."""

    class Transposed(layers.Layer):
        def __init__(self, source):
            super().__init__()
            self.source = source

        def build(self, shape):
            self.bias = self.add_weight(shape=(5,), initializer="zeros", name="bias")

        def call(self, x):
            return ops.matmul(x, ops.transpose(self.source.kernel)) + self.bias

    def __init__(self):
        super().__init__()
        self.encoder = layers.Dense(3, activation="tanh")
        self.decoder = TiedAutoencoder.Transposed(self.encoder)
        self.alias = self.decoder

    def call(self, x):
        return self.alias(self.encoder(x))


def tied_autoencoder():
    return Servable(TiedAutoencoder(), {"x": spec(5)})


class Outer(keras.Model):
    """A model of models: subclassed, functional and sequential ones inside of one another."""

    def __init__(self):
        super().__init__()
        inputs = keras.Input((4,))
        self.functional = keras.Model(inputs, layers.Dense(4, activation="relu")(inputs))
        last = keras.Sequential([layers.Dense(4, use_bias=False)])
        self.stack = keras.Sequential([self.functional, layers.Dense(4), last])
        self.again = Inner(self.functional)

    def call(self, x):
        return self.again(self.stack(x)) + self.functional(x)


class Inner(keras.Model):
    def __init__(self, shared):
        super().__init__()
        self.shared = shared
        self.scale = keras.Variable(np.full(4, 0.5, "float32"), name="scale")
        self.offset = tf.Variable(tf.zeros(4), name="offset")

    def call(self, x):
        return ops.tanh(self.shared(x)) * self.scale + self.offset


def models_in_models():
    return Servable(Outer(), {"x": spec(4)})


def unshaped_sequential():
    """Knows its inputs' shape only after the first batch."""
    return keras.Sequential(name="late")


def sequential_without_shape():
    model = unshaped_sequential()
    model.add(layers.Flatten())
    for units in (7, 5):
        model.add(layers.Dense(units))
        model.add(layers.BatchNormalization())
        model.add(layers.ELU())
    model.add(layers.Dense(2))
    return model


class Inception(keras.Model):
    """Has a head that is only there in training, and one that is made in the first call."""

    def __init__(self):
        super().__init__()
        self.stem = layers.Dense(6, activation="relu")
        self.auxiliary = layers.Dense(2, name="auxiliary")
        self.final = None

    def call(self, x, training=False):
        h = self.stem(x)
        if self.final is None:
            self.final = layers.Dense(2, name="final")
        if training:
            return {"main": self.final(h), "auxiliary": self.auxiliary(h)}
        return {"main": self.final(h)}


def auxiliary_head():
    return Servable(Inception(), {"x": spec(4)})


class Kit(keras.Model):
    """Only keras.ops and variables, no layer."""

    def __init__(self, units=3):
        super().__init__()
        init = keras.initializers.GlorotUniform(seed=2)
        self.w = keras.Variable(init((4, units)), name="w")
        self.b = self.add_weight(shape=(units,), name="b")
        self.counter = self.add_weight(shape=(), dtype="int64", trainable=False, name="seen")

    def call(self, x):
        y = ops.einsum("bi,ij->bj", x, self.w) + self.b
        y = ops.where(y > 0, ops.log1p(ops.abs(y)), ops.erf(y))
        return y * ops.cast(self.counter, y.dtype)


def bare_ops():
    return Servable(Kit(), {"x": spec(4)})


class HoldsRawVariables(layers.Layer):
    def __init__(self, in_list):
        super().__init__()
        first, second = tf.Variable([1.0, 2.0]), tf.Variable([3.0, 4.0])
        if in_list:
            self.pair = [first, second]
        else:
            self.first, self.second = first, second
        self.in_list = in_list

    def call(self, x):
        first, second = self.pair if self.in_list else (self.first, self.second)
        return x * first + second


def raw_variables(in_list: bool = False):
    x = keras.Input((2,), name="x")
    return keras.Model(x, layers.Dense(2)(HoldsRawVariables(in_list)(x)))
