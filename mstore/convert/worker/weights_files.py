"""The numbers in HDF5 files of weights, as HDF5 keeps them. Imports no TensorFlow."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np

from mstore.errors import DamagedFileError, InputError

Array = np.typing.NDArray[Any]

ALL = slice(None)
_BLOCK = 1 << 22
_FLOOR = 64 << 20
_EXPANSION = 1000
# h5py raises all of these for files that are cut short or changed.
_FAULTS = (OSError, RuntimeError, KeyError, ValueError, TypeError)


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
    """Return the numeric arrays in the files, sorted by file and key.

    Raises:
        DamagedFileError: if a file is no HDF5 file, or damaged.
        InputError: if a file leads to other files, or one array has two names.
    """
    found: dict[str, Dataset] = {}
    for index, path in enumerate(paths):
        try:
            with h5py.File(path, "r") as file:
                for dataset in _walk(file, index, path):
                    if found.setdefault(dataset.key, dataset) is not dataset:
                        raise InputError(f"{dataset.key} is in two files of {path.parent.name}")
        except _FAULTS as exc:
            raise DamagedFileError(
                f"{path.name} is no HDF5 file, or damaged: {exc}", path=str(path)
            ) from exc
    return sorted(found.values(), key=lambda dataset: (dataset.file, dataset.key))


def _walk(root: h5py.File, index: int, path: Path) -> Iterator[Dataset]:
    """Follow hard links alone: a copy of the file is written to, and nothing beside it may be."""
    seen = {h5py.h5o.get_info(root.id).addr}
    groups: list[h5py.Group] = [root]
    for group in groups:
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise _outside(path, f"{group.name}/{name} is a {type(link).__name__}")
            thing = group[name]
            address = h5py.h5o.get_info(thing.id).addr
            if address in seen:
                raise _outside(path, f"{thing.name} has two names")
            seen.add(address)
            if isinstance(thing, h5py.Group):
                groups.append(thing)
            elif isinstance(thing, h5py.Dataset) and thing.shape is not None:
                dtype = _dtype(thing)
                if dtype is not None:
                    _refuse_unreal(thing, path)
                    yield Dataset(index, thing.name.lstrip("/"), dtype, thing.shape)


def _dtype(dataset: h5py.Dataset) -> np.dtype[Any] | None:
    # Keras 3 writes bfloat16 as two opaque bytes and says so in an attribute.
    if dataset.dtype.kind == "V":
        mark = dataset.attrs.get("dtype")
        is_bfloat16 = dataset.dtype == np.dtype("V2") and mark in {"bfloat16", b"bfloat16"}
        return np.dtype(ml_dtypes.bfloat16) if is_bfloat16 else None
    kind: np.dtype[Any] = dataset.dtype.newbyteorder("=")
    return kind if kind.kind in "biufc" else None


def _refuse_unreal(dataset: h5py.Dataset, path: Path) -> None:
    if dataset.external or dataset.is_virtual:
        raise _outside(path, f"{dataset.name} is kept in another file")
    declared, stored = int(dataset.nbytes), int(dataset.id.get_storage_size())
    if declared > _FLOOR and declared > _EXPANSION * stored:
        raise InputError(
            f"{dataset.name} in {path.name} says that it has {declared} bytes, and {stored} are "
            "stored"
        )


def _outside(path: Path, what: str) -> InputError:
    return InputError(
        f"{path.name} is not as Keras writes weights: {what}",
        hint="save the weights again with model.save_weights()",
    )


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
