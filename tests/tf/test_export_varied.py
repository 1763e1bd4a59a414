"""Models of many kinds give the live model's outputs through the C++ loader."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.tf.exporting import TOLERANCE, export, largest_difference, load, model_of, train

Feed = dict[str, Any]
RNG = np.random.default_rng(3)


def floats(*shape: int) -> Any:
    return RNG.normal(size=shape).astype("float32")


def ints(high: int, *shape: int) -> Any:
    return RNG.integers(0, high, size=shape)


X4 = {"x": floats(5, 4)}


def one(key: str = "output_0") -> Callable[[Any, Feed], Feed]:
    return lambda model, feed: {key: model(*feed.values(), training=False)}


def plain(model: Any, feed: Feed) -> Feed:
    return dict(model(feed["x"]))


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
}


@pytest.mark.parametrize("name", CASES)
def test_the_loader_gives_the_live_models_outputs(name: str, tmp_path: Path) -> None:
    module = load("varied")
    feed, reference = CASES[name]
    model = model_of(getattr(module, name)())
    if name.startswith("normalized"):
        model.layers[0 if name == "normalized" else 1].adapt(feed["x"] * 3 + 1)
    optimizer = train(model, lambda: reference(model, feed))
    if name.startswith("normalized"):
        model.layers[0 if name == "normalized" else 1].finalize_state()
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, step=tf.Variable(7))
    prefix = Path(checkpoint.save(str(tmp_path / "ckpt")))
    live = reference(model, feed)

    exported = export(prefix, tmp_path / "out", f"varied.py:{name}")

    gap = largest_difference(exported.serve(**feed), live)
    print(f"GAP {name} {gap:.2e}")  # noqa: T201 - shown by pytest -rP
    assert gap <= TOLERANCE
    assert all(variable.source_key for variable in exported.proven)
