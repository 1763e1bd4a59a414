"""The numbers in HDF5 files of weights, as HDF5 keeps them. Imports no TensorFlow."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np

from mstore.formats.files import open_regular
from mstore.formats.hdf5 import read_contents
from mstore.formats.windows import Window

Array = np.typing.NDArray[Any]

ALL = slice(None)
_BLOCK = 1 << 22


@dataclass(frozen=True, slots=True)
class Dataset:
    """One array in a file of weights.

    Attributes:
        file: index of the file among those of the checkpoint.
        key: path in the file, without the slash in front.
        dtype: of its elements, as the variable has them that Keras wrote there.
        shape: length of each dimension.
    """

    file: int
    key: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __str__(self) -> str:
        """Return key, dtype and shape, for messages."""
        return f"{self.key} {self.dtype.name}{list(self.shape)}"


def list_datasets(paths: Sequence[Path]) -> list[Dataset]:
    """Return the numeric arrays in the files.

    A file is looked into by a process of its own, which refuses all that leads to other files or
    to the same bytes twice: copies of the files are written to.

    Raises:
        DamagedFileError: if a file is no HDF5 file, or damaged.
        InputError: if a file has something that is not accepted.
    """
    found = []
    for index, path in enumerate(paths):
        with open_regular(path) as file:
            contents = read_contents(Window.whole(file.fileno(), str(path)))
        found += [
            Dataset(
                index,
                item.key.decode("utf-8", "surrogateescape"),
                np.dtype(ml_dtypes.bfloat16 if item.dtype == "bfloat16" else item.dtype),
                item.shape,
            )
            for item in contents.datasets
        ]
    return found


def blocks_of(dataset: Dataset) -> list[slice]:
    """Return slices of rows that are small enough to be made in memory."""
    if not dataset.shape:
        return [ALL]
    height = max(1, _BLOCK * dataset.shape[0] // max(dataset.size, 1))
    return [slice(row, row + height) for row in range(0, dataset.shape[0], height)]


def read(file: h5py.File, dataset: Dataset) -> Array:
    """Return the elements."""
    value: Array = np.asarray(file[dataset.key][()])
    return value.view(dataset.dtype) if value.dtype.kind == "V" else value.astype(dataset.dtype)


def read_from(paths: Sequence[Path], dataset: Dataset) -> Array:
    """Return the elements, of one of the files."""
    with h5py.File(paths[dataset.file], "r") as file:
        return read(file, dataset)


def write(file: h5py.File, dataset: Dataset, value: Array, rows: slice) -> None:
    """Replace some rows of the elements."""
    target = file[dataset.key]
    stored = value.view(target.dtype) if target.dtype.kind == "V" else value
    target[rows if dataset.shape else ()] = stored
