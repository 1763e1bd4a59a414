"""Brings the files that Keras writes into the form and under the names that Keras loads.

A file is known by its content, and Keras goes by its name.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py

from mstore.convert.request import TraceRequest
from mstore.disk import os_errors
from mstore.errors import DamagedFileError
from mstore.formats.files import open_regular, read_limited
from mstore.formats.keras_members import ASSETS, CONFIG, MAX_JSON, METADATA, WEIGHTS, parse_object
from mstore.formats.keras_shards import listed_shards
from mstore.formats.windows import Window
from mstore.formats.zip_members import Archive


@dataclass(frozen=True, slots=True)
class Staged:
    """A checkpoint that Keras can load.

    Attributes:
        weights: what ``load_weights`` takes: the file, or the index of shards.
        shards: the HDF5 files themselves.
        architecture: what ``load_model`` takes; None where there are only weights.
        config: configuration of the model; None where there are only weights.
        original: what tf-keras's ``load_model`` takes, which knows no directories.
        keras_version: version that wrote it, as far as it says.
    """

    weights: Path
    shards: tuple[Path, ...]
    architecture: Path | None = None
    config: Any = None
    original: Path | None = None
    keras_version: str = ""


def stage(request: TraceRequest, scratch: Path) -> Staged:
    """Make the checkpoint loadable.

    Args:
        request: names the file and its format.
        scratch: an empty directory; files are unpacked and linked there.

    Raises:
        DamagedFileError: if the file is damaged or not of its format.
        InputError: if it holds what is not accepted.
    """
    path = request.checkpoint.absolute()
    with os_errors(f"cannot read {path}"):
        match request.format:
            case "keras":
                directory = scratch / "model"
                _unpack(path, directory)
                link = _linked(path, scratch / "model.keras")
                return replace(_directory(directory, path), original=link)
            case "keras-directory":
                return _directory(path, path)
            case "weights-json":
                return _sharded(path, scratch)
            case "weights-h5":
                file = _linked(path, scratch / WEIGHTS)
                return Staged(file, (file,))
            case _:
                return _legacy(_linked(path, scratch / "model.h5"), path)


def _linked(path: Path, link: Path) -> Path:
    link.symlink_to(path)
    return link


def _unpack(path: Path, directory: Path) -> None:
    """Unpack the members that Keras writes; others are left in the archive."""
    with open_regular(path) as file:
        archive = Archive(Window.whole(file.fileno(), str(path)))
        for member in archive.members:
            if member.name in {CONFIG, METADATA, WEIGHTS} or member.name.startswith(ASSETS):
                target = directory / member.name
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as output:
                    output.writelines(archive.stream(member))


def _directory(directory: Path, path: Path) -> Staged:
    weights = directory / WEIGHTS
    if not weights.is_file():
        raise DamagedFileError(f"{path} has no {WEIGHTS}", path=str(path))
    metadata = directory / METADATA
    version = _json(metadata, path).get("keras_version") if metadata.is_file() else None
    config = _json(directory / CONFIG, path)
    return Staged(weights, (weights,), directory, config, keras_version=str(version or ""))


def _json(file: Path, path: Path) -> dict[str, Any]:
    return parse_object(read_limited(file, MAX_JSON), str(path), file.name)


def _sharded(path: Path, scratch: Path) -> Staged:
    names = listed_shards(path)
    for name in names:
        _linked(path.with_name(name), scratch / name)
    # Keras finds the first shard by the name of the index.
    base = names[0].rpartition("_")[0]
    weights = _linked(path, scratch / f"{base}.weights.json")
    return Staged(weights, tuple(scratch / name for name in names))


def _legacy(link: Path, path: Path) -> Staged:
    try:
        with h5py.File(link, "r") as file:
            version = _text(file.attrs.get("keras_version"))
            config = _text(file.attrs.get("model_config"))
            if not version and "model_weights" in file:
                version = _text(file["model_weights"].attrs.get("keras_version"))
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as exc:
        raise DamagedFileError(
            f"{path.name} is no HDF5 file, or damaged: {exc}", path=str(path)
        ) from exc
    if not config:
        return Staged(link, (link,), keras_version=version)
    found = parse_object(config.encode(), str(path), "model_config")
    return Staged(link, (link,), link, found, link, version)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""
