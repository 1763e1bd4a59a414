"""Trains graphs of TensorFlow 1 for a few steps and saves them as people did."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1

WORDS = ("the", "cat", "sat", "on", "mat")
V1, V2 = v1.train.SaverDef.V1, v1.train.SaverDef.V2


@dataclass(frozen=True)
class Live:
    """A trained graph that is still in its session.

    Attributes:
        prefix: of the checkpoint.
        session: the session.
    """

    prefix: Path
    session: Any

    def run(self, outputs: Mapping[str, str], feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the trained graph gives: the reference of every export."""
        found: dict[str, Any] = self.session.run(dict(outputs), dict(feeds))
        return found


def _dense(x: Any, name: str, units: int, *, resource: bool) -> Any:
    with v1.variable_scope(name, use_resource=resource):
        kernel = v1.get_variable("kernel", [x.shape[-1], units], dtype=x.dtype)
        bias = v1.get_variable("bias", [units], dtype=x.dtype, initializer=tf.ones_initializer())
    return tf.matmul(x, kernel) + bias


def _normalized(x: Any, *, is_training: Any, resource: bool) -> Any:
    """Normalize batches while training, with moving averages otherwise."""
    with v1.variable_scope("norm", use_resource=resource):
        mean = v1.get_variable("moving_mean", [x.shape[-1]], trainable=False)
        scale = v1.get_variable("scale", [x.shape[-1]], initializer=tf.ones_initializer())
    batch = tf.reduce_mean(x, 0)
    update = v1.assign(mean, 0.9 * mean + 0.1 * batch)
    v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, update)
    return (x - tf.cond(is_training, lambda: batch, lambda: tf.identity(mean))) * scale


def text_graph(vocabulary: Path, *, resource: bool, flag: str = "default") -> dict[str, str]:
    """Build a classifier of words and numbers in the default graph.

    Its inputs are the placeholders ``words`` and ``numbers``; ``is_training`` has a default, or
    with ``flag="required"`` none. Returns the outputs by key.
    """
    words = v1.placeholder(tf.string, [None, 3], name="words")
    numbers = v1.placeholder(tf.float32, [None, 4], name="numbers")
    if flag == "required":
        is_training = v1.placeholder(tf.bool, [], name="is_training")
    else:
        is_training = v1.placeholder_with_default(False, [], name="is_training")
    asset = tf.constant(str(vocabulary), name="vocabulary")
    v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, asset)
    entries = tf.lookup.TextFileInitializer(
        asset,
        tf.string,
        tf.lookup.TextFileIndex.WHOLE_LINE,
        tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER,
    )
    table = tf.lookup.StaticHashTable(entries, 5)
    ids = table.lookup(words)
    embedding = v1.get_variable(
        "embedding", [6, 4], partitioner=v1.fixed_size_partitioner(3), use_resource=resource
    )
    found = v1.nn.embedding_lookup(embedding, ids, partition_strategy="div")
    joined = tf.concat([tf.reduce_mean(found, 1), numbers], 1)
    hidden = _normalized(
        tf.nn.relu(_dense(joined, "hidden", 8, resource=resource)),
        is_training=is_training,
        resource=resource,
    )
    scores = tf.nn.softmax(_dense(hidden, "logits", 3, resource=resource), name="scores")
    best = tf.argmax(scores, 1, name="best")
    tf.gather(tf.constant(["no", "yes", "perhaps"]), best, name="label")
    labels = v1.placeholder(tf.int64, [None], name="labels")
    loss = tf.reduce_mean(-tf.math.log(tf.gather(scores, labels, batch_dims=1) + 1e-6), name="loss")
    v1.summary.scalar("loss", loss)
    with tf.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
        v1.train.AdamOptimizer(0.05).minimize(
            loss, global_step=v1.train.get_or_create_global_step(), name="train"
        )
    return {"scores": "scores:0", "best": "best:0", "label": "label:0", "ids": ids.name}


def train(session: Any, steps: int = 4, **extra: Any) -> None:
    """Take training steps, so that no weight keeps its initial value."""
    rng = np.random.default_rng(3)
    session.run([v1.global_variables_initializer(), v1.tables_initializer()])
    for _ in range(steps):
        feeds = {
            "words:0": rng.choice(np.array(WORDS, object), (8, 3)),
            "numbers:0": rng.normal(size=(8, 4)).astype(np.float32),
            "labels:0": rng.integers(0, 3, 8),
            "is_training:0": True,
        }
        session.run("train", feeds | extra)


def save(session: Any, path: Path, version: int, **options: Any) -> Path:
    """Save as training scripts did, and return the prefix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    saver = v1.train.Saver(write_version=version, **options)
    step = v1.train.get_global_step()
    prefix = Path(saver.save(session, str(path), global_step=step))
    return prefix.with_name(prefix.name.partition("-?????")[0])


def example(batch: int = 3) -> dict[str, Any]:
    """Return a batch of both inputs by key; one word is not in the vocabulary."""
    words = np.array([*WORDS, "dog"] * 3, object)[: batch * 3].reshape(batch, 3)
    numbers = np.linspace(-1, 1, batch * 4, dtype=np.float32).reshape(batch, 4)
    return {"words": words, "numbers": numbers}
