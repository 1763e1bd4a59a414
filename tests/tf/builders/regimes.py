"""Models by how they were trained: steps of one's own, precision, adapters, averages."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from mstore import Servable


def spec(*shape, dtype="float32"):
    return tf.TensorSpec([None, *shape], dtype)


class Distilled(keras.Model):
    """A train_step of its own, with metrics that are attributes."""

    def __init__(self, backbone=None):
        super().__init__()
        self.backbone = backbone or keras.Sequential(
            [layers.Dense(6), layers.BatchNormalization(), layers.ReLU()]
        )
        self.head = layers.Dense(2)
        self.loss_tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self.loss_tracker]

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = ops.mean(ops.square(self(x, training=True) - y))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}

    def call(self, x, training=False):
        return self.head(self.backbone(x, training=training))


def distilled():
    return Servable(Distilled(), {"x": spec(4)})


class Sampling(layers.Layer):
    """Draws in training; gives the mean in service."""

    def __init__(self):
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator(11)

    def call(self, mean, log_var, training=False):
        if not training:
            return mean
        noise = keras.random.normal(ops.shape(mean), seed=self.seed_generator)
        return mean + ops.exp(0.5 * log_var) * noise


class Vae(keras.Model):
    def __init__(self):
        super().__init__()
        self.encoder = layers.Dense(6, activation="relu")
        self.mean, self.log_var = layers.Dense(2), layers.Dense(2)
        self.sampling = Sampling()
        self.decoder = keras.Sequential([layers.Dense(6, "relu"), layers.Dense(4)])

    def call(self, x, training=False):
        h = self.encoder(x)
        z = self.sampling(self.mean(h), self.log_var(h), training=training)
        return self.decoder(z)


def vae():
    model = Vae()

    def encode(x):
        h = model.encoder(x)
        return {"mean": model.mean(h), "log_var": model.log_var(h)}

    def decode(z):
        return {"x": model.decoder(z)}

    def reconstruct(x):
        return {"x": model(x, training=False)}

    return Servable(
        model,
        {"x": spec(4), "z": spec(2)},
        {"serving_default": reconstruct, "encode": encode, "decode": decode},
    )


def generator():
    noise = keras.Input((3,), name="noise")
    x = layers.Dense(4 * 4 * 4, use_bias=False)(noise)
    x = layers.LeakyReLU(0.2)(layers.BatchNormalization()(x))
    x = layers.Reshape((4, 4, 4))(x)
    x = layers.Conv2DTranspose(3, 4, strides=2, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    return keras.Model(noise, layers.Conv2D(1, 3, padding="same", activation="tanh")(x))


def discriminator():
    image = keras.Input((8, 8, 1), name="image")
    x = layers.SpectralNormalization(layers.Conv2D(4, 3, strides=2))(image)
    x = layers.GaussianNoise(0.1)(layers.LeakyReLU()(x))
    return keras.Model(image, layers.Dense(1)(layers.Flatten()(layers.AlphaDropout(0.2)(x))))


class Gan(keras.Model):
    def __init__(self, generator, discriminator):
        super().__init__()
        self.generator, self.discriminator = generator, discriminator

    def compile(self, g_optimizer, d_optimizer):
        super().compile()
        self.g_optimizer, self.d_optimizer = g_optimizer, d_optimizer

    def train_step(self, images):
        noise = keras.random.normal((ops.shape(images)[0], 3))
        with tf.GradientTape(persistent=True) as tape:
            fake = self.generator(noise, training=True)
            score_fake = self.discriminator(fake, training=True)
            score_real = self.discriminator(images, training=True)
            d_loss = ops.mean(ops.softplus(score_fake) + ops.softplus(-score_real))
            g_loss = ops.mean(ops.softplus(-score_fake))
        for net, loss, optimizer in (
            (self.discriminator, d_loss, self.d_optimizer),
            (self.generator, g_loss, self.g_optimizer),
        ):
            weights = net.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"d_loss": d_loss, "g_loss": g_loss}


class LoraNet(keras.Model):
    def __init__(self, rank=0):
        super().__init__()
        self.embed = layers.Embedding(12, 6)
        self.query = layers.EinsumDense("btd,dhk->bthk", output_shape=(None, 2, 3))
        self.out = layers.Dense(4)
        self.rank = rank

    def call(self, ids):
        q = self.query(self.embed(ids))
        return self.out(ops.mean(ops.reshape(q, (-1, ops.shape(ids)[1], 6)), axis=1))


def lora():
    """Adapters beside a frozen kernel; they are enabled after the first call."""
    model = LoraNet()
    model(np.zeros((1, 3), "int32"))
    for layer in (model.embed, model.query, model.out):
        layer.enable_lora(2)
    return Servable(model, {"ids": spec(None, dtype="int32")})


class LoraDense(layers.Layer):
    """An adapter of one's own around a layer that is frozen."""

    def __init__(self, inner, rank=2):
        super().__init__()
        self.inner, self.rank = inner, rank
        self.inner.trainable = False

    def build(self, shape):
        if not self.inner.built:
            self.inner.build(shape)
        self.a = self.add_weight(shape=(shape[-1], self.rank), name="a")
        self.b = self.add_weight(shape=(self.rank, self.inner.units), name="b")

    def call(self, x):
        return self.inner(x) + ops.matmul(ops.matmul(x, self.a), self.b)


def adapted():
    x = inputs = keras.Input((4,), name="x")
    for units in (6, 6, 3):
        x = LoraDense(layers.Dense(units, activation="tanh"))(x)
    return keras.Model(inputs, x)


def quantized():
    model = keras.Sequential(
        [keras.Input((8,), name="x"), layers.Dense(16, "relu"), layers.Dense(4)], name="small"
    )
    model.quantize("int8")
    return model


def half_precision(policy: str = "mixed_float16"):
    keras.mixed_precision.set_global_policy(policy)
    x = inputs = keras.Input((8, 8, 3), name="x")
    x = layers.Conv2D(8, 3, activation="relu")(x)
    x = layers.BatchNormalization()(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(16, activation="gelu")(x)
    return keras.Model(inputs, layers.Dense(3, dtype="float32", activation="softmax")(x))


def doubles():
    keras.config.set_floatx("float64")
    x = keras.Input((4,), name="x")
    y = layers.LSTM(3)(layers.Reshape((2, 2))(x))
    return keras.Model(x, layers.Dense(2)(layers.BatchNormalization()(y)))


class WeightNorm(layers.Wrapper):
    """Direction and length of the kernel are weights of their own."""

    def build(self, shape=None):
        super().build(shape)
        self.v = self.layer.kernel
        axes = list(range(len(self.v.shape) - 1))
        self.g = self.add_weight(shape=(self.v.shape[-1],), initializer="ones", name="g")
        self.g.assign(ops.sqrt(ops.sum(ops.square(self.v), axis=axes)))

    def call(self, x):
        axes = list(range(len(self.v.shape) - 1))
        length = ops.sqrt(ops.sum(ops.square(self.v), axis=axes))
        y = self.layer(x) - self.layer.bias
        return y * self.g / length + self.layer.bias


def weight_normed():
    x = keras.Input((5,), name="x")
    y = WeightNorm(layers.Dense(4))(x)
    y = layers.SpectralNormalization(layers.Dense(4), power_iterations=2)(y)
    return keras.Model(x, WeightNorm(layers.Dense(2))(ops.relu(y)))


def pictures(groups: int = 1, data_format: str = "channels_last"):
    shape = (8, 8, 4) if data_format == "channels_last" else (4, 8, 8)
    x = keras.Input(shape, name="x")
    y = layers.Conv2D(8, 3, groups=groups, activation="relu", data_format=data_format)(x)
    y = layers.BatchNormalization(axis=-1 if data_format == "channels_last" else 1)(y)
    y = layers.Conv2D(4, 1, groups=groups, use_bias=False, data_format=data_format)(y)
    return keras.Model(x, layers.GlobalAveragePooling2D(data_format=data_format)(y))


def grouped_series():
    x = keras.Input((9, 4), name="x")
    y = layers.Conv1D(8, 3, groups=4, strides=2, padding="causal")(x)
    y = layers.Reshape((5, 2, 1, 4))(y)
    return keras.Model(x, layers.Flatten()(layers.Conv3D(6, (3, 2, 1), groups=2)(y)))


class Compiled(tf.Module):
    def __init__(self):
        super().__init__()
        self.w = tf.Variable([[1.0, 2.0], [3.0, 4.0]])

    @tf.function(jit_compile=True)
    def __call__(self, x):
        return tf.nn.relu(x @ self.w)


def compiled_function():
    return Servable(Compiled(), {"x": spec(2)})


def averaged():
    return keras.Sequential(
        [keras.Input((4,), name="x"), layers.Dense(6, "relu"), layers.BatchNormalization(),
         layers.Dense(2)],
        name="averaged",
    )  # fmt: skip


class AveragedBlocks(keras.Model):
    """Averaged, and with layers in a list."""

    def __init__(self):
        super().__init__()
        self.blocks = [layers.Dense(4, activation="tanh") for _ in range(2)]
        self.out = layers.Dense(2)

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return self.out(x)


def averaged_blocks():
    return Servable(AveragedBlocks(), {"x": spec(4)})
