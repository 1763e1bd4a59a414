"""Files of Keras that are damaged, hostile or of another model are refused in words."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mstore.convert.request import TraceRequest
from mstore.convert.worker.keras_staging import stage
from mstore.convert.worker.vetting import aliases, refuse_code
from mstore.convert.worker.weights_files import list_datasets
from mstore.errors import DamagedFileError, Error, InputError, ProofError, UsageError
from tests.tf.exporting import load, train
from tests.tf.keras_files import export_file, layout_of, repacked, save

MODELS = load("filed")
X = np.random.default_rng(2).normal(size=(5, 4)).astype("float32")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One trained model in all forms."""
    directory = tmp_path_factory.mktemp("stacked")
    model = MODELS.stacked()
    train(model, lambda: model(X))
    for form in ("keras", "keras-directory", "weights-h5", "weights-json", "legacy-h5"):
        save(model, form, directory)
    save(model, "legacy-weights", directory)
    return directory


def staged(path: Path, form: str, scratch: Path) -> Any:
    scratch.mkdir()
    found = stage(TraceRequest(path, Path(), format=layout_of(form)), scratch)
    return list_datasets(found.shards)


# Everything below that needs no live model is asked of the parts, without a process.


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    place = data.index(b"HDF") + 4000
    data[place] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("name", "form", "harm"),
    [
        ("m.keras", "keras", cut),
        ("m.keras", "keras", flip),
        ("m.keras", "keras", empty),
        ("m.weights.h5", "weights-h5", cut),
        ("m.weights.h5", "weights-h5", empty),
        ("m.h5", "legacy-h5", cut),
        ("m.weights.json", "weights-json", cut),
        ("m.h5", "keras", lambda _path: None),
        ("m.keras", "legacy-h5", lambda _path: None),
    ],
)
def test_damaged_files_are_named(
    name: str, form: str, harm: Callable[[Path], None], files: Path, tmp_path: Path
) -> None:
    path = tmp_path / name
    shutil.copy(files / name, path)
    harm(path)
    with pytest.raises(DamagedFileError) as caught:
        staged(path, form, tmp_path / "scratch")
    assert name in caught.value.message or caught.value.path.endswith(".h5")


def link(file: h5py.File) -> None:
    file["layers/dense/vars/9"] = h5py.SoftLink("/layers/dense/vars/0")


def external(file: h5py.File) -> None:
    file.create_dataset("raw", (4,), "f4", external=[("other.bin", 0, 16)])


@pytest.mark.parametrize("harm", [link, external])
def test_weights_that_lead_elsewhere_are_not_written_to(
    harm: Callable[[h5py.File], None], files: Path, tmp_path: Path
) -> None:
    path = tmp_path / "m.weights.h5"
    shutil.copy(files / "m.weights.h5", path)
    with h5py.File(path, "r+") as file:
        harm(file)
    with pytest.raises(InputError):
        staged(path, "weights-h5", tmp_path / "scratch")


@pytest.mark.parametrize("name", ["assets/../../../out.txt", "assets/..\\out.txt", "model.pkl"])
def test_an_archive_writes_nothing_outside(name: str, files: Path, tmp_path: Path) -> None:
    path = shutil.copy(files / "m.keras", tmp_path / "m.keras")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, "out")
    (tmp_path / "deep").mkdir()
    with pytest.raises(InputError):
        staged(Path(path), "keras", tmp_path / "deep" / "scratch")
    assert not [*tmp_path.rglob("out.txt"), *tmp_path.rglob("model.pkl")]


def test_what_keras_does_not_write_stays_in_the_archive(files: Path, tmp_path: Path) -> None:
    path = shutil.copy(files / "m.keras", tmp_path / "m.keras")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("sitecustomize.py", "out")
    assert staged(Path(path), "keras", tmp_path / "scratch")
    assert not list(tmp_path.rglob("sitecustomize.py"))


@pytest.mark.parametrize("name", ["../m_00000.weights.h5", "/etc/passwd", "m.h5", 7])
def test_an_index_names_no_files_but_shards(name: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.weights.json"
    path.write_text(json.dumps({"weight_map": {"/layers/dense/vars": [name]}}))
    with pytest.raises(DamagedFileError) as caught:
        staged(path, "weights-json", tmp_path / "scratch")
    assert str(name) in caught.value.message


def test_a_missing_shard_is_named(files: Path, tmp_path: Path) -> None:
    shutil.copy(files / "m.weights.json", tmp_path)
    with pytest.raises(Error) as caught:
        staged(tmp_path / "m.weights.json", "weights-json", tmp_path / "scratch")
    assert "m_0000" in caught.value.message


def named(module: Any, name: str, kind: str = "function") -> dict[str, Any]:
    config = {"module": module, "class_name": kind, "config": name, "registered_name": name}
    return {"class_name": "Dense", "module": "keras.layers", "config": {"activation": config}}


@pytest.mark.parametrize(
    "config",
    [
        named("os", "system"),
        named("builtins", "x", "eval"),
        named("keras.utils", "get_file"),
        named("keras.src.utils.file_utils", "get_file"),
        named("keras.config", "enable_unsafe_deserialization"),
        named("kerasx", "relu"),
        named(None, "system"),
        {"class_name": "Popen", "module": "subprocess", "config": {}},
    ],
)
def test_a_configuration_may_name_parts_of_models_alone(config: Any) -> None:
    with pytest.raises(InputError) as caught:
        aliases({"layers": [1, [config]]}, {}, "m.keras")
    assert "--builder FILE.py" in caught.value.hint


def test_keras_own_parts_and_known_classes_may_be_named() -> None:
    class Scale:
        pass

    good = [
        named("builtins", "relu"),
        named("keras.activations", "gelu"),
        named("keras.src.ops.nn", "gelu"),
        {"class_name": "GRU", "module": "keras.layers", "config": {}, "registered_name": None},
        {"class_name": "Scale", "module": None, "config": {}, "registered_name": "mine>Scale"},
    ]
    assert aliases(good, {"Scale": Scale}, "m.keras") == {"mine>Scale": Scale}


LAMBDA = {"class_name": "__lambda__", "config": {"code": "4wEAAAA="}}


@pytest.mark.parametrize(
    "config",
    [
        LAMBDA,
        {"class_name": "Lambda", "config": {"name": "odd", "function": LAMBDA}},
        {"class_name": "Lambda", "config": {"name": "odd", "function": ["4wEA", None, None]}},
        {"class_name": "Lambda", "config": {"name": "odd", "function_type": "lambda"}},
        {"class_name": "Lambda", "config": {"name": "odd", "output_shape": LAMBDA}},
        {"class_name": "Lambda", "config": {"name": "odd", "output_shape_type": "lambda"}},
        {"class_name": "Dense", "config": {"name": "odd", "activation": LAMBDA}},
    ],
)
def test_code_is_found_wherever_it_stands(config: Any) -> None:
    with pytest.raises(InputError) as caught:
        refuse_code({"config": {"layers": [config]}}, "m.keras")
    assert "--trust" in caught.value.hint


# What follows runs the whole conversion.


def test_a_lambda_is_not_run_without_trust(tmp_path: Path) -> None:
    import keras  # noqa: PLC0415 - beside the one test that makes a hostile model

    marker = tmp_path / "run"
    code = f"lambda t: (open({str(marker)!r}, 'w').close(), t)[1]"
    layer = keras.layers.Lambda(eval(code), output_shape=(4,), name="odd")  # noqa: S307
    model = keras.Sequential([keras.layers.Input((4,)), layer, keras.layers.Dense(2)])
    for form in ("keras", "legacy-h5"):
        path = save(model, form, tmp_path)
        marker.unlink(missing_ok=True)
        with pytest.raises(InputError) as caught:
            export_file(path, form, tmp_path / "out")
        assert "'odd'" in caught.value.message
        assert "--trust" in caught.value.hint
        assert not marker.exists()


def test_unknown_classes_are_listed(tmp_path: Path) -> None:
    path = save(MODELS.customized(), "keras", tmp_path)
    with pytest.raises(InputError) as caught:
        export_file(path, "keras", tmp_path / "out")
    for name in ("filed>Scale", "Unregistered"):
        assert name in caught.value.message
    assert "--builder FILE.py" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "form", "builder", "subjects"),
    [
        ("m.weights.h5", "weights-h5", "stacked_wider", ["layers/dense_1/vars/0", "y/kernel"]),
        ("m.weights.h5", "weights-h5", "stacked_shorter", ["layers/dense_1/vars/1"]),
        ("m.weights.h5", "weights-h5", "stacked_longer", ["dense_1/kernel", "dense_1/bias"]),
        ("weights.h5", "legacy-weights", "stacked_wider", ["y/kernel"]),
    ],
)
def test_weights_of_another_model_are_named(
    name: str, form: str, builder: str, subjects: list[str], files: Path, tmp_path: Path
) -> None:
    with pytest.raises(ProofError) as caught:
        export_file(files / name, form, tmp_path / "out", builder)
    for subject in subjects:
        assert any(got.endswith(subject) for got in caught.value.subjects)
    assert not (tmp_path / "out").exists()


def test_a_load_that_changes_weights_is_no_plain_copy(tmp_path: Path) -> None:
    path = save(MODELS.transposing(), "weights-h5", tmp_path)
    with pytest.raises(ProofError) as caught:
        export_file(path, "weights-h5", tmp_path / "out", "transposing")
    assert caught.value.subjects[0].endswith("odd/kernel")
    assert "no plain copy" in caught.value.message


def test_a_layer_count_that_differs_is_said(files: Path, tmp_path: Path) -> None:
    with pytest.raises(ProofError) as caught:
        export_file(files / "weights.h5", "legacy-weights", tmp_path / "out", "stacked_longer")
    assert "expected 4 layers, found 3" in caught.value.message


def test_an_architecture_of_other_weights_is_refused(files: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(files / "m.keras") as archive:
        config = archive.read("config.json").replace(b'"units": 3', b'"units": 7')
    path = repacked(files / "m.keras", tmp_path / "m.keras", config_json=config)
    with pytest.raises(Error) as caught:
        export_file(path, "keras", tmp_path / "out")
    assert isinstance(caught.value, InputError)
    assert "m.keras" in caught.value.message


@pytest.mark.parametrize(
    ("name", "form", "options", "kind", "words"),
    [
        ("m.weights.h5", "weights-h5", {}, InputError, "no architecture"),
        ("weights.h5", "legacy-weights", {}, InputError, "does not say how"),
        ("gone.keras", "keras", {}, InputError, "there is no checkpoint"),
        ("m.keras", "keras", {"root": "net"}, UsageError, "no root"),
        ("m.weights.h5", "weights-h5", {"builder": ""}, UsageError, "cannot read the builder"),
        ("m.weights.h5", "weights-h5", {"builder": "custom_names"}, InputError, "no model"),
    ],
)
def test_what_is_missing_is_said(
    name: str, form: str, options: Any, kind: type[Error], words: str, files: Path, tmp_path: Path
) -> None:
    with pytest.raises(kind) as caught:
        export_file(files / name, form, tmp_path / "out", **options)
    assert words in caught.value.message
    assert caught.value.hint or kind is InputError


def test_damage_that_the_conversion_meets_is_its_own_error(files: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(files / "m.weights.h5", tmp_path / "m.weights.h5"))
    cut(path)
    with pytest.raises(DamagedFileError) as caught:
        export_file(path, "weights-h5", tmp_path / "out", "stacked")
    assert caught.value.path.endswith(".h5")
    assert caught.value.exit_status == 13
