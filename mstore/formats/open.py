"""Finds out, by content, what kind of checkpoint a path is, and reads its layout."""

from pathlib import Path

from mstore.domain.tensors import OBJECT_GRAPH_KEY
from mstore.errors import InputError
from mstore.formats.layout import Layout
from mstore.formats.saved_model import FILE_NAME
from mstore.formats.saved_model_files import read_saved_model_layout
from mstore.formats.steps import find_step
from mstore.formats.tensor_bundle import index_path, read_table


def primary_file(path: Path) -> Path:
    """Return the file without which ``path`` is no checkpoint; it is written last.

    Raises:
        InputError: there is no checkpoint.
    """
    for candidate in (index_path(path), path / FILE_NAME, path):
        if candidate.is_file():
            return candidate
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
    raise InputError(f"{path} is no checkpoint: {index_path(path).name} is not there")


def _bundle(prefix: Path) -> Layout:
    table = read_table(prefix)
    meta = prefix.with_name(f"{prefix.name}.meta").is_file()
    return Layout(
        format="tensor-bundle" if table.get(OBJECT_GRAPH_KEY) else "tf1-bundle",
        prefix=prefix,
        files=(*table.files, *((".meta",) if meta else ()), ".index"),
        table=table,
        step=find_step(prefix, table),
        architecture="meta-graph" if meta else None,
    )
