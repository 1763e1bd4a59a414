"""Tells by a look at the first bytes whether a path is a Keras checkpoint, without reading it."""

import os
from pathlib import Path

from mstore.disk import os_errors
from mstore.formats.files import open_regular, read_up_to
from mstore.formats.hdf5 import MAGIC as HDF5_MAGIC
from mstore.formats.keras_members import CONFIG, WEIGHTS
from mstore.formats.keras_shards import map_of_shard
from mstore.formats.zip_members import MAGIC as ZIP_MAGIC

ENDINGS = (".keras", ".h5", ".hdf5", ".weights.json")
"""How the names of Keras files end."""


def keras_path(path: Path) -> Path | None:
    """Return what names the Keras checkpoint that ``path`` is or belongs to; None if it is none.

    Only the beginning is looked at: reading it may still find that it is something else. A file
    with the name of one counts too, so that what is wrong with it can be said.

    Args:
        path: a file or directory; a shard belongs to the ``.weights.json`` that lists it.

    Raises:
        DamagedFileError: it is a shard, and its map is damaged.
        SystemIOError: the operating system refused.
    """
    if os.path.isdir(path):  # noqa: PTH112 - does not raise for names that are too long
        return path if (path / CONFIG).is_file() and (path / WEIGHTS).is_file() else None
    if not os.path.isfile(path):  # noqa: PTH113 - the same
        return None
    with open_regular(path) as file, os_errors(f"cannot read {path}"):
        start = read_up_to(file, len(HDF5_MAGIC))
    if start == HDF5_MAGIC:
        return map_of_shard(path) or path
    named = path.name.endswith(ENDINGS)
    return path if named or (start.startswith(ZIP_MAGIC) and _may_be_archive(path)) else None


def _may_be_archive(path: Path) -> bool:
    """Return whether a zip file says near its end that it holds a Keras model's weights."""
    with open_regular(path) as file, os_errors(f"cannot read {path}"):
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - (1 << 16)))
        return WEIGHTS.encode() in read_up_to(file, 1 << 16)
