"""Brings the files that Keras writes into the form and under the names that Keras loads.

A file is known by its content, and Keras goes by its name.
"""

import json
import re
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import h5py

from mstore.convert.request import TraceRequest
from mstore.disk import os_errors
from mstore.errors import DamagedFileError, InputError

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_ASSETS = "assets"
_SHARD = re.compile(r"(?P<base>[^/\\]+)_\d{5,}\.weights\.h5")
_FLOOR = 1 << 28
_EXPANSION = 1000
_LONGEST_CONFIG = 1 << 28


@dataclass(frozen=True, slots=True)
class Staged:
    """A checkpoint that Keras can load.

    Attributes:
        weights: what ``load_weights`` takes: the file, or the index of shards.
        shards: the HDF5 files themselves.
        architecture: what ``load_model`` takes; None where there are only weights.
        config: configuration of the model; None where there are only weights.
        keras_version: version that wrote it, as far as it says.
    """

    weights: Path
    shards: tuple[Path, ...]
    architecture: Path | None = None
    config: Any = None
    keras_version: str = ""


def stage(request: TraceRequest, scratch: Path) -> Staged:
    """Make the checkpoint loadable.

    Args:
        request: names the file and its format.
        scratch: an empty directory; files are unpacked and linked there.

    Raises:
        DamagedFileError: if the file is damaged or not of its format.
        InputError: if it holds what Keras would not write.
    """
    path = request.checkpoint.absolute()
    with os_errors(f"cannot read {path}"):
        match request.format:
            case "keras":
                directory = scratch / "model"
                _unpack(path, directory)
                return _directory(directory, path)
            case "keras-directory":
                return _directory(path, path)
            case "weights-json":
                return _sharded(path, scratch)
            case "weights-h5":
                file = _linked(path, scratch / _WEIGHTS)
                return Staged(file, (file,))
            case _:
                return _legacy(_linked(path, scratch / "model.h5"), path)


def _linked(path: Path, link: Path) -> Path:
    link.symlink_to(path)
    return link


def _unpack(path: Path, directory: Path) -> None:
    """Unpack the members that Keras writes, each checked; others are left in the archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not _is_wanted(info, path):
                    continue
                target = directory / info.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(info) as source, target.open("xb") as file:
                    shutil.copyfileobj(source, file)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as exc:
        raise DamagedFileError(
            f"{path.name} is no archive of Keras, or damaged: {exc}", path=str(path)
        ) from exc
    except FileExistsError as exc:
        raise DamagedFileError(f"{path.name} holds a file twice", path=str(path)) from exc


def _is_wanted(info: zipfile.ZipInfo, path: Path) -> bool:
    parts = PurePosixPath(info.filename).parts
    if info.is_dir() or not (
        info.filename in {_CONFIG, _METADATA, _WEIGHTS} or (len(parts) > 1 and parts[0] == _ASSETS)
    ):
        return False
    if ".." in parts or "\\" in info.filename or "\0" in info.filename:
        raise InputError(f"{path.name} holds a file outside of its directory: {info.filename!r}")
    if info.file_size > max(_FLOOR, _EXPANSION * info.compress_size):
        raise InputError(
            f"{info.filename} in {path.name} would unpack to {info.file_size} bytes, from "
            f"{info.compress_size}"
        )
    return True


def _directory(directory: Path, path: Path) -> Staged:
    weights = directory / _WEIGHTS
    for file in (directory / _CONFIG, weights):
        if not file.is_file():
            raise DamagedFileError(
                f"{path.name} has no {file.name}, so it is no model of Keras", path=str(path)
            )
    metadata = directory / _METADATA
    version = _json(metadata, path).get("keras_version") if metadata.is_file() else None
    config = _json(directory / _CONFIG, path)
    return Staged(weights, (weights,), directory, config, str(version or ""))


def _json(file: Path, path: Path) -> Any:
    if file.stat().st_size > _LONGEST_CONFIG:
        raise InputError(f"{file.name} in {path.name} is too long to be a configuration")
    return _parsed(file.read_bytes(), file.name, path)


def _parsed(data: bytes | str, name: str, path: Path) -> Any:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise DamagedFileError(f"{name} in {path.name} is no JSON: {exc}", path=str(path)) from exc
    if not isinstance(value, dict):
        raise DamagedFileError(f"{name} in {path.name} is no JSON object", path=str(path))
    return value


def _sharded(path: Path, scratch: Path) -> Staged:
    names: dict[str, str] = {}
    index = _json(path, path)
    listed = index.get("weight_map")
    for files in listed.values() if isinstance(listed, dict) else ():
        for name in files if isinstance(files, list) else [files]:
            match = _SHARD.fullmatch(name) if isinstance(name, str) else None
            if match is None:
                raise InputError(f"{path.name} names {name!r}, which is no shard of weights")
            names[name] = match["base"]
    if len(set(names.values())) != 1:
        raise DamagedFileError(f"{path.name} does not list its shards", path=str(path))
    for name in names:
        if not path.with_name(name).is_file():
            raise InputError(f"{name}, which {path.name} lists, is not beside it")
        _linked(path.with_name(name), scratch / name)
    # Keras finds the first shard by the name of the index.
    weights = _linked(path, scratch / f"{next(iter(names.values()))}.weights.json")
    return Staged(weights, tuple(scratch / name for name in sorted(names)))


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
    return Staged(link, (link,), link, _parsed(config, "model_config", path), version)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""
