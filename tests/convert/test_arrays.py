"""Arrays travel between the processes unchanged, and are compared with sense."""

from pathlib import Path

import numpy as np
import pytest

from mstore.convert import arrays

TEXTS = np.array([[b"", b"a\x00"], [b"\xff" * 300, "ü".encode()]], object)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.array(5, np.int64),
        np.zeros((0, 3), np.uint8),
        np.array([True, False]),
        np.array([1 + 2j]),
        TEXTS,
        np.empty((0,), object),
        np.array(b"one", object),
    ],
)
def test_arrays_survive(array: arrays.Array, tmp_path: Path) -> None:
    arrays.write(tmp_path / "a.npz", {"sig na/me": {"ke/y": array}, "empty": {}})
    read = arrays.read(tmp_path / "a.npz")
    assert read["empty"] == {}
    got = read["sig na/me"]["ke/y"]
    assert got.shape == array.shape
    assert got.dtype == array.dtype
    assert got.tolist() == array.tolist()


def test_text_arrives_as_bytes(tmp_path: Path) -> None:
    arrays.write(tmp_path / "a.npz", {"s": {"k": np.array(["x", "ü"])}})
    assert arrays.read(tmp_path / "a.npz")["s"]["k"].tolist() == [b"x", "ü".encode()]


def floats(*values: float) -> dict[str, arrays.Array]:
    return {"y": np.array(values, np.float32)}


@pytest.mark.parametrize(
    ("expected", "got", "word"),
    [
        (floats(1, 2), floats(1, 2), ""),
        (floats(1, np.nan), floats(1, np.nan), ""),
        (floats(np.inf), floats(np.inf), ""),
        (floats(1000), floats(1000.05), ""),
        (floats(1), floats(1.05), "differs by up to 0.05"),
        (floats(1), floats(np.nan), "differs"),
        (floats(1), floats(1, 2), "shape"),
        ({"y": np.array([1])}, {"y": np.array([2])}, "other values"),
        ({"y": TEXTS}, {"y": TEXTS}, ""),
        ({"y": TEXTS}, {"y": TEXTS[::-1]}, "other values"),
    ],
)
@pytest.mark.filterwarnings("ignore:All-NaN:RuntimeWarning")
def test_differences_are_named(
    expected: dict[str, arrays.Array], got: dict[str, arrays.Array], word: str
) -> None:
    how = arrays.difference(expected, got, 1e-4)
    assert (word in how) if word else not how
