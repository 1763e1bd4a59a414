"""Files that Keras writes give SavedModels that compute what the live model did."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from mstore.domain.signatures import TensorSpec
from tests.tf.exporting import KERAS, TOLERANCE, largest_difference, load, model_of, train
from tests.tf.keras_files import Filed, datasets, export_file, same_bytes, save

Feed = dict[str, Any]
RNG = np.random.default_rng(5)
MODELS = load("filed")
X = RNG.normal(size=(5, 4)).astype("float32")
X4 = {"x": X}
TOKENS = {"tokens": RNG.integers(0, 4, size=(5, 7)).astype("int32")}
TEXTS = {
    "text": np.array([b"good film", b"Bad!", b"odd"], object),
    "city": np.array([[b"oslo"], [b"bonn"], [b"rome"]], object),
}
GIVEN = {"x": TensorSpec("float32", (None, 4))}


def one(key: str = "output_0") -> Callable[[Any, Feed], Feed]:
    return lambda model, feed: {key: model(*feed.values(), training=False)}


def compiled(model: Any, feed: Feed) -> Feed:
    # Eager calls round each step to bfloat16, a graph need not; the loader runs a graph.
    return {"y": tf.function(model)(feed["x"], training=False)}


def ends(model: Any, feed: Feed) -> Feed:
    outputs = model([feed["b-side"], feed["left"]], training=False)
    return dict(zip(("score", "output_1"), outputs, strict=True))


def words(model: Any, feed: Feed) -> Feed:
    return {"output_0": model([tf.constant(feed["text"]), tf.constant(feed["city"])])}


@dataclass(frozen=True)
class Case:
    """A model, the form it is saved in, and how it is exported."""

    model: str
    form: str
    feed: Feed
    live: Callable[[Any, Feed], Feed]
    builder: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


SIDES = {"left": X, "b-side": X + 1}
CASES = {
    "named ends in an archive": Case("named_ends", "keras", SIDES, ends),
    "named ends in shards": Case("named_ends", "weights-json", SIDES, ends, "named_ends"),
    "sequential, whole legacy": Case("stacked", "legacy-h5", X4, one("y")),
    "sequential, legacy weights": Case("stacked", "legacy-weights", X4, one("y"), "stacked"),
    "lists, weights alone": Case("blocks", "weights-h5", X4, one(), "blocks"),
    "lists, in an archive": Case("blocks", "keras", X4, one(), "", {"inputs": GIVEN}),
    "custom classes of a module": Case("customized", "keras-deflated", X4, one(), ""),
    "custom classes by name": Case("customized", "legacy-h5", X4, one(), "custom_names"),
    "bfloat16, compressed": Case("bfloats", "keras-deflated", X4, compiled),
    "bfloat16, weights alone": Case("bfloats", "weights-h5", X4, compiled, "bfloats"),
    "recurrent": Case("recurrent", "keras-directory", TOKENS, one()),
    "vocabularies in an archive": Case("texts", "keras", TEXTS, words),
    "vocabularies of the builder": Case("texts", "weights-h5", TEXTS, words, "texts"),
    "statistics in an archive": Case("normalized", "keras", X4, one()),
    "statistics for a builder": Case("normalized", "weights-h5", X4, one(), "unadapted"),
    "builder beside an archive": Case("stacked", "keras", X4, one("y"), "stacked"),
    "lambda, legacy, trusted": Case("with_lambda", "legacy-h5", X4, one(), None, {"trust": True}),
}
if KERAS < (3, 13):  # it cannot load the archive that it wrote
    del CASES["vocabularies in an archive"]


@dataclass(frozen=True)
class Trained:
    """A saved model, and what it gave for a batch before."""

    case: Case
    path: Path
    live: Feed


def trained(case: Case, directory: Path) -> Trained:
    model = model_of(getattr(MODELS, case.model)())
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.Normalization)]
    kept = [weight.numpy() for norm in norms for weight in norm.weights]
    optimizer = train(model, lambda: case.live(model, case.feed))
    if case.form == "keras":
        optimizer.use_ema = True  # as training may have asked for
        model.compile(optimizer)
    for weight, value in zip([w for norm in norms for w in norm.weights], kept, strict=True):
        weight.assign(value)
    return Trained(case, save(model, case.form, directory), case.live(model, case.feed))


Pending = dict[str, tuple[Trained, "Future[Filed]"]]


@pytest.fixture(scope="module")
def pending(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pending]:
    """Train the chosen models here, and export them in two processes at a time."""
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    names = {call.params["name"] for call in calls if call is not None and "name" in call.params}
    with ThreadPoolExecutor(2) as pool:
        jobs: Pending = {}
        for name, case in CASES.items():
            if name in names:
                directory = tmp_path_factory.mktemp(case.model)
                made = trained(case, directory)
                job = pool.submit(
                    export_file,
                    made.path,
                    case.form,
                    directory / "out",
                    case.builder,
                    **case.options,
                )
                jobs[name] = (made, job)
        yield jobs


@pytest.mark.parametrize("name", CASES)
def test_the_loader_gives_the_live_models_outputs(
    name: str, pending: Pending, tmp_path: Path
) -> None:
    made, job = pending[name]
    exported = job.result()
    assert largest_difference(exported.serve(**made.case.feed), made.live) <= TOLERANCE
    stored = datasets(made.path, made.case.form, tmp_path)
    weights = exported.weights()
    assert len(weights) == len(exported.result.sources)
    assert all(same_bytes(weights[key], stored[key]) for key in weights)
    warned = any("moving averages" in warning for warning in exported.result.warnings)
    assert warned == (made.case.form == "keras")
