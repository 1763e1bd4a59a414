"""Models whose variables could get the wrong tensor, or whose graph could keep an old value."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from mstore import Servable

INPUTS = {"x": tf.TensorSpec([None, 4], tf.float32)}


def two_branches(first="a", second="b", swap=False):
    """Two layers of one shape; their order of making may differ from their place."""
    x = keras.Input((4,), name="x")
    made = [layers.Dense(4, name=first), layers.Dense(4, name=second)]
    one, two = reversed(made) if swap else made
    return keras.Model(x, layers.subtract([one(x), two(x)]))


def unnamed_branches(swap: bool = False):
    return two_branches(None, None, swap)


class ListNet(keras.Model):
    """Its layers are in a list alone; the switch makes them in another order."""

    def __init__(self, swap=False, statistics=False):
        super().__init__()
        first, second = layers.Dense(4, "tanh"), layers.Dense(4, "tanh")
        self.blocks = [second, first] if swap else [first, second]
        if statistics:
            self.blocks.append(layers.BatchNormalization())

    def call(self, x, training=False):
        for block in self.blocks:
            x = block(x)
        return x


def list_net(swap: bool = False, statistics: bool = False):
    return Servable(ListNet(swap, statistics), INPUTS)


class Cached(layers.Layer):
    """Keeps a product of its weights, computed when it was built."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1],), initializer="zeros")
        self.cache = tf.exp(self.kernel)

    def call(self, x):
        return x * self.cache + self.kernel


class Refreshed(Cached):
    def finalize_state(self):
        self.cache = tf.exp(tf.convert_to_tensor(self.kernel))


def with_layer(kind):
    x = keras.Input((4,), name="x")
    return keras.Model(x, layers.Dense(2)(kind()(x)))


def cached():
    return with_layer(Cached)


def refreshed():
    return with_layer(Refreshed)


class Projection(layers.Layer):
    """A random matrix that is no weight."""

    def build(self, shape):
        self.matrix = tf.random.normal((shape[-1], 3))

    def call(self, x):
        return tf.matmul(x, self.matrix)


def random_projection():
    return with_layer(Projection)


class FixedProjection(layers.Layer):
    def build(self, shape):
        self.matrix = np.random.default_rng(0).normal(size=(shape[-1], 3)).astype("float32")

    def call(self, x):
        return ops.matmul(x, self.matrix)


def fixed_projection():
    return with_layer(FixedProjection)


class Pretrained(layers.Layer):
    """Its weight is set after it was made, as by loading pretrained weights, and then copied."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1],), initializer="ones")
        self.kernel.assign(np.arange(4, dtype="float32"))
        self.copy = tf.identity(self.kernel.value)

    def call(self, x):
        return x + self.copy + self.kernel


def pretrained_copy():
    return with_layer(Pretrained)


class Gan(keras.Model):
    def __init__(self):
        super().__init__()
        self.generator = generator()
        self.discriminator = generator()


def generator():
    return keras.Sequential([layers.Input((4,), name="x"), layers.Dense(4), layers.Dense(4)])


def critic():
    return keras.Sequential([layers.Input((4,), name="x"), layers.Dense(5), layers.Dense(1)])


SINGLETON = generator()


def same_each_time():
    return SINGLETON


class Sampler(keras.Model):
    def __init__(self):
        super().__init__()
        self.out = layers.Dense(2)
        self.seeds = keras.random.SeedGenerator(5)

    def call(self, x):
        return self.out(x + keras.random.normal(ops.shape(x), seed=self.seeds))


def sampler():
    return Servable(Sampler(), INPUTS)


class Stateful(tf.Module):
    """Counts its calls in a variable of the checkpoint."""

    def __init__(self):
        super().__init__()
        self.w, self.calls = tf.Variable([1.0, 2.0, 3.0, 4.0]), tf.Variable(0.0, trainable=False)

    def __call__(self, x):
        self.calls.assign_add(1)
        return x * self.w + self.calls


def stateful():
    return Servable(Stateful(), INPUTS)


def adapted_text():
    text = keras.Input((), dtype="string", name="text")
    vectors = layers.TextVectorization(output_sequence_length=4)(text)
    return keras.Model(text, layers.Embedding(20, 4)(vectors))


class Binned(keras.Model):
    def __init__(self):
        super().__init__()
        self.bins, self.out = (
            layers.Discretization(num_bins=4, output_mode="one_hot"),
            layers.Dense(2),
        )

    def call(self, x):
        return self.out(self.bins(x))


def binned():
    return Servable(Binned(), {"x": tf.TensorSpec([None, 1], tf.float32)})


class SameNames(tf.Module):
    """Many variables of one name and shape."""

    def __init__(self):
        super().__init__()
        self.vs = [tf.Variable([float(i)] * 3) for i in range(5)]
        self.ws = {"b": tf.Variable(1.0, name="w"), "a": tf.Variable(2.0, name="w")}

    def __call__(self, x):
        total = sum((10.0**-i) * v for i, v in enumerate(self.vs))
        return x * total + self.ws["a"] - 2 * self.ws["b"]


def same_names():
    return Servable(SameNames(), {"x": tf.TensorSpec([None, 3], tf.float32)})


class Counts(tf.Module):
    def __init__(self):
        super().__init__()
        self.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.float32, -1.0)
        self.w = tf.Variable(2.0)

    def __call__(self, word):
        return self.table.lookup(word) * self.w


def counts():
    return Servable(Counts(), {"word": tf.TensorSpec([None], tf.string)})


def channels_first():
    convolution = layers.Conv3D(2, 3, data_format="channels_first")
    return keras.Sequential([layers.Input((2, 5, 6, 7), name="x"), convolution, layers.Flatten()])


def fixed_batch():
    return keras.Sequential([layers.Input(batch_shape=(2, 4), name="x"), layers.Dense(3)])


class Chain(keras.Model):
    """All its layers are in one list, and no bias tells them apart by shape."""

    def __init__(self, count=2):
        super().__init__()
        self.blocks = [layers.Dense(4, "tanh", use_bias=False) for _ in range(count)]

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def chain(count: int = 2):
    return Servable(Chain(count), INPUTS)


class Pair(keras.Model):
    def __init__(self, tied=False):
        super().__init__()
        self.first = layers.Dense(4)
        self.second = self.first if tied else layers.Dense(4)

    def call(self, x):
        return self.second(self.first(x))


def pair(tied: bool = False):
    return Servable(Pair(tied), INPUTS)


OUTSIDE = layers.Dense(4)


class Borrowing(keras.Model):
    """Uses a layer that is not its own."""

    def __init__(self):
        super().__init__()
        self.own = layers.Dense(4)

    def call(self, x):
        return self.own(OUTSIDE(x))


def borrowing():
    return Servable(Borrowing(), INPUTS)


class Shuffled(layers.Layer):
    def build(self, shape):
        self.order = tf.random.shuffle(tf.range(64)) % shape[-1]

    def call(self, x):
        return tf.gather(x, self.order, axis=1)


def shuffled():
    return with_layer(Shuffled)


class Averaged(keras.Model):
    def __init__(self):
        super().__init__()
        self.out = layers.Dense(2)

    def call(self, x):
        return self.out(x)


def averaged():
    return Servable(Averaged(), INPUTS)


class Refusing(Averaged):
    def finalize_state(self):
        raise RuntimeError("no statistics")


def refusing():
    return Servable(Refusing(), INPUTS)
