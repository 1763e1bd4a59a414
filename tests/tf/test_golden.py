"""Golden examples hold each export to what the live model gave."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mstore.cli.run import run
from mstore.domain.warmup import WARMUP_PATH
from mstore.errors import InputError, LoadCheckError, ParityError, UsageError
from mstore.formats.warmup import read_warmup
from mstore.keras import StoreCheckpoint
from mstore.store import Store
from tests.tf.exporting import BUILDERS, load, train
from tests.tf.linked import contents

X = np.random.default_rng(4).normal(size=(5, 4)).astype("float32")
BUILDER = f"{BUILDERS}/classic.py:subclassed"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Any, list[Path]]]:
    """A store with two checkpoints of one model, each with its example; and the model."""
    place = tmp_path_factory.mktemp("golden")
    model = load("classic").Net()
    optimizer = train(model, lambda: model(X))
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer)
    prefixes = []
    with Store.init(place) as store:
        for step in (1, 2):
            prefixes.append(Path(checkpoint.write(str(place / f"ckpt-{step}"))))
            options: dict[str, Any] = {"step": step, "builder": BUILDER, "name": "net"}
            store.add(prefixes[-1], model=model, example=X, **options)
            for variable in model.trainable_variables:
                variable.assign(variable * 0.9 + 0.01)
        yield store, model, prefixes


def files(base: Path, number: int) -> dict[str, bytes]:
    return contents(base / str(number))


def test_each_export_gives_what_the_live_model_gave(
    made: tuple[Store, Any, list[Path]], tmp_path: Path
) -> None:
    store, _, _ = made
    first = store.export("net@1", to=tmp_path)
    linked = store.export("net@2", to=tmp_path)
    traced = store.export("net@2", trace=True, to=tmp_path)
    assert [item.method for item in (first, linked, traced)] == ["trace", "link", "trace"]
    for version in (first, linked, traced):
        assert version.checks["parity"] == "passed"
        assert version.parity["rows"] == 5
        assert isinstance(version.parity["largest_difference"], float)
        assert version.parity["largest_difference"] <= 1e-6
    one, other = (files(tmp_path, version.version) for version in (linked, traced))
    del one["assets.extra/mstore.json"], other["assets.extra/mstore.json"]
    assert one == other
    assert WARMUP_PATH in one
    assert store.audit(tmp_path).proven
    (request,) = read_warmup(tmp_path / str(first.version) / WARMUP_PATH)
    assert (request.kind, request.signature) == ("predict", "serving_default")
    (record,) = tf.data.TFRecordDataset(str(tmp_path / str(first.version) / WARMUP_PATH))
    assert X.tobytes() in record.numpy()
    assert store.export("net@1", warmup=False).checks["parity"] == "passed"


def test_weights_that_are_others_stop_the_export(
    made: tuple[Store, Any, list[Path]], tmp_path: Path
) -> None:
    store, _, prefixes = made
    store.export("net@1")  # so that there is a program
    before = len(store.versions())
    other = tmp_path / "other.npz"
    wrong: dict[str, Any] = {"z": X, "output/z": X}
    np.savez(other, **wrong)
    with pytest.raises(InputError, match="the example has the input z"):
        store.export("net@1", example=other)
    wrong = {"x": X, "output/output_0": np.zeros((5, 3), "float32")}
    np.savez(other, **wrong)
    for trace in (False, True):
        with pytest.raises(ParityError, match=r"output_0: 15 of 15 values are off") as caught:
            store.export("net@2", example=other, trace=trace)
        assert caught.value.exit_status == 13
    store.export("net@2", example=other, atol=1e3)
    assert len(store.versions()) == before + 1
    assert prefixes


def test_a_builder_that_computes_something_else_is_seen(
    made: tuple[Store, Any, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, _, _ = made
    source = (BUILDERS / "classic.py").read_text(encoding="utf-8")
    changed = source.replace('"relu"', '"tanh"').replace("'relu'", "'tanh'")
    assert changed != source
    (tmp_path / "changed.py").write_text(changed, encoding="utf-8")
    before = len(store.versions())
    arguments = ["export", "net@1", "--builder", f"{tmp_path}/changed.py:subclassed", "--json"]
    assert run(["-C", str(store.path), *arguments]) == 13
    assert '"parity-failed"' in capsys.readouterr().err
    assert len(store.versions()) == before


def test_the_callback_records_an_example_with_each_checkpoint(tmp_path: Path) -> None:
    model = load("classic").sequential()
    model.compile("sgd", "mse")
    with Store.init(tmp_path) as store:
        callback = StoreCheckpoint(store, model="net", example=X)
        model.fit(X, model(X).numpy() + 1, epochs=2, verbose=0, callbacks=[callback])
        version = store.export("net", builder=f"{BUILDERS}/classic.py:sequential", learn=False)
        assert version.checks["parity"] == "passed"
        with pytest.raises(UsageError, match="its outputs are not known"):
            store.add(tmp_path / "nothing", model="net", example=X)


def test_a_real_batch_stands_in_where_made_up_strings_are_no_input(tmp_path: Path) -> None:
    feature = {"x": tf.train.Feature(float_list=tf.train.FloatList(value=[1.0, 2.0, 3.0, 4.0]))}
    text = tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
    module = load("classic").Parsed()
    prefix = tf.train.Checkpoint(model=module).write(str(tmp_path / "ckpt-1"))
    batch = np.array([text, text], object)
    with Store.init(tmp_path) as store:
        store.add(Path(prefix), model="p", builder=f"{BUILDERS}/classic.py:Parsed")
        with pytest.raises(LoadCheckError, match="made-up batch") as caught:
            store.export("p")
        assert "--example" in caught.value.hint
        given = {"examples": batch.astype("S"), "output/y": module.serve(batch)["y"].numpy()}
        np.savez(tmp_path / "batch.npz", **given)
        made = store.export("p", example=tmp_path / "batch.npz")
    assert made.checks == {"weights": "proven", "load": "passed", "parity": "passed"}
