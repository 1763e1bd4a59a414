"""A SavedModel directory as a checkpoint: it is taken in as it is."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mstore.domain.tensors import TensorTable
from mstore.errors import InputError
from mstore.formats.layout import Layout
from mstore.formats.saved_model import FILE_NAME, read_saved_model, variables_prefix
from mstore.formats.steps import find_step

_PREFIX = "/variables/variables"
_MAX_FILES = 10_000


def read_saved_model_layout(directory: Path) -> Layout:
    """Return the layout of the SavedModel in ``directory``: its files and variables.

    Raises:
        InputError: there is no SavedModel, or it holds something that is no regular file.
        DamagedFileError: a file of it is damaged or missing.
        SystemIOError: the operating system refused.
    """
    info = read_saved_model(directory)
    table = info.variables if info.variables is not None else TensorTable(())
    table = replace(table, files=tuple(_PREFIX + name for name in table.files))
    files = sorted(_files(directory))
    files.remove(f"/{FILE_NAME}")
    return Layout(
        format="saved-model",
        prefix=directory,
        files=(*files, f"/{FILE_NAME}"),
        table=table,
        step=find_step(variables_prefix(directory), table),
        architecture="saved-model",
    )


def _files(directory: Path) -> Iterator[str]:
    """Yield the suffix of every file below ``directory``."""
    count = 0
    for folder, folders, names in os.walk(directory):
        folders.sort()
        for name in [*names, *(name for name in folders if (Path(folder) / name).is_symlink())]:
            path = Path(folder) / name
            if path.is_symlink() or not path.is_file():
                raise InputError(
                    f"{path} is no regular file, so the SavedModel {directory} is not complete",
                    hint="copy the directory with cp -rL, which follows links, and add the copy",
                )
            count += 1
            if count > _MAX_FILES:
                raise InputError(
                    f"{directory} holds more than {_MAX_FILES} files",
                    hint="give the directory of one SavedModel",
                )
            yield f"/{path.relative_to(directory)}"
