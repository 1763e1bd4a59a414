"""Finds out, by content, what kind of checkpoint a path is, and reads its layout."""

from pathlib import Path

from mstore.domain.tensors import OBJECT_GRAPH_KEY
from mstore.errors import InputError
from mstore.formats.keras_members import CONFIG
from mstore.formats.keras_read import read_keras
from mstore.formats.layout import Layout
from mstore.formats.saved_model import FILE_NAME
from mstore.formats.saved_model_files import read_saved_model_layout
from mstore.formats.steps import find_step
from mstore.formats.tensor_bundle import index_path, read_table
from mstore.formats.tf1_bundle import read_tf1_bundle
from mstore.formats.tf1_v1 import read_tf1_v1, v1_suffixes


def primary_file(path: Path) -> Path:
    """Return the file without which ``path`` is no checkpoint; it is written last.

    Raises:
        InputError: there is no checkpoint.
    """
    for candidate in (index_path(path), path / FILE_NAME, path / CONFIG, path):
        if candidate.is_file():
            return candidate
    for suffix in v1_suffixes(path):
        return Path(f"{path}{suffix}")
    raise InputError(f"{path} is no checkpoint: {index_path(path).name} is not there")


def read_layout(path: Path) -> Layout:
    """Return the layout of the one checkpoint that ``path`` names.

    Args:
        path: the prefix of a TensorBundle, a file, or a directory.

    Raises:
        InputError: it is no checkpoint of a kind that is read.
        DamagedFileError: it is damaged.
        SystemIOError: the operating system refused.
    """
    if index_path(path).is_file():
        return _bundle(path)
    if (path / FILE_NAME).is_file():
        return read_saved_model_layout(path)
    if v1_suffixes(path):
        return read_tf1_v1(path)
    layout = read_keras(path)
    if layout is not None:
        return layout
    raise InputError(f"{path} is no checkpoint: {index_path(path).name} is not there")


def _meta(prefix: Path) -> tuple[str, ...]:
    return (".meta",) if Path(f"{prefix}.meta").is_file() else ()


def _bundle(prefix: Path) -> Layout:
    table = read_table(prefix)
    if table.get(OBJECT_GRAPH_KEY) is None:
        return read_tf1_bundle(prefix)
    return Layout(
        format="tensor-bundle",
        prefix=prefix,
        # A graph in an old style is of no use here, but it is one of the checkpoint's files.
        files=(*table.files, *_meta(prefix), ".index"),
        table=table,
        step=find_step(prefix, table),
    )
