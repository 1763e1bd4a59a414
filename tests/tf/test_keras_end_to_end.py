"""A file that Keras saved goes through the store and comes out as a proven version."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mstore import Store
from mstore.convert.check import check
from mstore.errors import InputError
from mstore.formats.saved_model import read_saved_model
from tests.tf.exporting import LIMIT, TOLERANCE, largest_difference, load, train
from tests.tf.keras_files import FILED, save

MODELS = load("filed")
X = np.random.default_rng(8).normal(size=(5, 4)).astype("float32")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    opened = Store.init(tmp_path_factory.mktemp("store"))
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("form", "builder"),
    [
        ("keras-deflated", None),
        ("keras-directory", None),
        ("legacy-h5", None),
        ("weights-json", f"{FILED}:stacked"),
    ],
)
def test_a_file_of_keras_becomes_a_proven_version(
    form: str, builder: str | None, store: Store, tmp_path: Path
) -> None:
    model = MODELS.stacked()
    train(model, lambda: model(X))
    path = save(model, form, tmp_path)
    store.add(path, model="net", run=form, step=3)
    target = tmp_path / "serving"
    version = store.export(f"net/{form}@3", builder=builder, to=target)
    assert version.checks["weights"] == "proven"
    assert version.builder.get("spec") == builder
    placed = target / str(version.version)
    info = read_saved_model(placed)
    chosen = {"serving_default": info.signatures["serving_default"]}
    got = check(placed, chosen, feeds={"serving_default": {"x": X}}, timeout=LIMIT)
    live = {"y": model(X, training=False)}
    assert largest_difference(got["serving_default"], live) <= TOLERANCE


def test_trust_is_asked_for_and_given(store: Store, tmp_path: Path) -> None:
    path = save(MODELS.with_lambda(), "keras", tmp_path)
    store.add(path, model="tripling", step=1)
    with pytest.raises(InputError, match="lambdas in 'triple'"):
        store.export("tripling")
    assert store.export("tripling", trust=True).checks["weights"] == "proven"


def test_weights_alone_ask_for_a_builder(store: Store, tmp_path: Path) -> None:
    path = save(MODELS.stacked(), "weights-h5", tmp_path)
    store.add(path, model="bare", step=1)
    with pytest.raises(InputError, match="no builder") as caught:
        store.export("bare")
    assert "--builder" in caught.value.hint
