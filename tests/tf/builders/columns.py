"""Preprocessing inside of the model: texts, categories, numbers, with vocabularies."""

import os
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from mstore import Servable

CITIES = ["oslo", "rome", "köln", "new york"]
REVIEWS = ["a fine film", "bad, bad film!", "fine acting", "what a bore", "köln is fine"]
AGES = np.array([[18.0], [25.0], [31.0], [47.0], [62.0], [80.0]], "float32")


def census():
    """Columns of every type, each through a layer that was adapted."""
    inputs = {
        "age": keras.Input((1,), name="age"),
        "city": keras.Input((1,), dtype="string", name="city"),
        "zip": keras.Input((1,), dtype="int64", name="zip"),
        "jobs": keras.Input((3,), dtype="int32", name="jobs"),
    }
    normalize, bins = layers.Normalization(axis=None), layers.Discretization(num_bins=4)
    normalize.adapt(AGES)
    bins.adapt(AGES)
    cities = layers.StringLookup(num_oov_indices=2)
    cities.adapt(np.array(CITIES * 2 + ["oslo"]))
    zips = layers.IntegerLookup(output_mode="one_hot")
    zips.adapt(np.array([501, 7, 501, 99]))
    age = inputs["age"]
    columns = [
        normalize(age),
        layers.CategoryEncoding(4, output_mode="one_hot")(bins(age)),
        layers.Flatten()(layers.Embedding(8, 3)(cities(inputs["city"]))),
        zips(inputs["zip"]),
        layers.CategoryEncoding(6, output_mode="multi_hot")(inputs["jobs"]),
        layers.Hashing(5, salt=[7, 9], output_mode="one_hot")(inputs["city"]),
        layers.HashedCrossing(6, output_mode="one_hot")((inputs["city"], inputs["zip"])),
    ]
    x = layers.Dense(8, activation="relu")(layers.Concatenate()(columns))
    return keras.Model(inputs, {"income": layers.Dense(1)(x)})


def shout(text):
    return tf.strings.upper(tf.strings.regex_replace(text, "[!,]", ""))


def sentiment(mode: str = "int"):
    """Texts through a standardization of one's own."""
    options = {"int": {"output_sequence_length": 5}, "tf_idf": {}, "multi_hot": {}}[mode]
    vectorize = layers.TextVectorization(standardize=shout, output_mode=mode, **options)
    vectorize.adapt(REVIEWS)
    text = keras.Input(shape=(1,), dtype="string", name="review")
    x = vectorize(text)
    if mode == "int":
        x = layers.Embedding(vectorize.vocabulary_size(), 4, mask_zero=True)(x)
        x = layers.LSTM(4)(x)
    return keras.Model(text, layers.Dense(1, name="positive")(ops.cast(x, "float32")))


def vocabulary():
    """Write the vocabulary where the builder finds it: beside it, or where a variable says."""
    file = Path(os.environ.get("VOCABULARY_DIR", "/tmp")) / "cities.txt"  # noqa: S108 - a default
    file.write_text("\n".join(CITIES) + "\n")
    return file


class Geo(keras.Model):
    """Keeps a table of one's own and a lookup layer that reads a file."""

    def __init__(self, file):
        super().__init__()
        self.lookup = layers.StringLookup(vocabulary=str(file), mask_token=None)
        initializer = tf.lookup.TextFileInitializer(
            str(file), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER,
        )  # fmt: skip
        self.lines = tf.lookup.StaticVocabularyTable(initializer, num_oov_buckets=1)
        self.population = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(CITIES, [0.7, 2.8, 1.1, 8.3]), 0.5
        )
        self.embed = layers.Embedding(5, 3)
        self.bias = layers.Embedding(5, 1)

    def call(self, inputs):
        size = self.population.lookup(inputs)
        return {
            "score": ops.sum(self.embed(self.lookup(inputs)), -1) * size
            + self.bias(self.lines.lookup(inputs))[..., 0],
            "id": self.lines.lookup(inputs),
        }


def geo():
    return Servable(Geo(vocabulary()), {"city": tf.TensorSpec([None], tf.string)})


class Counter(layers.Layer):
    """Remembers what training saw, in tables that change."""

    def __init__(self):
        super().__init__()
        self.seen = tf.lookup.experimental.MutableHashTable(tf.int64, tf.float32, 0.0)
        self.dense = tf.lookup.experimental.DenseHashTable(
            tf.int64, tf.int64, default_value=-5, empty_key=-1, deleted_key=-2
        )

    def call(self, ids):
        both = [self.seen.lookup(ids), tf.cast(self.dense.lookup(ids), tf.float32)]
        return tf.ensure_shape(tf.stack(both, -1), [None, 2])


class Counted(keras.Model):
    def __init__(self):
        super().__init__()
        self.counter, self.out = Counter(), layers.Dense(2)

    def call(self, ids):
        return self.out(self.counter(ids))


def counted():
    return Servable(Counted(), {"ids": tf.TensorSpec([None], tf.int64)})


def examples():
    """Serialized tf.train.Example in, parsed in the signature; and the plain columns beside it."""
    x = keras.Input((3,), name="x")
    model = keras.Model(x, layers.Dense(2)(layers.Normalization()(x)))

    def parse(examples):
        features = {
            "x": tf.io.FixedLenFeature([3], tf.float32),
            "key": tf.io.FixedLenFeature([], tf.string, default_value="none"),
        }
        parsed = tf.io.parse_example(examples, features)
        return {"y": model(parsed["x"]), "key": parsed["key"]}

    def plain(x):
        return {"y": model(x)}

    return Servable(
        model,
        {"examples": tf.TensorSpec([None], tf.string), "x": tf.TensorSpec([None, 3], tf.float32)},
        {"serving_default": parse, "plain": plain},
    )


def sparse_input():
    words = keras.Input((20,), sparse=True, name="words")
    return keras.Model(words, layers.Dense(2)(words))


class Ragged(tf.Module):
    def __init__(self):
        super().__init__()
        self.table = tf.Variable(tf.ones([9, 2]))

    @tf.function(input_signature=[tf.RaggedTensorSpec([None, None], tf.int32)])
    def __call__(self, ids):
        return tf.reduce_mean(tf.gather(self.table, ids), axis=1)


def ragged_input():
    return Ragged()


class RaggedInside(Ragged):
    """Ragged inside, dense outside, which servers can send."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="sentence")])
    def __call__(self, sentence):
        words = tf.strings.split(sentence)
        ids = tf.strings.to_hash_bucket_fast(words, 9)
        return {"mean": tf.reduce_mean(tf.gather(self.table, ids), axis=1)}


def ragged_inside():
    return RaggedInside()
