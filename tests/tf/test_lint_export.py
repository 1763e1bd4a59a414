"""An export is linted before it becomes a version."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf

import mstore
from mstore.cli.run import run
from mstore.errors import LintError, LoadCheckError

BUILDER = """
import mstore
import tensorflow as tf

X = {"x": tf.TensorSpec([None, 4], tf.float32)}

class Net(tf.Module):
    def __init__(self):
        super().__init__()
        self.w = tf.Variable(tf.ones([4, 2]))

    def __call__(self, x):
        return {"y": x @ self.w}

def sound():
    return mstore.Servable(Net(), X)

def with_python():
    net = Net()
    def call(x):
        y = tf.numpy_function(lambda v: v + 1, [x @ net.w], tf.float32)
        return {"y": tf.ensure_shape(y, [None, 2])}
    return mstore.Servable(net, X, {"serving_default": call})

def with_a_mean():
    net = Net()
    def call(x):
        return {"y": x @ net.w, "mean": tf.reduce_mean(x)}
    return mstore.Servable(net, X, {"embed": call})
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[mstore.Store]:
    """A store of one checkpoint of the model m."""
    (tmp_path / "net.py").write_text(BUILDER)
    module = tf.Module()
    module.w = tf.Variable(tf.random.normal([4, 2]))
    prefix = tf.train.Checkpoint(model=module).save(str(tmp_path / "ckpt"))
    opened = mstore.Store.init(tmp_path)
    opened.add(prefix, model="m", step=1)
    yield opened
    opened.close()


def builder(store: mstore.Store, name: str) -> str:
    return f"{store.path.parent}/net.py:{name}"


def test_a_sound_export_has_no_warning(store: mstore.Store, tmp_path: Path) -> None:
    version = store.export("m@1", builder=builder(store, "sound"), to=tmp_path / "base")
    assert version.warnings == ()
    (tmp_path / "base").chmod(0o755)
    assert store.lint(tmp_path / "base").all == ()


def test_an_error_stops_the_export_before_a_number_is_used(
    store: mstore.Store, tmp_path: Path
) -> None:
    with pytest.raises(LintError) as caught:
        store.export("m@1", builder=builder(store, "with_python"), to=tmp_path / "base")
    assert [item["kind"] for item in caught.value.findings] == ["python-op"]
    assert "Python" in caught.value.message
    assert not list((tmp_path / "base").glob("*"))
    # What is allowed still has to load and run.
    with pytest.raises(LoadCheckError):
        store.export("m@1", builder=builder(store, "with_python"), allow_lint=["python-op"])
    assert store.export("m@1", builder=builder(store, "sound")).version == 1


def test_warnings_are_recorded_with_the_version(store: mstore.Store) -> None:
    made = store.export("m@1", builder=builder(store, "with_a_mean"))
    shown = store.show(f"m:{made.version}")
    assert isinstance(shown, mstore.Version)
    # A single signature is served as serving_default too.
    starts = [warning.split(": the output")[0] for warning in shown.warnings]
    assert starts == ["no-common-batch: embed: mean", "no-common-batch: serving_default: mean"]


def test_a_saved_model_that_is_taken_in_is_linted_too(store: mstore.Store, tmp_path: Path) -> None:
    module = tf.Module()
    module.w = tf.Variable(tf.ones([4, 2]))
    spec = tf.TensorSpec([None, 4], tf.float32, name="x")
    call = tf.function(lambda x: {"y": x @ module.w}, input_signature=[spec])
    options = tf.saved_model.SaveOptions(extra_tags=["prod"])
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=call, options=options)
    store.add(tmp_path / "saved", model="taken", step=1)
    with pytest.raises(LintError) as caught:
        store.export("taken@1")
    assert [item["kind"] for item in caught.value.findings] == ["no-serve-tag"]


def test_the_command_prints_the_findings(
    store: mstore.Store, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", "m@1", "--builder", builder(store, "with_python"), "--json"]
    assert run([*arguments, "--store", str(store.path)]) == 13
    error = json.loads(capsys.readouterr().err)["error"]
    assert error["code"] == "lint-failed"
    assert error["findings"][0]["cure"]
    assert "--allow-lint python-op" in error["hint"]
