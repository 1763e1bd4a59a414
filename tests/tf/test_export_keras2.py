"""Checkpoints and files of Keras 2 are exported with the package tf-keras."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from mstore.errors import MissingExtraError
from tests.tf.exporting import TOLERANCE, export, largest_difference, load, model_of
from tests.tf.keras_files import export_file

MODELS = load("older")
X = np.random.default_rng(4).normal(size=(5, 4)).astype("float32")


def trained(name: str, inputs: Any) -> Any:
    """Return a model that its own optimizer has trained, so that nothing is as it was made."""
    model = model_of(getattr(MODELS, name)())
    model.compile(tf_keras.optimizers.Adam(0.05), "mse")
    targets = model(inputs)
    targets = targets[0] if isinstance(targets, list) else targets
    model.fit(inputs, np.ones(targets.shape, "float32"), epochs=3, verbose=0)
    return model


@pytest.mark.parametrize(
    ("name", "feed", "key"),
    [
        ("functional", {"right": X, "left": X + 1}, "score"),
        ("subclassed", {"x": X}, "output_0"),
    ],
)
def test_a_checkpoint_of_keras_2_is_restored_into_a_model_of_tf_keras(
    name: str, feed: dict[str, Any], key: str, tmp_path: Path
) -> None:
    inputs = list(feed.values()) if len(feed) > 1 else X
    model = trained(name, inputs)
    live = model(inputs, training=False)
    live = live[0] if isinstance(live, list) else live
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    prefix = Path(checkpoint.save(str(tmp_path / "ckpt")))
    exported = export(prefix, tmp_path / "out", f"older.py:{name}")
    assert largest_difference(exported.serve(**feed), {key: live}) <= TOLERANCE
    assert exported.result.environment["tf_keras"] == tf_keras.__version__
    assert exported.result.root == "model"


def test_the_checkpoint_that_keras_2_itself_saved_is_read(tmp_path: Path) -> None:
    model = trained("sequential", X)
    model.save_weights(tmp_path / "weights", save_format="tf")
    exported = export(tmp_path / "weights", tmp_path / "out", "older.py:sequential")
    live = model(X, training=False)
    assert largest_difference(exported.serve(x=X), {"y": live}) <= TOLERANCE
    keys = [source.decode() for source in exported.result.sources.values() if source]
    assert "layer_with_weights-0/kernel/.ATTRIBUTES/VARIABLE_VALUE" in keys


def save(model: Any, path: Path) -> Path:
    with warnings.catch_warnings():
        # That the format is an old one is what the test is about.
        warnings.simplefilter("ignore", UserWarning)
        model.save(path)
    return path


@pytest.mark.parametrize("form", ["legacy-h5", "keras"])
def test_a_file_that_keras_3_cannot_rebuild_is_rebuilt_by_tf_keras(
    form: str, tmp_path: Path
) -> None:
    model = trained("grouped", X)
    path = save(model, tmp_path / ("m.h5" if form == "legacy-h5" else "m.keras"))
    exported = export_file(path, form, tmp_path / "out")
    assert largest_difference(exported.serve(x=X), {"y": model(X)}) <= TOLERANCE
    assert any("tf-keras did" in warning for warning in exported.result.warnings)
    assert exported.result.environment["tf_keras"] == tf_keras.__version__


def test_without_tf_keras_it_is_asked_for(tmp_path: Path) -> None:
    path = save(trained("grouped", X), tmp_path / "m.h5")
    classes = tmp_path / "classes.py"
    classes.write_text("import sys\nsys.modules['tf_keras'] = None  # as if not installed\n")
    with pytest.raises(MissingExtraError) as caught:
        export_file(path, "legacy-h5", tmp_path / "out", at=str(classes))
    assert caught.value.hint == "pip install tf-keras"
    assert "m.h5 is a model of Keras 2" in caught.value.message


def test_a_file_of_keras_2_that_keras_3_can_rebuild_needs_no_other(tmp_path: Path) -> None:
    model = trained("sequential", X)
    exported = export_file(save(model, tmp_path / "m.h5"), "legacy-h5", tmp_path / "out")
    assert largest_difference(exported.serve(x=X), {"y": model(X)}) <= TOLERANCE
    assert exported.result.environment["written_by_keras"] == tf_keras.__version__
    assert "tf_keras" not in exported.result.environment
