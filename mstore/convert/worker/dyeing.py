"""Finds out which variable is loaded from which dataset, whatever the code that loads it.

The weights are loaded from copies of their files in which each element holds a number of its own.
Where a number turns up is where its element goes: a variable is a plain copy of a dataset if, and
only if, it holds that dataset's numbers in their order. Types with few values show the number
digit by digit, in several rounds; in the last round the first digit is another one everywhere, so
that what does not change was not loaded.
"""

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mstore.convert.worker.constants import Snapshot, digest
from mstore.convert.worker.live import Weight
from mstore.convert.worker.weights_files import ALL, Array, Dataset, blocks_of, write
from mstore.disk import os_errors

_MANTISSA = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 32}
_WIDEST = 32
_SIGN = 63


@dataclass(frozen=True, slots=True)
class Dyes:
    """The numbers that datasets are given.

    Attributes:
        datasets: all of a checkpoint.
        starts: number of the first element of each, among those of its type.
        rounds: how many times the weights must be loaded.
    """

    datasets: Sequence[Dataset]
    starts: Mapping[str, int]
    rounds: int

    @classmethod
    def of(cls, datasets: Sequence[Dataset]) -> "Dyes":
        """Number the elements; only datasets of one type could be taken for each other."""
        counts: dict[str, int] = defaultdict(int)
        kinds = {dataset.dtype.name: dataset.dtype for dataset in datasets}
        starts, digits = {}, 1
        for dataset in datasets:
            starts[dataset.key] = counts[dataset.dtype.name]
            counts[dataset.dtype.name] += dataset.size
        for name, count in counts.items():
            digits = max(digits, _digits(count, _bits(kinds[name])))
        return cls(datasets, starts, digits + 1)

    def paint(self, dataset: Dataset, index: int, rows: slice = ALL) -> Array:
        """Return what a dataset, or some rows of it, holds in a round."""
        width = dataset.size // dataset.shape[0] if dataset.size and dataset.shape else 1
        first, last, _ = rows.indices(dataset.shape[0] if dataset.shape else 1)
        start = self.starts[dataset.key]
        numbers = np.arange(start + first * width, start + last * width)
        bits = _bits(dataset.dtype)
        top = (1 << bits) - 1
        if index == self.rounds - 1:
            values = top - (numbers & top)
        else:
            values = (numbers >> min(bits * index, _SIGN)) & top
        shape = (last - first, *dataset.shape[1:]) if dataset.shape else ()
        return values.astype(dataset.dtype).reshape(shape)


def _bits(dtype: np.dtype[Any]) -> int:
    """Return how many bits of a number an element holds exactly and without a sign."""
    if dtype.kind == "b":
        return 1
    if dtype.kind == "c":
        dtype = np.dtype(f"f{dtype.itemsize // 2}")
    if dtype.kind in "iu":
        return min(dtype.itemsize * 8 - (dtype.kind == "i"), _WIDEST)
    return _MANTISSA.get(dtype.name, 8)


def _digits(count: int, bits: int) -> int:
    return max(1, -(-max(count - 1, 0).bit_length() // bits))


@dataclass(slots=True)
class Landed:
    """Where the datasets landed.

    Attributes:
        sources: identity of each variable that is a plain copy to its dataset.
        mixed: identities of variables that were loaded, but are no plain copy of one dataset.
    """

    sources: dict[int, Dataset] = field(default_factory=dict)
    mixed: set[int] = field(default_factory=set)


def find_sources(
    weights: Iterable[Weight],
    datasets: Sequence[Dataset],
    files: Sequence[Path],
    copies: Sequence[Path],
    load: Callable[[], None],
    before: Snapshot,
) -> Landed:
    """Load dyed copies and see where each dataset lands.

    Args:
        weights: variables to look at.
        datasets: those in the files.
        files: the files of weights, which stay as they are.
        copies: where to write copies of them, one each.
        load: loads the weights from the copies.
        before: remembers what the variables hold meanwhile, which must not stay anywhere.
    """
    dyes = Dyes.of(datasets)
    watched = [weight for weight in weights if weight.dtype != "string"]
    at_first = {weight.key: digest(weight.variable.numpy()) for weight in watched}
    candidates = {weight.key: _alike(weight, datasets) for weight in watched}
    landed = Landed()
    with os_errors("cannot copy the weights to see where each of them goes"):
        for file, copy in zip(files, copies, strict=True):
            shutil.copyfile(file, copy)
        for index in range(dyes.rounds):
            _dye(dyes, index, copies)
            load()
            before.remember(watched)
            for weight in watched:
                value = weight.variable.numpy()
                if digest(value) != at_first[weight.key]:
                    landed.mixed.add(weight.key)
                candidates[weight.key] = [
                    dataset
                    for dataset in candidates[weight.key]
                    if _holds(value, dyes, dataset, index)
                ]
    for key, fitting in candidates.items():
        if len(fitting) == 1:
            landed.sources[key] = fitting[0]
            landed.mixed.discard(key)
    return landed


def _alike(weight: Weight, datasets: Sequence[Dataset]) -> list[Dataset]:
    shape = tuple(weight.variable.shape)
    return [d for d in datasets if d.dtype.name == weight.dtype and d.shape == shape]


def _holds(value: Array, dyes: Dyes, dataset: Dataset, index: int) -> bool:
    blocks = blocks_of(dataset)
    # A few elements rule out nearly all others.
    blocks = [slice(0, 1), *blocks] if dataset.shape else blocks
    return all(
        np.array_equal(value[rows] if dataset.shape else value, dyes.paint(dataset, index, rows))
        for rows in blocks
    )


def _dye(dyes: Dyes, index: int, copies: Sequence[Path]) -> None:
    for number, copy in enumerate(copies):
        with h5py.File(copy, "r+") as file:
            for dataset in dyes.datasets:
                if dataset.file == number:
                    for rows in blocks_of(dataset):
                        write(file, dataset, dyes.paint(dataset, index, rows), rows)
