"""Programs from real exports: linked where there is no TensorFlow, no Keras and no builder."""

import json
import os
import shutil
import site
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import mstore
from mstore.convert.check import check
from mstore.domain.records import Version
from mstore.errors import InputError
from tests.tf.exporting import LIMIT, TOLERANCE

ROOT = Path(__file__).parents[2]
LAYERS = """
import keras

def hidden(units):
    return keras.layers.Dense(units, activation="relu", name="hidden")
"""
BUILDER = """
from pathlib import Path
import keras
from layers_of_mine import hidden

def build(deeper=False):
    words = (Path(__file__).parent / "words.txt").read_text().split()
    word = keras.Input((), dtype="string", name="word")
    coded = keras.layers.StringLookup(vocabulary=words, output_mode="one_hot", name="coded")(word)
    x = hidden(24)(coded)
    if deeper:
        x = keras.layers.Dense(24, name="deeper")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    return keras.Model(word, keras.layers.Dense(3, name="scores")(x))

def deeper():
    return build(True)
"""
ABSENT = ("tensorflow", "keras", "tensorboard", "h5py", "ml_dtypes", "_distutils_hack")
FEED = {"word": np.array([b"red", b"blue", b"odd"], object)}


@dataclass(frozen=True)
class Trained:
    """A store with checkpoints of two steps and a traced version of the first.

    Attributes:
        directory: holds the store and the code.
        live: the model's answers at each step.
        first: the version.
    """

    directory: Path
    live: dict[int, Any]
    first: Version

    @property
    def builder(self) -> str:
        return f"{self.directory / 'model.py'}:build"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    directory = tmp_path_factory.mktemp("programs")
    (directory / "words.txt").write_text("red\nblue\n")
    (directory / "layers_of_mine.py").write_text(LAYERS)
    (directory / "model.py").write_text(BUILDER)
    sys.path.insert(0, str(directory))
    scope: dict[str, Any] = {"__file__": str(directory / "model.py")}
    exec(compile(BUILDER, "model.py", "exec"), scope)  # noqa: S102 - the text above
    sys.path.remove(str(directory))
    live = {}
    for name, steps in (("build", (1, 2)), ("deeper", (3,))):
        model, optimizer = scope[name](), keras.optimizers.Adam(0.01)
        checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer)
        for step in steps:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(model(tf.constant(FEED["word"]), training=True) ** 2)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
            checkpoint.write(str(directory / "ckpts" / f"ckpt-{step}"))
            live[step] = model(tf.constant(FEED["word"])).numpy()
    with mstore.Store.init(directory) as store:
        for step in live:
            store.add(directory / "ckpts" / f"ckpt-{step}", model="toy", step=step)
        first = store.export("toy@1", builder=f"{directory / 'model.py'}:build")
    return Trained(directory, live, first)


def files(version: Version) -> dict[str, tuple[int, str]]:
    return {file.path: (file.size, file.sha256) for file in version.files}


def answers(version: Version, directory: Path) -> Any:
    chosen = {"serving_default": version.signatures["serving_default"]}
    outputs = check(directory, chosen, feeds={"serving_default": FEED}, timeout=LIMIT)
    (output,) = outputs["serving_default"].values()
    return output


def test_the_program_says_what_it_was_made_from(trained: Trained) -> None:
    with mstore.Store.open(trained.directory) as store:
        (program,) = store.programs("toy")
    assert program.reason is None
    assert program.id == trained.first.program
    names = {"model.py", "layers_of_mine.py", "words.txt"}
    mine = {Path(path).name for path in program.code if Path(path).parent == trained.directory}
    assert mine == names
    assert not [path for path in program.code if "ckpt" in path or "site-packages" in path]


def test_a_linked_version_equals_the_traced_one_and_answers_as_the_live_model(
    trained: Trained, tmp_path: Path
) -> None:
    with mstore.Store.open(trained.directory) as store:
        linked = store.export("toy@2", builder=trained.builder, to=tmp_path / "base", check=True)
        traced = store.export("toy@2", builder=trained.builder, trace=True)
        assert (linked.method, traced.method) == ("link", "trace")
        assert files(linked) == files(traced)
        assert linked.digest == traced.digest
        assert files(linked) != files(trained.first)
        assert linked.checks == traced.checks
        assert linked.checks["load"] == "passed"
        (found,) = store.audit(tmp_path / "base").versions
        assert found.verdict == "proven"
        assert len(store.programs()) == 1
    got = answers(linked, tmp_path / "base" / str(linked.version))
    assert np.abs(got - trained.live[2]).max() <= TOLERANCE


def bare_python(directory: Path) -> Path:
    """Make an environment that has what mstore needs, and no TensorFlow and no Keras."""
    venv.create(directory, with_pip=False, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    target = directory / "lib" / version / "site-packages"
    # A distribution's Python names folders that it does not have in an environment.
    for folder in filter(Path.is_dir, map(Path, site.getsitepackages())):
        for entry in folder.iterdir():
            if not entry.name.startswith(ABSENT) and entry.suffix != ".pth":
                (target / entry.name).symlink_to(entry)
    return directory / "bin" / "python"


def test_without_tensorflow_keras_and_builder_a_checkpoint_is_linked_published_and_audited(
    trained: Trained, tmp_path: Path
) -> None:
    python = bare_python(tmp_path / "venv")
    for name in ("model.py", "layers_of_mine.py", "words.txt"):
        shutil.move(trained.directory / name, tmp_path / f"moved-{name}")
    try:
        _linked_without(trained, python, tmp_path)
    finally:
        for name in ("model.py", "layers_of_mine.py", "words.txt"):
            shutil.move(tmp_path / f"moved-{name}", trained.directory / name)


def _linked_without(trained: Trained, python: Path, tmp_path: Path) -> None:
    assert not [*trained.directory.glob("*.py"), *trained.directory.glob("*.txt")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}

    def run(*words: str, directory: Path = tmp_path) -> Any:
        done = subprocess.run(
            [str(python), *words],
            cwd=directory,
            env=environment | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    absent = "import importlib.util as u, sys; print([u.find_spec(n) for n in sys.argv[1:]])"
    assert run("-c", absent, "tensorflow", "keras", "h5py").strip() == "[None, None, None]"
    store = tmp_path / "elsewhere"
    store.mkdir()
    run("-c", f"import shutil; shutil.copytree({str(trained.directory / '.mstore')!r}, '.mstore')",
        directory=store)  # fmt: skip

    def cli(*words: str) -> Any:
        return json.loads(run("-m", "mstore", *words, "--json", directory=store))

    base = tmp_path / "serving"
    version = cli("export", "toy@2", "--to", str(base))
    assert version["method"] == "link"
    assert version["checks"] == {"weights": "proven", "load": "skipped", "parity": "skipped"}
    assert cli("verify")["clean"] is True
    (found,) = cli("audit", str(base))["versions"]
    assert found["verdict"] == "proven"
    assert found["checkpoint"]["step"] == 2
    (program,) = cli("list", "toy", "--programs")
    assert (program["id"], program["linkable"]) == (trained.first.program, True)
    assert cli("show", program["id"][:12]) == program
    assert "  linkable\n" in run("-m", "mstore", "show", program["id"][:12], directory=store)
    assert cli("export", "toy@2", "--program", program["id"][:12])["method"] == "link"
    got = answers(trained.first, base / str(version["version"]))
    assert np.abs(got - trained.live[2]).max() <= TOLERANCE


def test_a_new_layer_is_named_where_nothing_can_be_traced(trained: Trained) -> None:
    with mstore.Store.open(trained.directory) as store, pytest.raises(InputError) as caught:
        store.export("toy@3")
    assert "deeper/kernel float32[24, 24] is new" in caught.value.message
    assert "--builder" in caught.value.hint


def test_another_vocabulary_is_traced_and_not_linked(trained: Trained) -> None:
    words = trained.directory / "words.txt"
    before = words.read_text()
    words.write_text("blue\nred\n")
    try:
        with mstore.Store.open(trained.directory) as store:
            version = store.export("toy@1", builder=trained.builder, learn=False)
    finally:
        words.write_text(before)
    assert version.method == "trace"
    assert version.program != trained.first.program
