"""The main job through `Store`, on checkpoints of a real training loop."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import mstore
from mstore.convert.check import check
from mstore.convert.trace import trace
from mstore.errors import (
    BuilderError,
    LoadCheckError,
    ProofError,
    WeightsNotSavedError,
    WorkerTimeoutError,
)
from mstore.formats.saved_model import read_saved_model
from mstore.keras import StoreCheckpoint
from mstore.objects.packs import CHUNK, read_index
from mstore.ops import conversion as conversion_module

BUILDER = """
import keras

def build(units=24):
    inputs = keras.Input((8,), name="x")
    hidden = keras.layers.Dense(int(units), activation="relu", name="hidden")(inputs)
    hidden = keras.layers.BatchNormalization(name="norm")(hidden)
    return keras.Model(inputs, keras.layers.Dense(3, name="scores")(hidden))

def wrong_shape():
    return build(25)

def raises():
    raise RuntimeError("no such data set")

def hangs():
    import time
    time.sleep(600)
"""


@dataclass(frozen=True)
class Trained:
    """Checkpoints of one run and what the live model answered at each step."""

    directory: Path
    batch: np.ndarray[Any, Any]
    answers: dict[int, np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    directory = tmp_path_factory.mktemp("trained")
    (directory / "model.py").write_text(BUILDER)
    scope: dict[str, Any] = {}
    exec(compile(BUILDER, "model.py", "exec"), scope)  # noqa: S102 - the text above
    model, optimizer = scope["build"](), keras.optimizers.Adam(0.01)
    step = tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, step=step)
    manager = tf.train.CheckpointManager(checkpoint, str(directory / "ckpts"), max_to_keep=5)
    rng = np.random.default_rng(0)
    batch = rng.normal(size=(16, 8)).astype("float32")
    labels = rng.integers(0, 3, 16)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    answers = {}
    for number in (10, 20, 30):
        with tf.GradientTape() as tape:
            value = loss(labels, model(batch, training=True))
        gradients = tape.gradient(value, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        step.assign(number)
        manager.save()
        answers[number] = model(batch).numpy()
    return Trained(directory, batch, answers)


@pytest.fixture
def store(tmp_path: Path, trained: Trained) -> Iterator[mstore.Store]:
    with mstore.Store.init(tmp_path) as opened:
        outcome = opened.add_all([trained.directory / "ckpts"], model="toy")
        assert not outcome.failures
        yield opened


def digests(directory: Path) -> dict[str, str]:
    return {
        str(file.relative_to(directory)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in directory.rglob("*")
        if file.is_file()
    }


def builder(trained: Trained, name: str = "build") -> str:
    return f"{trained.directory / 'model.py'}:{name}"


def test_from_checkpoint_to_audited_deployment(
    store: mstore.Store, trained: Trained, tmp_path: Path
) -> None:
    base = tmp_path / "serving" / "toy"
    version = store.export("toy@20", builder=builder(trained), to=base)
    assert (version.version, version.step, version.published) == (1, 20, str(base / "1"))
    signatures = read_saved_model(base / "1").signatures
    answer = check(base / "1", signatures, feeds={"serving_default": {"x": trained.batch}})
    (output,) = answer["serving_default"].values()
    assert np.abs(output - trained.answers[20]).max() <= 1e-6
    before = digests(base)
    report = store.audit(base)
    assert report.proven
    assert [v.verdict for v in report.versions] == ["proven"]
    assert report.versions[0].checkpoint == store.show("toy@20").to_json()
    assert report.versions[0].deployment is not None
    assert digests(base) == before
    assert store.verify().clean


def test_one_flipped_byte_is_traced_to_its_tensor(
    store: mstore.Store, trained: Trained, tmp_path: Path
) -> None:
    base = tmp_path / "serving"
    store.export("toy@30", builder=builder(trained), to=base)
    data = base / "1" / "variables" / "variables.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[40] ^= 1
    data.write_bytes(content)
    (audited,) = store.audit(base).versions
    assert audited.verdict == "modified"
    kinds = {finding.kind: finding for finding in audited.findings}
    assert "tensor" in kinds
    assert kinds["modified-file"].subject == "variables/variables.data-00000-of-00001"
    assert audited.checkpoint is not None
    assert audited.checkpoint["step"] == 30


def test_two_exports_are_equal_byte_for_byte(
    store: mstore.Store, trained: Trained, tmp_path: Path
) -> None:
    first = store.export("toy@10", builder=builder(trained), to=tmp_path / "a")
    second = store.export("toy@10", builder=builder(trained), to=tmp_path / "b")
    assert (first.version, second.version) == (1, 2)
    assert digests(tmp_path / "a" / "1") == digests(tmp_path / "b" / "2")
    assert (first.digest, first.program) == (second.digest, second.program)


def test_a_version_costs_the_store_no_weights(store: mstore.Store, trained: Trained) -> None:
    packs = store.path / "packs"
    before = set(packs.rglob("*.pack"))
    version = store.export("toy@10", builder=builder(trained))
    (pack,) = set(packs.rglob("*.pack")) - before
    chunks = sum(entry.raw for entry in read_index(pack) if entry.kind == CHUNK)
    weights = 4 * (8 * 24 + 24 + 4 * 24 + 24 * 3 + 3)  # hidden, norm and scores, float32
    assert chunks == version.bytes - weights


def test_a_copy_without_its_statement_is_still_proven(
    store: mstore.Store, trained: Trained, tmp_path: Path
) -> None:
    store.export("toy@20", builder=builder(trained), to=tmp_path / "a")
    copy = tmp_path / "elsewhere" / "7"
    shutil.copytree(tmp_path / "a" / "1", copy)
    shutil.rmtree(copy / "assets.extra")
    (audited,) = store.audit(copy).versions
    assert audited.verdict == "proven"
    assert audited.checkpoint is not None
    assert audited.checkpoint["step"] == 20


def test_a_savedmodel_that_mstore_never_wrote_is_identified(
    store: mstore.Store, trained: Trained, tmp_path: Path
) -> None:
    scope: dict[str, Any] = {}
    exec(compile(BUILDER, "model.py", "exec"), scope)  # noqa: S102 - the text above
    model = scope["build"]()
    path = tf.train.latest_checkpoint(str(trained.directory / "ckpts"))
    tf.train.Checkpoint(model=model).read(path).expect_partial()
    module = tf.Module()
    module.kept = [weight.value for weight in model.weights]
    spec = tf.TensorSpec([None, 8], tf.float32, name="x")
    function = tf.function(lambda x: {"y": model(x)}, input_signature=[spec], autograph=False)
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=function)
    (audited,) = store.audit(tmp_path / "1").versions
    assert audited.verdict == "proven"
    assert [finding.kind for finding in audited.findings] == ["foreign"]
    assert audited.checkpoint is not None
    assert audited.checkpoint["step"] == 30


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        ("raises", BuilderError, "no such data set"),
        ("wrong_shape", ProofError, "hidden"),
    ],
)
def test_a_failed_export_leaves_nothing(
    store: mstore.Store,
    trained: Trained,
    tmp_path: Path,
    name: str,
    error: type[mstore.Error],
    told: str,
) -> None:
    packs = sorted(store.path.rglob("*.pack"))
    with pytest.raises(error, match=told):
        store.export("toy@30", builder=builder(trained, name), to=tmp_path / "srv")
    assert not (tmp_path / "srv").exists()
    assert sorted(store.path.rglob("*.pack")) == packs
    assert not list((store.path / "tmp").iterdir())
    assert store.export("toy@30", builder=builder(trained)).version == 1


def test_outputs_that_are_not_the_live_models_stop_the_export(
    store: mstore.Store, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_outputs(*arguments: Any, **options: Any) -> Any:
        result = trace(*arguments, **options)
        assert result.samples
        samples = {
            name: replace(sample, outputs={key: out + 1 for key, out in sample.outputs.items()})
            for name, sample in result.samples.items()
        }
        return replace(result, samples=samples)

    monkeypatch.setattr(conversion_module, "trace", other_outputs)
    with pytest.raises(LoadCheckError, match="serving_default"):
        store.export("toy@30", builder=builder(trained))
    assert store.versions() == ()


def test_a_builder_that_hangs_is_stopped(store: mstore.Store, trained: Trained) -> None:
    with pytest.raises(WorkerTimeoutError):
        store.export("toy@30", builder=builder(trained, "hangs"), timeout=8)
    assert store.versions() == ()


def test_served_files_can_be_read_by_others_whatever_the_umask(
    store: mstore.Store, trained: Trained, tmp_path: Path
) -> None:
    old = os.umask(0o077)
    try:
        store.export("toy@30", builder=builder(trained), to=tmp_path / "srv")
    finally:
        os.umask(old)
    for path in (tmp_path / "srv" / "1").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)
    assert (tmp_path / "srv" / "1").stat().st_mode & 0o777 == 0o755


def compiled(model: Any) -> Any:
    model.compile("adam", "mse", metrics=["mae"])
    return model


def test_the_callback_adds_each_epoch_with_its_logs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    batch = rng.normal(size=(32, 8)).astype("float32")
    with mstore.Store.init(tmp_path) as store:
        layers = [keras.Input((8,)), keras.layers.Dense(4), keras.layers.BatchNormalization()]
        model = compiled(keras.Sequential(layers))
        callback = StoreCheckpoint(store, model="toy", run="fit")
        history = model.fit(
            batch, batch[:, :4], batch_size=16, epochs=3, verbose=0, callbacks=[callback]
        )
        found = store.list("toy")
        assert [c.step for c in found] == [6, 4, 2]
        losses = [c.metrics["loss"] for c in reversed(found)]
        assert losses == pytest.approx(history.history["loss"])
        assert store.verify().clean


class Listed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = [keras.layers.Dense(4), keras.layers.BatchNormalization()]

    def call(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return x


def test_the_callback_refuses_weights_that_would_be_lost(tmp_path: Path) -> None:
    batch = np.ones((4, 8), "float32")
    with mstore.Store.init(tmp_path) as store:
        callback = StoreCheckpoint(store, model="toy")
        with pytest.raises(WeightsNotSavedError, match="moving_mean"):
            compiled(Listed()).fit(batch, batch[:, :4], verbose=0, callbacks=[callback])
        assert store.list() == ()


def test_add_refuses_weights_that_would_be_lost(tmp_path: Path) -> None:
    model = Listed()
    model(np.ones((1, 8), "float32"))
    prefix = tf.train.Checkpoint(model=model).write(str(tmp_path / "ckpt-1"))
    with mstore.Store.init(tmp_path) as store:
        with pytest.raises(WeightsNotSavedError) as caught:
            store.add(prefix, model="toy", live=model)
        assert len(caught.value.weights) == 6
        assert store.list() == ()


def test_a_checkpoint_deleted_behind_a_background_add_is_kept(tmp_path: Path) -> None:
    variable = tf.Variable(np.random.default_rng(0).normal(size=(1000, 1000)))
    prefix = tf.train.Checkpoint(w=variable).write(str(tmp_path / "ckpt-5"))
    wanted = digests(tmp_path)
    with mstore.Store.init(tmp_path / "store") as store:
        pending = store.add(prefix, model="toy", background=True)
        for file in tmp_path.glob("ckpt-5.*"):
            file.unlink()
        assert not isinstance(pending, mstore.Checkpoint)
        assert pending.result(60).step == 5
        store.checkout("toy@5", tmp_path / "out")
    assert digests(tmp_path / "out") == wanted
