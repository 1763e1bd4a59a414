"""Plain modules: variables in lists and dicts, several signatures, lazily made variables."""

import tensorflow as tf

from mstore import Servable


class Affine(tf.Module):
    """Makes its variables when it first sees an input."""

    def __init__(self, units, name=None):
        super().__init__(name=name)
        self.units = units

    @tf.Module.with_name_scope
    def __call__(self, x):
        if not hasattr(self, "w"):
            shape = [x.shape[-1], self.units]
            self.w = tf.Variable(tf.random.stateless_normal(shape, [1, 2]), name="w")
            self.b = tf.Variable(tf.zeros(self.units), name="b")
        return x @ self.w + self.b


class Experts(tf.Module):
    """Modules in lists in dicts, beside variables of one name in a tuple."""

    def __init__(self):
        super().__init__()
        self.experts = {"even": [Affine(3), Affine(3)], "odd": [Affine(3)]}
        self.mix = (tf.Variable(0.3, name="m"), tf.Variable(0.5, name="m"))
        self.deep = {"a": {"b": [tf.Variable([1.0, 2.0, 3.0])]}}
        self.order = tf.Variable([2, 0, 1], trainable=False, dtype=tf.int32)
        self.mask = tf.Variable([True, False, True], trainable=False)

    def __call__(self, x):
        even = sum(expert(x) for expert in self.experts["even"])
        odd = self.experts["odd"][0](x)
        y = self.mix[0] * even + self.mix[1] * odd
        y = tf.gather(y, self.order, axis=1) * self.deep["a"]["b"][0]
        return tf.where(self.mask, y, -y)


def experts():
    return Servable(Experts(), {"x": tf.TensorSpec([None, 4], tf.float32)})


class Service(tf.Module):
    """Signatures by decorated methods; one of them takes two inputs, one changes nothing."""

    def __init__(self):
        super().__init__(name="service")
        self.body = Affine(4)
        self.body(tf.zeros([1, 3]))
        self.threshold = tf.Variable(0.25)
        self.anything = tf.Variable([0.0], shape=tf.TensorShape(None))

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def score(self, x):
        return {"score": self.body(x), "extra": self.anything * 2.0}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 3], tf.float32, name="x"),
            tf.TensorSpec([None], tf.float32, name="limit"),
        ]
    )
    def decide(self, x, limit):
        high = tf.reduce_max(self.body(x), axis=1) > limit + self.threshold
        return {"high": high, "name": tf.where(high, "yes", "no")}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32, name="n")])
    def count(self, n):
        total = tf.constant(0.0)
        for i in tf.range(n):
            total += tf.cast(i, tf.float32) * self.threshold
        return {"total": total}


def service():
    return Service()


class Complex(tf.Module):
    def __init__(self):
        super().__init__()
        self.phase = tf.Variable(tf.complex([1.0, 0.0], [0.5, 1.0]))
        self.half = tf.Variable(tf.constant([1.5, 2.5], tf.float16))
        self.steps = tf.Variable(tf.constant([3, 4], tf.uint8), trainable=False)

    def __call__(self, x):
        wave = tf.signal.ifft(tf.cast(x, tf.complex64) * self.phase)
        scale = tf.cast(self.half, tf.float32) * tf.cast(self.steps, tf.float32)
        return {"real": tf.math.real(wave) * scale, "size": tf.abs(wave)}


def many_dtypes():
    return Servable(Complex(), {"x": tf.TensorSpec([None, 2], tf.float32)})
