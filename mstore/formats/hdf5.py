"""Reads the tensors of an HDF5 file, without loading h5py into this process.

What is inside is told by a process of its own (`mstore.formats.hdf5_process`), whose answer is
checked like the file itself. Numbers that stand in the file as they would in a TensorBundle
(contiguous, little-endian) are taken from there; all others are decoded.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, BinaryIO

from mstore.domain.tensors import DTYPES
from mstore.formats import hdf5_process
from mstore.formats.files import damaged
from mstore.formats.windows import Window

MAGIC = b"\x89HDF\r\n\x1a\n"
"""The first bytes of an HDF5 file."""

_SIZES = {name: size for name, size in DTYPES.values() if size}
_MAX_DIMENSIONS = 32


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset of numbers.

    Attributes:
        key: its path in the file, without the first slash; not always UTF-8.
        dtype: TensorFlow's name of the element type.
        shape: length of each dimension.
        offset: where its bytes start in the window; None where they must be decoded.
        size: how many they are, decoded.
        name: name of the variable, where the file records one.
        value: of an integer scalar; else None.
    """

    key: bytes
    dtype: str
    shape: tuple[int, ...]
    offset: int | None
    size: int
    name: str | None
    value: int | None


@dataclass(frozen=True, slots=True)
class Contents:
    """What an HDF5 file holds.

    Attributes:
        datasets: its datasets of numbers, in order of their keys.
        labels: path of a group called ``vars`` to the name of the layer that it belongs to.
        attributes: names of the attributes of its root.
    """

    datasets: tuple[Dataset, ...]
    labels: Mapping[str, str]
    attributes: frozenset[str]

    @property
    def decoded(self) -> tuple[Dataset, ...]:
        """The datasets whose values have to be decoded, in the order in which `decode` gives them.

        Those without elements are among the others: there is nothing to decode.
        """
        return tuple(item for item in self.datasets if item.offset is None)


def read_contents(window: Window) -> Contents:
    """Return what the HDF5 file in the window holds, as `read_all` does."""
    return read_all([window])[0]


def read_all(windows: Sequence[Window]) -> list[Contents]:
    """Return what the HDF5 file in each window holds.

    Raises:
        DamagedFileError: one is damaged, cut short or no HDF5 file.
        InputError: one refers to other files, or has something else that is not accepted.
        MissingExtraError: h5py is not installed.
        SystemIOError: the operating system refused.
    """
    for window in windows:
        if window.read(0, len(MAGIC)) != MAGIC:
            raise damaged(window.path, "it does not begin as an HDF5 file does")
    answers = hdf5_process.examine(windows)
    return [_contents(*pair) for pair in zip(answers, windows, strict=True)]


def _contents(answer: Mapping[str, Any], window: Window) -> Contents:
    try:
        datasets = tuple(_dataset(item, window) for item in answer["datasets"])
        labels = {str(key): str(value) for key, value in answer["labels"].items()}
        attributes = frozenset(map(str, answer["attributes"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise hdf5_process.unsound_answer(window.path) from error
    _check_places(datasets, window)
    return Contents(datasets, labels, attributes)


def write_decoded(window: Window, contents: Contents, output: BinaryIO) -> None:
    """Write the values of `Contents.decoded`, in order, little-endian and in row-major order.

    Raises:
        DamagedFileError: they cannot be decoded.
        SystemIOError: the operating system refused.
    """
    size = sum(item.size for item in contents.decoded)
    if size:
        # Whoever counts or hashes what is written has the method `write` alone.
        for piece in hdf5_process.decode(window, size):  # noqa: FURB122
            output.write(piece)


def _dataset(item: Mapping[str, Any], window: Window) -> Dataset:
    key = str(item["path"]).encode("utf-8", "surrogateescape")
    dtype, shape = str(item["dtype"]), tuple(_length(n) for n in item["shape"])
    size = _length(item["size"])
    if dtype not in _SIZES or len(shape) > _MAX_DIMENSIONS:
        raise damaged(window.path, f"it has a dataset of the type {ascii(dtype)[:40]}")
    if math.prod(shape) * _SIZES[dtype] != size:
        raise damaged(window.path, "a dataset has another size than its shape says")
    return Dataset(
        key=key,
        dtype=dtype,
        shape=shape,
        offset=None if item["offset"] is None else _length(item["offset"]),
        size=size,
        name=None if item["name"] is None else str(item["name"]),
        value=None if item["value"] is None else int(item["value"]),
    )


def _length(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise ValueError("not a length")
    return value


def _check_places(datasets: Iterable[Dataset], window: Window) -> None:
    """Check that the datasets are in the file, apart from each other, each key there once."""
    items = list(datasets)
    if any(a.key >= b.key for a, b in pairwise(items)):
        raise hdf5_process.unsound_answer(window.path)
    places = sorted(
        (item.offset, item.size) for item in items if item.size and item.offset is not None
    )
    end = 0
    for offset, size in places:
        if offset < end:
            raise damaged(window.path, f"two of its datasets share the bytes at {offset}")
        end = offset + size
    if end > window.size:
        raise damaged(window.path, f"it has {window.size} bytes, a dataset ends at {end}")
