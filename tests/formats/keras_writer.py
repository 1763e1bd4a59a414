"""Writes files as Keras does, and awkward ones, with h5py and zipfile alone."""

import json
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np

CONFIG = {
    "module": "keras",
    "class_name": "Sequential",
    "config": {
        "name": "sequential",
        "layers": [
            {"class_name": "Dense", "config": {"units": 3}, "shared_object_id": 140089741580304},
            {"class_name": "Dense", "config": {"units": 3}, "shared_object_id": 140089741580304},
            {"class_name": "Dense", "config": {"units": 2}, "shared_object_id": 139889741580123},
        ],
    },
}
METADATA = {"keras_version": "3.15.1", "date_saved": "2026-01-02@03:04:05"}

KERNEL = np.arange(12, dtype=np.float32).reshape(4, 3)
BIAS = np.array([0.5, -0.5, 1.5], np.float32)
STEP = np.int64(1200)


def h5_bytes(fill: Callable[[Any], None], **options: Any) -> bytes:
    """Return the bytes of an HDF5 file that ``fill`` writes."""
    buffer = BytesIO()
    with h5py.File(buffer, "w", **options) as file:
        fill(file)
    return buffer.getvalue()


def keras3_weights(file: Any) -> None:
    """Write two layers, one of them nested, and an optimizer, as Keras 3 does."""
    for path, name, values in (
        ("layers/dense", "hidden", (KERNEL, BIAS)),
        ("layers/sequential", "encoder", ()),
        ("layers/sequential/layers/dense", "deep", (KERNEL + 1, BIAS + 1)),
        ("optimizer", "adam", (STEP, np.float32(0.001), KERNEL * 0.1)),
    ):
        group = file.require_group(path).create_group("vars")
        group.attrs["name"] = name
        for number, value in enumerate(values):
            group[str(number)] = value


def legacy_weights(file: Any) -> None:
    """Write one layer as ``save_weights`` of legacy Keras does."""
    file.attrs["layer_names"] = np.array([b"dense", b"empty"])
    file.attrs["backend"] = b"tensorflow"
    group = file.create_group("dense")
    group.attrs["weight_names"] = np.array([b"dense/kernel:0", b"dense/bias:0"])
    group["dense/kernel:0"] = KERNEL
    group["dense/bias:0"] = BIAS
    file.create_group("empty").attrs["weight_names"] = np.array([], "S1")


def legacy_model(file: Any) -> None:
    """Write a whole model as legacy Keras does."""
    file.attrs["model_config"] = json.dumps(CONFIG)
    legacy_weights(file.create_group("model_weights"))
    group = file.create_group("optimizer_weights")
    group.attrs["weight_names"] = np.array([b"iteration:0", b"Adam/m/dense/kernel:0"])
    group["iteration:0"] = STEP
    group["Adam/m/dense/kernel:0"] = KERNEL * 0.1


def members(**changed: bytes) -> dict[str, bytes]:
    """Return the members of an archive by name; ``changed`` by the name before its dot."""
    weights = changed.get("model") or h5_bytes(keras3_weights)
    return {
        "metadata.json": changed.get("metadata") or json.dumps(METADATA).encode(),
        "config.json": changed.get("config") or json.dumps(CONFIG).encode(),
        "model.weights.h5": weights,
        "assets/layers/string_lookup/vocabulary.txt": changed.get("vocabulary") or b"one\ntwo\n",
    }


def write_archive(
    path: Path, files: Mapping[str, bytes] | None = None, method: int = zipfile.ZIP_STORED
) -> Path:
    """Write a ``.keras`` archive."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in (files or members()).items():
            archive.writestr(name, data)
    return path


def write_directory(path: Path, files: Mapping[str, bytes] | None = None) -> Path:
    """Write an unzipped Keras model."""
    for name, data in (files or members()).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def write_shards(directory: Path, base: str = "model", map_name: str | None = None) -> Path:
    """Write a map of weights and two shards; a group of variables is in both."""

    def first(file: Any) -> None:
        group = file.create_group("layers/dense/vars")
        group.attrs["name"] = "hidden"
        group["0"] = KERNEL

    def second(file: Any) -> None:
        file.create_group("layers/dense/vars")["1"] = BIAS
        file.create_group("optimizer/vars")["0"] = STEP

    names = [f"{base}_{number:05d}.weights.h5" for number in range(2)]
    (directory / names[0]).write_bytes(h5_bytes(first))
    (directory / names[1]).write_bytes(h5_bytes(second))
    body = {
        "metadata": {"total_size": 68.0},
        "weight_map": {"/layers/dense/vars": names, "/optimizer/vars": names[1]},
    }
    path = directory / (map_name or f"{base}.weights.json")
    path.write_text(json.dumps(body, indent=4))
    return path
