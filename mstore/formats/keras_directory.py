"""Reads directories that ``model.save(path, zipped=False)`` writes."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from mstore.disk import os_errors
from mstore.errors import InputError
from mstore.formats.files import open_regular, read_limited
from mstore.formats.hdf5 import read_contents
from mstore.formats.keras_layout import Part, make_layout, whole
from mstore.formats.keras_members import (
    ASSETS,
    CONFIG,
    MAX_JSON,
    METADATA,
    WEIGHTS,
    canonical,
    check_config,
    identity,
)
from mstore.formats.layout import Layout, Opened
from mstore.formats.windows import Window

MAX_ASSETS = 10_000
"""Files in ``assets/``."""

_MAX_DEPTH = 64
_PIECE = 1 << 20


def read_directory(path: Path) -> Layout | None:
    """Return the layout of an unzipped Keras model, None for another directory.

    Only the files that Keras writes belong to it: the configuration, the weights, the assets.

    Raises:
        DamagedFileError: one of its files is damaged.
        InputError: its assets are links, or its weights have something that is not accepted.
        MissingExtraError: h5py is not installed.
        SystemIOError: the operating system refused.
    """
    if not ((path / CONFIG).is_file() and (path / WEIGHTS).is_file()):
        return None
    check_config(read_limited(path / CONFIG, MAX_JSON), str(path / CONFIG))
    names = [WEIGHTS]
    with os_errors(f"cannot read {path}"):
        names += sorted(_assets(path))
    if (path / METADATA).is_file():
        metadata = path / METADATA
        canonical(METADATA, read_limited(metadata, MAX_JSON), str(metadata))
        names.append(METADATA)
    # Keras takes a directory for a model if it holds this file.
    names.append(CONFIG)
    weights = path / WEIGHTS
    with open_regular(weights) as file, os_errors(f"cannot read {weights}"):
        contents = read_contents(Window.whole(file.fileno(), str(weights)))
    return make_layout(
        "keras-directory",
        path,
        tuple(f"/{name}" for name in names),
        [Part(f"/{WEIGHTS}", contents, 0, whole(weights))],
        architecture="keras",
        identity=partial(_identity, path, tuple(names)),
    )


def _assets(directory: Path) -> Iterator[str]:
    """Yield the names of the files in ``assets/``, relative to the directory."""
    pending = [(directory / ASSETS, ASSETS)]
    if not pending[0][0].is_dir():
        return
    count = 0
    while pending:
        folder, name = pending.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                count += 1
                inner = f"{name}{entry.name}"
                if count > MAX_ASSETS or inner.count("/") > _MAX_DEPTH:
                    raise InputError(
                        f"{directory / ASSETS} holds more than the {MAX_ASSETS} files of a model",
                        hint="give the directory that model.save(path, zipped=False) wrote",
                    )
                if entry.is_dir(follow_symlinks=False):
                    pending.append((folder / entry.name, f"{inner}/"))
                elif entry.is_file(follow_symlinks=False):
                    yield inner
                else:
                    raise InputError(
                        f"{directory / inner} is a link or a device, not a file",
                        hint="put the file itself in its place",
                    )


def _identity(path: Path, names: tuple[str, ...], opened: Opened) -> bytes:
    members = {name: _pieces(opened[f"/{name}"]) for name in names}
    return identity("keras-directory", members, str(path))


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    offset = 0
    while piece := os.pread(file.fileno(), _PIECE, offset):
        offset += len(piece)
        yield piece
