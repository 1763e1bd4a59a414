"""Every kind of model in every format: the live model's outputs, or refused in words."""

import shutil
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
from mstore.domain.signatures import TensorSpec
from mstore.errors import Error
from mstore.store import Store
from tests.ops.making import added
from tests.tf.cells import record
from tests.tf.exporting import BUILDERS, LIMIT, largest_difference, load, model_of, train

# Keras hands its variables to h5py, whose numpy finds their __array__ old-fashioned.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Feed = dict[str, Any]
KINDS = load("kinds")
RNG = np.random.default_rng(17)


def floats(*shape: int) -> Any:
    return RNG.normal(size=shape).astype("float32")


def ints(high: int, *shape: int) -> Any:
    return RNG.integers(0, high, size=shape).astype("int32")


def call(model: Any, feed: Feed) -> Feed:
    """Call a model as its user would, and name the outputs as the signature does."""
    values = [tf.constant(value) for value in feed.values()]
    if isinstance(model, tf.Module) and not isinstance(model, keras.Model):
        return dict(model(*values))
    if isinstance(getattr(model, "input", None), dict):
        outputs = model(feed, training=False)
    else:
        outputs = model(values if len(values) > 1 else values[0], training=False)
    if isinstance(outputs, dict):
        return dict(outputs)
    names = getattr(model, "output_names", None) or ["output_0"]
    return {"near" if names == ["near"] else "output_0": outputs}


FEEDS: dict[str, Feed] = {
    "several_inputs_and_outputs": {"age": floats(5, 1), "words": ints(30, 5, 4)},
    "sequential_without_shape": {"x": floats(5, 5)},
    "layers_in_lists_and_dicts": {"x": floats(5, 5)},
    "two_towers": {"a": floats(5, 6), "b": floats(5, 6)},
    "batch_norm_own_train_step": {"image": floats(5, 8, 8, 1)},
    "adapted_normalization": {"x": floats(5, 5) * 30},
    "vocabulary_of_strings": {"text": np.array([b"good film", b"odd", b"none"], object)},
    "masked_recurrent": {"tokens": ints(25, 5, 6)},
    "transformer_block": {"x": floats(5, 3, 8)},
    "dropout_and_noise": {"image": floats(5, 8, 8, 3) * 90},
    "mixed_bfloat16": {"x": floats(5, 6)},
    "grouped_convolution": {"image": floats(5, 6, 6, 4)},
    "custom_layer_with_config": {"x": floats(5, 5)},
    "frozen_with_lora": {"x": floats(5, 6)},
    "lambda_layer": {"x": floats(5, 4)},
    "plain_module_with_table": {"x": floats(5, 4), "way": np.array([b"up", b"down"] * 2 + [b""])},
}
INPUTS = {"layers_in_lists_and_dicts": {"x": TensorSpec("float32", (None, 5))}}
"""Inputs that a Keras file does not tell, and its user gives."""

TOLERANCES = {"mixed_bfloat16": 1e-2}
"""How far outputs may be off where a kind computes in low precision; 1e-6 elsewhere."""


@dataclass(frozen=True)
class Trained:
    """A trained model and what it gives for a batch."""

    name: str
    model: Any
    optimizer: Any
    feed: Feed
    live: Feed


def trained(name: str) -> Trained:
    feed = FEEDS[name]
    model = model_of(getattr(KINDS, name)())
    if name == "batch_norm_own_train_step":
        model.compile(keras.optimizers.Adam(0.05))
        model.fit(feed["image"], floats(5, 2), epochs=3, verbose=0)
        optimizer = model.optimizer
    else:
        optimizer = train(model, lambda: call(model, feed))
    for layer in getattr(model, "layers", ()):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    return Trained(name, model, optimizer, feed, call(model, feed))


def tf_checkpoint(made: Trained, place: Path) -> Path:
    checkpoint = tf.train.Checkpoint(model=made.model, optimizer=made.optimizer)
    return Path(checkpoint.write(str(place / "ckpt-3")))


def keras_archive(made: Trained, place: Path) -> Path:
    made.model.save(place / "model-3.keras")
    return place / "model-3.keras"


def keras_directory(made: Trained, place: Path) -> Path:
    made.model.save(place / "model-3", zipped=False)
    return place / "model-3"


def weights_h5(made: Trained, place: Path) -> Path:
    made.model.save_weights(place / "model-3.weights.h5")
    return place / "model-3.weights.h5"


def weights_json(made: Trained, place: Path) -> Path:
    made.model.save_weights(place / "model-3.weights.json", max_shard_size=2e-6)
    return place / "model-3.weights.json"


def legacy_h5(made: Trained, place: Path) -> Path:
    made.model.save(place / "model-3.h5")
    return place / "model-3.h5"


def saved_model(made: Trained, place: Path) -> Path:
    path = place / "export-3"
    if isinstance(made.model, keras.Model):
        made.model.export(path, verbose=False)
    else:
        specs = [
            tf.TensorSpec([None, *value.shape[1:]], tf.constant(value).dtype, key)
            for key, value in made.feed.items()
        ]
        serve = tf.function(made.model.__call__, input_signature=specs)
        tf.saved_model.save(made.model, str(path), signatures=serve)
    return path


FORMATS: dict[str, Callable[[Trained, Path], Path]] = {
    "TF checkpoint": tf_checkpoint,
    ".keras": keras_archive,
    ".keras directory": keras_directory,
    ".weights.h5": weights_h5,
    ".weights.json": weights_json,
    "legacy .h5": legacy_h5,
    "SavedModel": saved_model,
}
SELF_DESCRIBING = {".keras", ".keras directory", "legacy .h5", "SavedModel"}


@dataclass(frozen=True)
class Cell:
    """What came of one kind in one format."""

    outputs: Feed | None
    refusal: Error | None


def convert(made: Trained, form: str, path: Path, place: Path) -> Cell:
    """Add, export and serve, as the command line does."""
    builder = None if form in SELF_DESCRIBING else f"{BUILDERS}/kinds.py:{made.name}"
    if form in SELF_DESCRIBING - {"SavedModel"}:
        builder = f"{BUILDERS}/kinds.py"  # its custom classes
    try:
        with Store.init(place) as store:
            added(store, path, model="m", step=3)
            version = store.export(
                "m@3",
                to=place / "serving",
                builder=builder,
                inputs=INPUTS.get(made.name) if form in SELF_DESCRIBING - {"SavedModel"} else None,
                timeout=LIMIT,
            )
            assert version.checks["weights"] == "proven"
            shutil.rmtree(place / ".mstore")
    except Error as error:
        assert not (place / "serving").exists()
        return Cell(None, error)
    signatures = {"serving_default": version.signatures["serving_default"]}
    feed = as_named(made.feed, list(signatures["serving_default"].inputs))
    feeds = {"serving_default": feed}
    outputs = check(place / "serving" / "1", signatures, feeds=feeds, timeout=LIMIT)
    return Cell(as_named(outputs["serving_default"], list(made.live)), None)


def as_named(values: Feed, names: list[str]) -> Feed:
    """Give a lone value the name that is wanted: Keras's own export names inputs by a counter."""
    return dict(zip(names, values.values(), strict=True)) if len(values) == 1 else values


Pending = dict[tuple[str, str], tuple[Trained, "Future[Cell]"]]


def wanted(request: pytest.FixtureRequest) -> set[tuple[str, str]]:
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    return {
        (found.params["kind"], found.params["form"])
        for found in calls
        if found is not None and {"kind", "form"} <= set(found.params)
    }


@pytest.fixture(scope="module")
def pending(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pending]:
    """Train and save here, convert in two processes at a time."""
    jobs: Pending = {}
    chosen = wanted(request)
    with ThreadPoolExecutor(2) as pool:
        for kind in dict.fromkeys(kind for kind, _ in CELLS if any(kind == k for k, _ in chosen)):
            made = trained(kind)
            for form in (form for form in FORMATS if (kind, form) in chosen):
                place = tmp_path_factory.mktemp("cell")
                path = FORMATS[form](made, place)
                jobs[kind, form] = (made, pool.submit(convert, made, form, path, place))
        yield jobs


ONLY_TENSORFLOW = {"plain_module_with_table"}
"""Kinds that no Keras format can hold."""

REFUSED: dict[tuple[str, str], str] = {
    # What Keras exports of it needs XLA, which TensorFlow Serving has switched off.
    ("grouped_convolution", "SavedModel"): "XLA",
    # Keras merges the adapters into the kernel when it saves, and does not save them.
    ("frozen_with_lora", ".keras"): "lora_kernel_a",
    ("frozen_with_lora", ".weights.h5"): "lora_kernel_a",
    # Keras 3 cannot load these itself.
    ("layers_in_lists_and_dicts", "legacy .h5"): "cannot rebuild",
    ("masked_recurrent", "legacy .h5"): "cannot rebuild",
    ("transformer_block", "legacy .h5"): "cannot rebuild",
    ("vocabulary_of_strings", "legacy .h5"): "no vocabulary",
    **{("lambda_layer", form): "trust" for form in (".keras", ".keras directory", "legacy .h5")},
}
"""What is refused, and a word of the reason."""

SAME_PATH = {".keras directory", ".weights.json"}
"""Formats that are read and restored as `.keras` and `.weights.h5` are; three kinds show that."""

IN_EVERY_FORMAT = {"layers_in_lists_and_dicts", "vocabulary_of_strings", "masked_recurrent"}

CELLS = [
    (kind, form)
    for kind in FEEDS
    for form in FORMATS
    if (kind not in ONLY_TENSORFLOW or form in {"TF checkpoint", "SavedModel"})
    and (form not in SAME_PATH or kind in IN_EVERY_FORMAT)
]


@pytest.mark.parametrize(("kind", "form"), CELLS)
def test_a_kind_in_a_format_is_right_or_refused(kind: str, form: str, pending: Pending) -> None:
    made, job = pending[kind, form]
    cell = job.result()
    words = REFUSED.get((kind, form))
    if cell.refusal is not None:
        assert words is not None, cell.refusal.message
        assert words in cell.refusal.message + cell.refusal.hint
        record(kind, form, f"refused: {cell.refusal.code}, {cell.refusal.message}")
        return
    assert words is None
    assert cell.outputs is not None
    worst = largest_difference(cell.outputs, made.live)
    assert worst <= TOLERANCES.get(kind, 1e-6)
    record(kind, form, f"proven, {worst:.0e}" if worst else "proven, 0")
