"""Recognises the formats of Keras by content and reads each into a `Layout`."""

import errno
import stat
from pathlib import Path

from mstore.disk import os_errors
from mstore.errors import InputError
from mstore.formats.files import damaged, open_regular, read_up_to
from mstore.formats.hdf5 import MAGIC as HDF5_MAGIC
from mstore.formats.hdf5 import read_contents
from mstore.formats.keras_archive import read_archive
from mstore.formats.keras_directory import read_directory
from mstore.formats.keras_layout import Part, make_layout, split_name, whole
from mstore.formats.keras_probe import ENDINGS
from mstore.formats.keras_shards import map_of_shard, read_shards
from mstore.formats.layout import Layout
from mstore.formats.windows import Window
from mstore.formats.zip_members import MAGIC as ZIP_MAGIC

__all__ = ["read_keras"]

_LEGACY = frozenset({"layer_names", "layer_names0", "model_config"})
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})


def read_keras(path: Path) -> Layout | None:
    """Return the layout of the Keras checkpoint at ``path``, None for anything else.

    Args:
        path: a ``.keras`` archive or directory, a ``.weights.h5``, a ``.weights.json`` or one of
            its shards, a legacy ``.h5``; known by what is in it, whatever its name.

    Raises:
        DamagedFileError: it is one of these, but damaged; or it has the name of one and is not.
        InputError: it has something that is not accepted, such as links to other files.
        MissingExtraError: it is one of these, and h5py is not installed.
        SystemIOError: the operating system refused.
    """
    with os_errors(f"cannot read {path}"):
        try:
            kind = stat.S_IFMT(path.stat().st_mode)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise
    if kind == stat.S_IFDIR:
        return read_directory(path)
    return _read_file(path) if kind == stat.S_IFREG else None


def _read_file(path: Path) -> Layout | None:
    with open_regular(path) as file, os_errors(f"cannot read {path}"):
        start = read_up_to(file, len(HDF5_MAGIC))
    if start.startswith(ZIP_MAGIC):
        return read_archive(path)
    if start == HDF5_MAGIC:
        whole_map = map_of_shard(path)
        return _read_hdf5(path) if whole_map is None else read_shards(whole_map)
    if start.startswith(b"{"):
        return read_shards(path)
    if path.name.endswith(ENDINGS):
        raise damaged(
            str(path), "by its name it is a Keras file, but it begins neither as HDF5 nor as zip"
        )
    return None


def _read_hdf5(path: Path) -> Layout:
    with open_regular(path) as file, os_errors(f"cannot read {path}"):
        contents = read_contents(Window.whole(file.fileno(), str(path)))
    legacy = bool(contents.attributes & _LEGACY)
    weights = any(b"vars" in item.key.split(b"/")[:-1] for item in contents.datasets)
    if not legacy and not weights:
        raise InputError(
            f"{path} is an HDF5 file, but holds no weights as Keras writes them",
            hint="give a file that model.save or model.save_weights wrote",
        )
    prefix, suffix = split_name(path)
    return make_layout(
        "legacy-h5" if legacy else "weights-h5",
        prefix,
        (suffix,),
        [Part(suffix, contents, 0, whole(path))],
        architecture="keras" if "model_config" in contents.attributes else None,
    )
