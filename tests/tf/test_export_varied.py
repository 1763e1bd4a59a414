"""Models of many kinds give the live model's outputs through the C++ loader."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from mstore.convert.check import check
from mstore.ops.lint import ensure_servable
from tests.tf.exporting import (
    KERAS,
    LIMIT,
    TOLERANCE,
    Exported,
    export,
    largest_difference,
    load,
    model_of,
    train,
)
from tests.tf.forking import SEED

Feed = dict[str, Any]
RNG = np.random.default_rng(3)
VARIED = load("varied")


def floats(*shape: int) -> Any:
    return RNG.normal(size=shape).astype("float32")


def ints(high: int, *shape: int) -> Any:
    return RNG.integers(0, high, size=shape)


X4 = {"x": floats(5, 4)}


def one(key: str = "output_0") -> Callable[[Any, Feed], Feed]:
    return lambda model, feed: {key: model(*feed.values(), training=False)}


def plain(model: Any, feed: Feed) -> Feed:
    return dict(model(feed["x"]))


def texts(model: Any, feed: Feed) -> Feed:
    return {"output_0": model(tf.constant(feed["colour"]))}


def decoded(data: bytes) -> Any:
    return tf.image.resize(tf.io.decode_jpeg(data, channels=3), [16, 16])


JPEG = tf.io.encode_jpeg(ints(255, 20, 20, 3).astype("uint8")).numpy()

CASES: dict[str, tuple[Feed, Callable[[Any, Feed], Feed]]] = {
    "several_named": (
        {"left": floats(5, 4), "b-side": floats(5, 4)},
        lambda m, f: dict(zip(("score", "output_1"), m([f["b-side"], f["left"]]), strict=True)),
    ),
    "dict_in_out": (
        {"age": floats(5, 1), "word": ints(11, 5, 3).astype("int32")},
        lambda m, f: dict(m(f)),
    ),
    "nested_shared": ({"x": floats(5, 6)}, one()),
    "picture": ({"inputs": floats(5, 16, 16, 3) * 100}, one("probabilities")),
    "masked_rnn": ({"tokens": ints(4, 5, 7).astype("int32")}, one()),
    "attention": ({"x": floats(5, 3, 8)}, one()),
    "custom_layers": (X4, one()),
    "vectorized_text": (
        {"text": np.array([b"good film", b"Bad!", b"odd bad film"], object)},
        one("positive"),
    ),
    "looked_up": (
        {"city": np.array([[b"oslo"], [b"bonn"]], object), "code": np.array([[9], [2]])},
        lambda m, f: {"output_0": m([tf.constant(f["city"]), tf.constant(f["code"])])},
    ),
    "plain_module": (X4, plain),
    "own_functions": ({"x": floats(5, 3)}, lambda m, f: {"output_0": m(f["x"])}),
    "dict_subclass": (
        {"x": floats(5, 4), "n": ints(9, 5, 2)},
        lambda m, f: {"output_0": m(f)},
    ),
    "two_arguments": (
        {"value": floats(5, 4), "query": floats(5, 4)},
        lambda m, f: dict(
            zip(("output_0", "output_1"), m(f["query"], value=f["value"]), strict=True)
        ),
    ),
    "listed": (X4, plain),
    "normalized": (X4, one()),
    "normalized_functional": (X4, one()),
    "branching": (X4, one()),
    "tied": ({"tokens": ints(12, 5, 3).astype("int32")}, one()),
    "several_signatures": (X4, plain),
    "stacked_cells": ({"x": floats(5, 5, 4)}, one()),
    "keras_in_module": (X4, lambda m, f: {"output_0": m(f["x"])}),
    "lazily_built": (X4, one()),
    "single_layer": (X4, one()),
    "causal_decoder": (
        {"tokens": ints(30, 3, 6).astype("int32")},
        lambda m, f: dict(m(f["tokens"])),
    ),
    "encoded_pictures": (
        {"image_bytes": np.array([JPEG, JPEG], object)},
        lambda m, f: {"scores": m(tf.stack([decoded(b) for b in f["image_bytes"]]))},
    ),
    "vocabulary_file": ({"colour": np.array([[b"blue"], [b"pink"]], object)}, texts),
    "table_from_file": ({"colour": np.array([b"blue", b"pink"], object)}, texts),
    "nested_outputs": (
        X4,
        lambda m, f: {"a_b": m(f["x"])["a"]["b"], "a_c": m(f["x"])["a"]["c"], "z": m(f["x"])["z"]},
    ),
    "decorated_call": (
        {"a": floats(5, 4), "b": floats(5, 4)},
        lambda m, f: m(f["a"], f["b"], training=False),
    ),
    "double_precision": ({"x": floats(5, 4).astype("float64")}, one()),
}
if KERAS < (3, 13):  # its lookups give other shapes when they are called than when they are built
    del CASES["looked_up"]


@dataclass(frozen=True)
class Trained:
    """A checkpoint, and what its live model gives for a batch."""

    prefix: Path
    feed: Feed
    live: Feed


def trained(name: str, directory: Path) -> Trained:
    feed, reference = CASES[name]
    keras.utils.set_random_seed(SEED)
    model = model_of(getattr(VARIED, name)())
    norm = None
    if name.startswith("normalized"):
        norm = model.layers[0 if name == "normalized" else 1]
        norm.adapt(feed["x"] * 3 + 1)
    optimizer = train(model, lambda: reference(model, feed))
    if norm is not None:
        norm.finalize_state()
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, step=tf.Variable(7))
    prefix = Path(checkpoint.save(str(directory / "ckpt")))
    return Trained(prefix, feed, reference(model, feed))


Pending = dict[str, tuple[Trained, "Future[Exported]"]]


@pytest.fixture(scope="module")
def pending(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pending]:
    """Train the chosen models here, and export them in two processes at a time."""
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    names = {call.params["name"] for call in calls if call is not None and "name" in call.params}
    with ThreadPoolExecutor(2) as pool:
        jobs: Pending = {}
        for name in CASES:
            if name in names:
                directory = tmp_path_factory.mktemp(name)
                made = trained(name, directory)
                job = pool.submit(
                    export, made.prefix, directory / "out", f"varied.py:{name}", checked=False
                )
                jobs[name] = (made, job)
        yield jobs


@pytest.mark.parametrize("name", CASES)
def test_the_loader_gives_the_live_models_outputs(name: str, pending: Pending) -> None:
    made, job = pending[name]
    exported = job.result()
    assert ensure_servable(exported.path) == ()
    assert largest_difference(exported.serve(**made.feed), made.live) <= TOLERANCE
    assert all(variable.source_key for variable in exported.proven)
    check(
        exported.path,
        exported.info.signatures,
        dims=exported.result.dims,
        samples=exported.result.samples,
        timeout=LIMIT,
    )
