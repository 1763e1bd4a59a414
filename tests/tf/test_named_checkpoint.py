"""Checkpoints that know their variables by name alone, exported with a builder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mstore.convert.check import check
from mstore.errors import Error, InputError, ProofError, UsageError
from mstore.formats.saved_model import read_saved_model
from mstore.store import Store
from tests.tf.cells import record
from tests.tf.exporting import BUILDERS, LIMIT

v1 = tf.compat.v1
V1, V2 = v1.train.SaverDef.V1, v1.train.SaverDef.V2
X = np.random.default_rng(8).normal(size=(3, 4)).astype("float32")
HAND = ("hidden/w", "hidden/b", "head/w", None)
LAYERS = ("dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias")


def trained(
    directory: Path, names: tuple[str | None, ...], *, version: int = V2, averages: bool = False
) -> tuple[Path, Any]:
    """Train a graph with Adam, save it without the graph; return the prefix and the outputs."""
    shapes = ((4, 8), (8,), (8, 3), (3,))
    with tf.Graph().as_default(), v1.Session() as session:
        v1.set_random_seed(3)
        x = tf.constant(X)
        w, b, head, bias = (
            v1.get_variable(name, shape) if name else tf.zeros(shape)
            for name, shape in zip(names, shapes, strict=True)
        )
        y = tf.tanh(x @ w + b) @ head + bias
        step = v1.train.get_or_create_global_step()
        work = v1.train.AdamOptimizer(0.05).minimize(
            tf.reduce_mean((y - 0.7) ** 2), global_step=step
        )
        if averages:
            average = tf.train.ExponentialMovingAverage(0.5)
            with tf.control_dependencies([work]):
                work = average.apply(v1.trainable_variables())
        session.run(v1.global_variables_initializer())
        for _ in range(3):
            session.run(work)
        directory.mkdir()
        saver = v1.train.Saver(write_version=version)
        prefix = saver.save(session, str(directory / "m"), 3, write_meta_graph=False)
        return Path(prefix), session.run(y)


def served(directory: Path) -> Any:
    signatures = read_saved_model(directory).signatures
    feeds = {"serving_default": {"x": X}}
    return check(directory, signatures, feeds=feeds, timeout=LIMIT)["serving_default"]


@pytest.mark.parametrize(
    ("names", "builder", "version"),
    [(HAND, "hand", V2), (HAND, "hand", V1), (LAYERS, "net", V2)],
    ids=["module", "module-v1", "layers"],
)
def test_variables_are_found_by_their_names(
    tmp_path: Path, names: tuple[str | None, ...], builder: str, version: int
) -> None:
    prefix, live = trained(tmp_path / "ckpt", names, version=version)
    with Store.init(tmp_path / "work") as store:
        store.add(prefix, model="old", builder=f"{BUILDERS}/named.py:{builder}")
        made = store.export("old", to=tmp_path / "serve")
        assert made.checks["weights"] == "proven"
        assert made.warnings == ()
        assert store.audit(tmp_path / "serve").proven
    outputs = served(tmp_path / "serve" / "1")
    worst = max(float(np.abs(value - live).max()) for value in outputs.values())
    assert worst <= 1e-6
    kind = "names_and_layers" if builder == "net" else "names_and_variables"
    form = "TF1 V1, builder" if version == V1 else "TF1 V2, builder"
    record(kind, form, f"proven, {worst:.0e}" if worst else "proven, 0")


def test_averages_are_asked_about(tmp_path: Path) -> None:
    prefix, live = trained(tmp_path / "ckpt", HAND, averages=True)
    with Store.init(tmp_path / "work") as store:
        store.add(prefix, model="old", builder=f"{BUILDERS}/named.py:hand")
        with pytest.raises(InputError, match="their moving averages"):
            store.export("old")
        store.export("old", weights="raw", to=tmp_path / "raw")
        store.export("old", weights="ema", to=tmp_path / "ema")
    raw, ema = (served(next((tmp_path / name).glob("[0-9]*"))) for name in ("raw", "ema"))
    assert np.abs(raw["y"] - live).max() <= 1e-6
    assert np.abs(ema["y"] - live).max() > 1e-3


@pytest.mark.parametrize(
    ("builder", "error", "words"),
    [
        ("renamed", ProofError, r"a float32\[4, 8\] is not in the checkpoint"),
        ("doubled", ProofError, "hidden/w is the name of 2 variables"),
        ("wider", ProofError, r"hidden/w is float32\[4, 9\], and the checkpoint has float32\[4, 8"),
        ("net", ProofError, "net/dense/kernel"),
    ],
)
def test_another_model_is_refused(
    tmp_path: Path, builder: str, error: type[Error], words: str
) -> None:
    prefix, _ = trained(tmp_path / "ckpt", HAND)
    with Store.init(tmp_path / "work") as store:
        store.add(prefix, model="old", builder=f"{BUILDERS}/named.py:{builder}")
        with pytest.raises(error, match=words):
            store.export("old")
        assert not store.versions("old")


def test_there_is_no_root_in_it(tmp_path: Path) -> None:
    prefix, _ = trained(tmp_path / "ckpt", HAND)
    with Store.init(tmp_path / "work") as store:
        store.add(prefix, model="old", builder=f"{BUILDERS}/named.py:hand")
        with pytest.raises(UsageError, match="no object graph"):
            store.export("old", root="model")
