"""Dyed weights tell a plain copy of a dataset from everything else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from mstore.convert.worker.constants import Snapshot
from mstore.convert.worker.dyeing import Dyes, Landed, find_sources
from mstore.convert.worker.live import Weight
from mstore.convert.worker.weights_files import Dataset, list_datasets, read

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
KINDS = ["?", "i1", "u1", "f2", BFLOAT16, "f4", "f8", "i4", "i8", "u8", "c8"]
Values = dict[str, Any]


def landed(
    tmp_path: Path, stored: Values, variables: dict[str, Any], load: Callable[[Values], Values]
) -> tuple[Landed, dict[int, str]]:
    """Write the datasets, load dyed copies by ``load``, and return what was seen."""
    path, copy = tmp_path / "real.h5", tmp_path / "dyed.h5"
    with h5py.File(path, "w") as file:
        for key, value in stored.items():
            made = file.create_dataset(key, data=value)
            if value.dtype == BFLOAT16:
                made.attrs["dtype"] = "bfloat16"
    datasets = list_datasets([path])
    made = {name: Weight(tf.Variable(value), name) for name, value in variables.items()}

    def load_copy() -> None:
        with h5py.File(copy) as file:
            for name, value in load({d.key: read(file, d) for d in datasets}).items():
                made[name].variable.assign(value)

    weights = list(made.values())
    found = find_sources(weights, datasets, [path], [copy], load_copy, Snapshot(weights))
    with h5py.File(path) as file:  # the real file is as it was
        for dataset in datasets:
            assert read(file, dataset).tobytes() == stored[dataset.key].tobytes()
    return found, {weight.key: name for name, weight in made.items()}


def sources(found: Landed, names: dict[int, str]) -> dict[str, str]:
    return {names[key]: dataset.key for key, dataset in found.sources.items()}


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_equal_datasets_of_every_type_are_told_apart(kind: Any, tmp_path: Path) -> None:
    zeros = np.zeros((3, 3), kind)
    stored = {f"layers/{index}/vars/0": zeros for index in range(40)}
    variables = {f"v{index}": zeros for index in range(40)}
    order = np.random.default_rng(1).permutation(40)
    found, names = landed(
        tmp_path,
        stored,
        variables,
        lambda read: {f"v{v}": read[f"layers/{d}/vars/0"] for v, d in enumerate(order)},
    )
    expected = {f"v{v}": f"layers/{d}/vars/0" for v, d in enumerate(order)}
    assert sources(found, names) == expected
    assert not found.mixed


@pytest.mark.parametrize(
    "change",
    [
        np.transpose,
        lambda value: value[::-1],
        lambda value: value * 2,
        lambda value: np.concatenate([value[:1], value[:2]]),
        lambda value: np.where(np.eye(3, dtype=bool), value, 0),
        lambda value: value + 1,
    ],
)
@pytest.mark.parametrize("kind", ["f4", "i1"])
def test_what_is_no_plain_copy_is_mixed(
    change: Callable[[Any], Any], kind: str, tmp_path: Path
) -> None:
    ones = np.ones((3, 3), kind)
    found, names = landed(
        tmp_path,
        {"a": ones, "b": ones},
        {"x": ones, "y": ones},
        lambda read: {"x": change(read["a"]).astype(kind), "y": read["b"]},
    )
    assert sources(found, names) == {"y": "b"}
    assert [names[key] for key in found.mixed] == ["x"]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_scalar_that_is_not_loaded_is_found_whatever_it_holds(kind: Any, tmp_path: Path) -> None:
    scalars = {f"s{value}": np.array(value % 2).astype(kind) for value in range(4)}
    held = {f"v{value}": np.array(value).astype(kind) for value in (0, 1)}
    found, names = landed(tmp_path, scalars, held, lambda _read: {})
    assert sources(found, names) == {}
    assert not found.mixed


def test_a_cast_is_no_plain_copy(tmp_path: Path) -> None:
    found, names = landed(
        tmp_path,
        {"a": np.ones(4, "f4")},
        {"x": np.ones(4, BFLOAT16)},
        lambda read: {"x": read["a"].astype(BFLOAT16)},
    )
    assert sources(found, names) == {}
    assert [names[key] for key in found.mixed] == ["x"]


def test_numbers_of_large_datasets_take_more_digits() -> None:
    table = Dataset(0, "table", np.dtype("f4"), ((1 << 24) + 8, 2))
    other = Dataset(0, "other", np.dtype("f4"), (8, 2))
    dyes = Dyes.of([table, other])
    assert dyes.rounds == 3
    rows = slice((1 << 24), (1 << 24) + 8)
    first, second = (
        [dyes.paint(dataset, index, part).tolist() for index in range(3)]
        for dataset, part in ((table, rows), (other, slice(None)))
    )
    assert first[0] != second[0]
    assert first != second
