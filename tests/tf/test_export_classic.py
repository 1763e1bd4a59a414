"""The classic recipes export right, whatever the checkpoint's layout, and reproducibly."""

import filecmp
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from mstore.convert import process
from mstore.convert.proof import prove
from mstore.errors import InputError, ProofError
from mstore.formats.detect import find_checkpoints
from mstore.formats.tensor_bundle import BundleFiles, read_table
from tests.tf.exporting import TOLERANCE, export, largest_difference, load, train

X = np.random.default_rng(1).normal(size=(5, 4)).astype("float32")
CLASSIC = load("classic")


def trained(model: Any) -> tuple[Any, Any]:
    return model, train(model, lambda: model(X))


def test_a_sequential_model_from_a_training_loop(tmp_path: Path) -> None:
    model, optimizer = trained(CLASSIC.sequential())
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer)
    prefix = Path(checkpoint.save(str(tmp_path / "ckpt")))
    exported = export(prefix, tmp_path / "out", "classic.py:sequential")
    assert largest_difference(exported.serve(inputs=X), {"output_0": model(X)}) <= TOLERANCE
    assert [variable.name for variable in exported.proven][:2] == [
        "sequential/dense/kernel",
        "sequential/dense/bias",
    ]
    assert len(exported.proven) == 6


def test_a_subclassed_model_from_a_custom_loop(tmp_path: Path) -> None:
    model, optimizer = trained(CLASSIC.Net())
    step = tf.Variable(1200, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, step=step)
    prefix = Path(checkpoint.save(str(tmp_path / "ckpt")))
    exported = export(prefix, tmp_path / "out", "classic.py:subclassed")
    assert largest_difference(exported.serve(x=X), {"output_0": model(X)}) <= TOLERANCE
    assert exported.result.root == "model"
    assert exported.info.variables is not None
    assert len(exported.info.variables.values) == 6
    weights = sum(variable.size for variable in exported.proven)
    data = (exported.path / "variables" / "variables.data-00000-of-00001").stat().st_size
    assert data <= weights + 80 * len(exported.proven)


def test_the_latest_of_several_checkpoints_of_a_manager(tmp_path: Path) -> None:
    model, optimizer = trained(CLASSIC.Net())
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, step=tf.Variable(0))
    manager = tf.train.CheckpointManager(checkpoint, str(tmp_path / "ckpts"), max_to_keep=3)
    for _ in range(4):
        train(model, lambda: model(X), optimizer)
        checkpoint.step.assign_add(10)
        manager.save()
    (prefix,) = find_checkpoints(tmp_path / "ckpts", latest=True)
    assert prefix.name == "ckpt-4"
    exported = export(prefix, tmp_path / "out", "classic.py:subclassed")
    assert largest_difference(exported.serve(x=X), {"output_0": model(X)}) <= TOLERANCE


def _compiled(directory: Path) -> tuple[Path, Any]:
    model = CLASSIC.Net()
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(X, X[:, :3], epochs=2, verbose=0)
    return Path(tf.train.Checkpoint(model=model).write(str(directory / "ckpt"))), model


def _compiled_sequential(directory: Path) -> tuple[Path, Any]:
    model = CLASSIC.sequential()
    model.compile("rmsprop", "mse")
    model.fit(X, X[:, :3], epochs=2, verbose=0)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    return Path(checkpoint.save(str(directory / "ckpt"))), model


def _at_root(directory: Path) -> tuple[Path, Any]:
    model, _ = trained(CLASSIC.Net())
    return Path(tf.train.Checkpoint(model).save(str(directory / "ckpt"))), model


def _at_root_with_more(directory: Path) -> tuple[Path, Any]:
    model, optimizer = trained(CLASSIC.Net())
    checkpoint = tf.train.Checkpoint(model, optimizer=optimizer, step=tf.Variable(5))
    return Path(checkpoint.save(str(directory / "ckpt"))), model


def _as_net_deeper(directory: Path) -> tuple[Path, Any]:
    model, optimizer = trained(CLASSIC.Net())
    inner = tf.train.Checkpoint(net=model, opt=optimizer)
    checkpoint = tf.train.Checkpoint(trainer=inner, epoch=tf.Variable(1))
    return Path(checkpoint.write(str(directory / "ckpt"))), model


def _mixed_optimizer(directory: Path) -> tuple[Path, Any]:
    model = CLASSIC.Net()
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.05))
    train(model, lambda: model(X), optimizer)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer)
    return Path(checkpoint.save(str(directory / "ckpt"))), model


@pytest.mark.parametrize(
    ("write", "builder", "root"),
    [
        (_compiled, "subclassed", "model"),
        (_compiled_sequential, "sequential", "model"),
        (_at_root, "subclassed", ""),
        (_at_root_with_more, "subclassed", ""),
        (_as_net_deeper, "subclassed", "trainer.net"),
        (_mixed_optimizer, "subclassed", "model"),
    ],
)
def test_the_model_is_found_wherever_the_checkpoint_has_it(
    write: Callable[[Path], tuple[Path, Any]], builder: str, root: str, tmp_path: Path
) -> None:
    prefix, model = write(tmp_path)
    exported = export(prefix, tmp_path / "out", f"classic.py:{builder}", checked=False)
    assert exported.result.root == root
    (key,) = exported.info.signatures["serving_default"].inputs
    feed: dict[str, Any] = {key: X}
    assert largest_difference(exported.serve(**feed), {"output_0": model(X)}) <= TOLERANCE


def test_exports_are_equal_byte_for_byte_in_processes_started_and_forked(
    tmp_path: Path, zygotes: Callable[..., Any]
) -> None:
    model, optimizer = trained(CLASSIC.Net())
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer)
    prefix = Path(checkpoint.save(str(tmp_path / "ckpt")))
    export(prefix, tmp_path / "forked", "classic.py:subclassed", checked=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "_start", zygotes)
        for name in ("one", "two"):
            export(prefix, tmp_path / name, "classic.py:subclassed", checked=False)
    one = tmp_path / "one"
    files = sorted(str(file.relative_to(one)) for file in one.rglob("*") if file.is_file())
    assert len(files) == 4
    for other in ("two", "forked"):
        same, different, missing = filecmp.cmpfiles(one, tmp_path / other, files, False)
        assert (len(same), different, missing) == (4, [], [])


def test_a_savedmodel_that_only_python_can_serve_is_refused(tmp_path: Path) -> None:
    model, optimizer = trained(CLASSIC.Net())
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer)
    prefix = Path(checkpoint.save(str(tmp_path / "ckpt")))
    serve = tf.function(lambda x: {"y": model(x)}, input_signature=[CLASSIC.INPUTS["x"]])
    tf.saved_model.save(model, str(tmp_path / "sm"), signatures=serve)
    table = read_table(tmp_path / "sm" / "variables" / "variables")
    trained_table = read_table(prefix)
    sources = {
        tensor.key: next(t.key for t in trained_table.values if t.content == tensor.content)
        for tensor in table.values
        if any(t.content == tensor.content for t in trained_table.values)
    }
    with pytest.raises(ProofError):
        prove(BundleFiles(prefix), tmp_path / "sm", sources)


def test_an_output_directory_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ckpt.index").write_bytes(b"")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "stale").write_text("")
    with pytest.raises(InputError, match="not empty"):
        export(tmp_path / "ckpt", tmp_path / "out", "classic.py:sequential")
