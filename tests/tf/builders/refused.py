"""Functions that TensorFlow saves and TensorFlow Serving refuses, or serves otherwise."""

import keras
import numpy as np
import tensorflow as tf

X = tf.TensorSpec([None, 4], tf.float32, name="x")


class Holder(tf.Module):
    """Something with a weight, and a function made of it."""

    def __init__(self, make, *specs, **parts):
        super().__init__()
        self.w = tf.Variable(tf.ones([4, 2]))
        for name, part in parts.items():
            setattr(self, name, part)
        self.f = tf.function(make(self), input_signature=list(specs or [X]), autograph=False)


def clean():
    return Holder(lambda self: lambda x: {"y": x @ self.w})


def python_code():
    return Holder(
        lambda self: (
            lambda x: {
                "y": tf.ensure_shape(tf.py_function(np.abs, [x @ self.w], tf.float32), [None, 2])
            }
        )
    )


def numpy_code():
    return Holder(
        lambda self: (
            lambda x: {
                "y": tf.ensure_shape(tf.numpy_function(np.abs, [x @ self.w], tf.float32), [None, 2])
            }
        )
    )


def grouped():
    layer = keras.layers.Conv2D(4, 3, groups=2)
    layer.build((None, 8, 8, 4))
    weights = [v.value for v in layer.variables]
    spec = tf.TensorSpec([None, 8, 8, 4], tf.float32, name="x")
    return Holder(lambda self: lambda x: {"y": layer(x)}, spec, weights=weights)


def compiled():
    inner = tf.function(lambda x: x * 2.0, jit_compile=True)
    return Holder(lambda self: lambda x: {"y": inner(x) @ self.w})


def cudnn():
    def make(self):
        def call(x):
            sequence = tf.transpose(x, [1, 0, 2])
            out = tf.raw_ops.CudnnRNNV3(
                input=sequence,
                input_h=tf.zeros([1, tf.shape(x)[0], 2]),
                input_c=tf.zeros([1, tf.shape(x)[0], 2]),
                params=tf.zeros([64]) + self.w[0, 0],
                sequence_lengths=tf.fill([tf.shape(x)[0]], 3),
                is_training=False,
            )
            return {"y": tf.reshape(out.output, [tf.shape(x)[0], -1])}

        return call

    return Holder(make, tf.TensorSpec([None, 3, 4], tf.float32, name="x"))


def bfloat16_head():
    return Holder(lambda self: lambda x: {"y": tf.cast(x @ self.w, tf.bfloat16)})


def half_input():
    spec = tf.TensorSpec([None, 4], tf.float16, name="x")
    return Holder(lambda self: lambda x: {"y": tf.cast(x, tf.float32) @ self.w}, spec)


def complex_output():
    return Holder(lambda self: lambda x: {"y": tf.complex(x, x) @ tf.complex(self.w, self.w)})


def fixed_batch():
    return Holder(
        lambda self: lambda x: {"y": x @ self.w}, tf.TensorSpec([8, 4], tf.float32, name="x")
    )


def scalar_output():
    return Holder(lambda self: lambda x: {"y": x @ self.w, "mean": tf.reduce_mean(x)})


def fixed_output():
    return Holder(lambda self: lambda x: {"y": x @ self.w, "labels": tf.constant(["a", "b", "c"])})


def scalar_input():
    specs = (X, tf.TensorSpec([], tf.float32, name="scale"))
    return Holder(lambda self: lambda x, scale: {"y": x @ self.w * scale}, *specs)


def no_inputs():
    module = Holder(lambda self: lambda x: {"y": x @ self.w})
    module.g = tf.function(lambda: {"y": module.w * 2.0}, input_signature=[])
    return module


def big_constant():
    table = np.random.default_rng(0).normal(size=(4, 50_000)).astype("float32")
    return Holder(lambda self: lambda x: {"y": x @ tf.constant(table)})


def reads_a_file(path):
    return Holder(
        lambda self: (
            lambda x: {
                "y": x @ self.w + tf.cast(tf.strings.length(tf.io.read_file(path)), tf.float32)
            }
        )
    )


def reads_what_is_asked():
    spec = tf.TensorSpec([], tf.string, name="name")
    return Holder(lambda self: lambda name: {"y": tf.io.read_file(name)}, spec)


def reads_an_asset(path):
    asset = tf.saved_model.Asset(path)
    return Holder(
        lambda self: (
            lambda x: {
                "y": x @ self.w
                + tf.cast(tf.strings.length(tf.io.read_file(self.asset.asset_path)), tf.float32)
            }
        ),
        asset=asset,
    )


def lines_of_a_file(path):
    def make(self):
        def call(x):
            lines = tf.data.TextLineDataset(path).reduce(0, lambda n, _: n + 1)
            return {"y": x @ self.w + tf.cast(lines, tf.float32)}

        return call

    return Holder(make)


def writes_a_file():
    def make(self):
        def call(x):
            with tf.control_dependencies([tf.io.write_file("seen.bin", tf.io.serialize_tensor(x))]):
                return {"y": x @ self.w}

        return call

    return Holder(make)


def prints():
    def make(self):
        def call(x):
            with tf.control_dependencies([tf.print("serving", x)]):
                return {"y": x @ self.w}

        return call

    return Holder(make)


def draws():
    return Holder(lambda self: lambda x: {"y": x @ self.w + tf.random.normal([2])})


def vocabulary_table(path):
    table = tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(
            path,
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        -1,
    )
    return Holder(
        lambda self: lambda word: {"id": self.table.lookup(word)},
        tf.TensorSpec([None], tf.string, name="word"),
        table=table,
    )


def table_of_a_local_file(path):
    def make(self):
        def call(word):
            table = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64)
            fill = tf.raw_ops.InitializeTableFromTextFileV2(
                table_handle=table, filename=path, key_index=-2, value_index=-1
            )
            with tf.control_dependencies([fill]):
                found = tf.raw_ops.LookupTableFindV2(
                    table_handle=table, keys=word, default_value=tf.constant(-1, tf.int64)
                )
            return {"id": found}

        return call

    return Holder(make, tf.TensorSpec([None], tf.string, name="word"))


def unused_python():
    """The served function is sound; a method that no signature calls is not."""
    module = clean()
    module.debug = tf.function(
        lambda x: tf.py_function(np.abs, [x], tf.float32), input_signature=[X]
    )
    return module


def key_b64():
    spec = tf.TensorSpec([None, 4], tf.float32, name="b64")
    return Holder(lambda self: lambda b64: {"y": b64 @ self.w}, spec)


def in_branches():
    """Python code in a branch of a loop in a branch."""

    def make(self):
        def odd(x):
            return tf.while_loop(
                lambda y: tf.reduce_sum(y) < 9.0,
                lambda y: tf.ensure_shape(tf.py_function(np.abs, [y + 1.0], tf.float32), [None, 2]),
                [x @ self.w],
                shape_invariants=[tf.TensorShape([None, 2])],
            )[0]

        def call(x):
            return {"y": tf.cond(tf.reduce_sum(x) > 0.0, lambda: x @ self.w, lambda: odd(x))}

        return call

    return Holder(make)
