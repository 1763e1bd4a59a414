"""Dyed checkpoints: every tensor can be told from every other and from the real one."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from mstore.convert.dye import Content, Dyes
from mstore.domain.tensors import DTYPES, OBJECT_GRAPH_KEY, Tensor, TensorTable
from mstore.formats.bundle_writer import BundleWriter
from mstore.formats.tensor_bundle import BundleFiles, read_tensor
from tests.formats.bundle_writer import node, object_graph

PLAIN = [name for name, size in DTYPES.values() if size and name != "bool"]
SIZES = dict(DTYPES.values())
GRAPH = object_graph(node({"w": 1}), node())

Value = tuple[str, tuple[int, ...], bytes]


def written(
    prefix: Path, values: Mapping[bytes, tuple[str, tuple[int, ...], bytes]]
) -> BundleFiles:
    with BundleWriter(prefix) as writer:
        for key in sorted(values):
            dtype, shape, raw = values[key]
            if dtype == "string":
                writer.add_strings(key, shape, [raw])
            else:
                writer.add(key, dtype, shape, [raw])
        writer.finish()
    return BundleFiles(prefix)


def zeros(dtype: str, *shape: int) -> Value:
    return dtype, shape, bytes(int(np.prod(shape, dtype=int)) * SIZES[dtype])


def dyed(dyes: Dyes, directory: Path) -> Iterator[BundleFiles]:
    for turn in range(dyes.rounds):
        dyes.write(directory / f"dyed-{turn}")
        yield BundleFiles(directory / f"dyed-{turn}")


def contents(real: BundleFiles, rounds: list[BundleFiles], key: bytes) -> list[Content]:
    found = [bundle.table.get(key) for bundle in (real, *rounds)]
    return [tensor.content for tensor in found if tensor is not None]


@pytest.mark.parametrize("dtype", PLAIN)
def test_equal_tensors_of_every_type_are_told_apart(dtype: str, tmp_path: Path) -> None:
    names = [b"%02d" % number for number in range(30)]
    values = {name: zeros(dtype) for name in names}
    values |= {b"row " + name: zeros(dtype, 7, 3) for name in names}
    real = written(tmp_path / "real", values)
    dyes = Dyes(real)
    rounds = list(dyed(dyes, tmp_path))
    assert len(rounds) == 1
    for key in values:
        assert dyes.found(contents(real, rounds, key)) == {key}
        assert not dyes.unmarked(key)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8, 40])
def test_switches_are_told_apart_in_several_rounds(count: int, tmp_path: Path) -> None:
    values: dict[bytes, Value] = {
        b"%02d" % number: ("bool", (), bytes([number % 2])) for number in range(count)
    }
    real = written(tmp_path / "real", values)
    dyes = Dyes(real)
    rounds = list(dyed(dyes, tmp_path))
    assert len(rounds) <= 1 + count.bit_length()
    for key in values:
        assert dyes.found(contents(real, rounds, key)) == {key}
        assert not dyes.unmarked(key)


def test_keys_types_shapes_and_the_object_graph_stay(tmp_path: Path) -> None:
    values = {
        OBJECT_GRAPH_KEY: ("string", (), GRAPH),
        b"empty": zeros("float32", 0, 4),
        b"w": zeros("float32", 300, 300),
        b"step": zeros("int64"),
    }
    real = written(tmp_path / "real", values)
    (bundle,) = dyed(Dyes(real), tmp_path)
    shapes = [(t.key, t.dtype, t.shape, t.size) for t in bundle.table]
    assert shapes == [(t.key, t.dtype, t.shape, t.size) for t in real.table]
    graph = bundle.table.get(OBJECT_GRAPH_KEY)
    assert graph is not None
    assert graph == real.table.get(OBJECT_GRAPH_KEY)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_numbers_are_finite_of_either_sign_and_of_many_sizes(dtype: str, tmp_path: Path) -> None:
    real = written(tmp_path / "real", {b"w": zeros(dtype, 300, 300)})
    (bundle,) = dyed(Dyes(real), tmp_path)
    raw = read_tensor(bundle.prefix, bundle.table, bundle.table.tensors[0])
    array = np.frombuffer(raw, dtype).reshape(300, 300)
    assert np.isfinite(array).all()
    assert 0.4 < (array < 0).mean() < 0.6
    assert (np.abs(array) < 0.1).any()
    assert (np.abs(array) > 10).any()
    for other in (array.T, array[::-1], np.abs(array), np.maximum(array, 0), np.clip(array, -1, 1)):
        assert not np.array_equal(other, array)
    assert len(Counter(array.ravel().tolist())) > (9_000 if dtype == "float16" else 89_000)


@pytest.mark.parametrize("value", [0.5, -0.5])
def test_a_single_number_gets_the_other_sign(value: float, tmp_path: Path) -> None:
    raw = np.float32(value).tobytes()
    real = written(tmp_path / "real", {b"gate": ("float32", (), raw)})
    (bundle,) = dyed(Dyes(real), tmp_path)
    made = read_tensor(bundle.prefix, bundle.table, bundle.table.tensors[0])
    assert np.frombuffer(made, "float32")[0] * value < 0


def test_strings_differ_in_every_element(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "real") as writer:
        for key in (b"a", b"b"):
            writer.add_strings(key, (3,), [b"", b"x", b"y"])
        writer.finish()
    real = BundleFiles(tmp_path / "real")
    dyes = Dyes(real)
    rounds = list(dyed(dyes, tmp_path))
    for key in (b"a", b"b"):
        assert dyes.found(contents(real, rounds, key)) == {key}


def test_what_cannot_be_dyed_is_named() -> None:
    class Reader:
        table = TensorTable((Tensor(b"list", "variant", (), 0, 0, 9, 1),))

        def pieces(self, tensor: Tensor) -> Iterator[bytes]:
            raise AssertionError(tensor)

    assert [tensor.name for tensor in Dyes(Reader()).opaque] == ["list"]
