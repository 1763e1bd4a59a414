"""Saves models in every form of Keras, and exports them: what the tests of Keras files share."""

import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tensorflow as tf
from keras.src.legacy.saving import legacy_h5_format

from mstore.convert.check import check
from mstore.convert.fingerprint import make_reproducible
from mstore.convert.request import TraceRequest, TraceResult
from mstore.convert.trace import trace
from mstore.formats.layout import Format
from mstore.formats.saved_model import SavedModelInfo, read_saved_model
from tests.tf.exporting import BUILDERS, LIMIT

FILED = f"{BUILDERS}/filed.py"


def save(model: Any, form: str, directory: Path) -> Path:
    """Save the model as people do, and return the path."""
    savers: dict[str, tuple[str, Callable[[Path], None]]] = {
        "keras": ("m.keras", model.save),
        "keras-deflated": ("m.keras", lambda path: _deflated(model, path)),
        "keras-directory": ("unzipped", lambda path: model.save(path, zipped=False)),
        "weights-h5": ("m.weights.h5", model.save_weights),
        "weights-json": (
            "m.weights.json",
            lambda path: model.save_weights(path, max_shard_size=3e-7),
        ),
        "legacy-h5": ("m.h5", model.save),
        "legacy-weights": ("weights.h5", lambda path: _legacy_weights(model, path)),
    }
    name, saver = savers[form]
    with warnings.catch_warnings():
        # Keras reads its variables in a way that NumPy 2 warns about.
        warnings.simplefilter("ignore", DeprecationWarning)
        saver(directory / name)
    return directory / name


def _deflated(model: Any, path: Path) -> None:
    stored = path.with_name("stored.keras")
    model.save(stored)
    repacked(stored, path)


def _legacy_weights(model: Any, path: Path) -> None:
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


def repacked(source: Path, target: Path, **replaced: bytes) -> Path:
    """Write an archive anew, compressed, with other content for some members."""
    with (
        zipfile.ZipFile(source) as archive,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as copy,
    ):
        for info in archive.infolist():
            data = replaced.get(info.filename.replace(".", "_"), archive.read(info))
            copy.writestr(info.filename, data)
    return target


def layout_of(form: str) -> Format:
    """Return the format that a reader tells for what ``save`` wrote."""
    known: dict[str, Format] = {
        "keras-deflated": "keras",
        "keras-directory": "keras-directory",
        "weights-h5": "weights-h5",
        "weights-json": "weights-json",
        "legacy-h5": "legacy-h5",
        "legacy-weights": "legacy-h5",
    }
    return known.get(form, "keras")


@dataclass(frozen=True)
class Filed:
    """What an export of a file gave."""

    path: Path
    result: TraceResult
    info: SavedModelInfo

    def serve(self, **feed: Any) -> Mapping[str, Any]:
        """Run the default signature through the C++ loader."""
        chosen = {"serving_default": self.info.signatures["serving_default"]}
        return check(
            self.path,
            chosen,
            feeds={"serving_default": feed},
            samples=self.result.samples,
            timeout=LIMIT,
        )["serving_default"]

    def weights(self) -> dict[str, Any]:
        """Return the SavedModel's tensors by the key that each is said to come from."""
        reader = tf.train.load_checkpoint(str(self.path / "variables" / "variables"))
        return {
            "" if source is None else source.decode(): reader.get_tensor(key.decode())
            for key, source in self.result.sources.items()
        }


def export_file(
    path: Path,
    form: str,
    output: Path,
    builder: str | None = None,
    *,
    at: str = FILED,
    **options: Any,
) -> Filed:
    """Trace and look; raise what that raises.

    ``builder`` is a function of ``filed.py``, or empty for the file alone; ``at`` is another file.
    """
    spec = at if at != FILED else None
    if builder is not None:
        spec = f"{at}:{builder}".rstrip(":")
    request = TraceRequest(path, output, spec, format=layout_of(form), **options)
    result = trace(request, timeout=LIMIT)
    make_reproducible(output)
    return Filed(output, result, read_saved_model(output))


def datasets(path: Path, form: str, scratch: Path) -> dict[str, Any]:
    """Return the numeric arrays of the file by their path, read with h5py."""
    files = [path]
    if form in {"keras", "keras-deflated"}:
        with zipfile.ZipFile(path) as archive:
            archive.extract("model.weights.h5", scratch)
        files = [scratch / "model.weights.h5"]
    elif form == "keras-directory":
        files = [path / "model.weights.h5"]
    elif form == "weights-json":
        files = sorted(path.parent.glob("m_*.weights.h5"))
        assert len(files) > 1
    found: dict[str, Any] = {}
    for file in files:
        with h5py.File(file) as opened:
            opened.visititems(
                lambda name, thing: (
                    found.update({name: thing[()]}) if isinstance(thing, h5py.Dataset) else None
                )
            )
    return found


def same_bytes(one: Any, other: Any) -> bool:
    """Return whether two arrays have one shape and the same bytes."""
    one, other = np.asarray(one), np.asarray(other)
    return bool(one.shape == other.shape and one.tobytes() == other.tobytes())
