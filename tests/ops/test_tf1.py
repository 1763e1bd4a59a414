"""Checkpoints of TensorFlow 1 are taken in, looked at, compared and given back."""

import struct
from pathlib import Path

import pytest

from mstore.errors import DamagedFileError
from mstore.store import Store
from tests.formats.bundle_writer import FLOAT32, INT64, Entry, Value, write_bundle
from tests.formats.tf1_writer import ordered_code, small_meta, small_v1, v1_entries, write_v1
from tests.ops.making import added


def v2_twin(directory: Path) -> Path:
    """Write a V2 checkpoint with some of the tensors of the small V1 one."""
    halves = [[(0, 2), (0, None)], [(2, 2), (0, None)]]
    values = {
        b"w": Value(FLOAT32, (2, 3), struct.pack("<6f", 0.5, 1, 2, 3, 4, 5)),
        b"ids": Value(INT64, (3,), struct.pack("<3q", 1, -1, 2**40)),
        b"global_step": Value(INT64, (), struct.pack("<q", 1200)),
        b"words": Value(7, (3,), [b"one", b"", b"three" * 40]),
        ordered_code(b"emb", halves[0]): Value(FLOAT32, (2, 2), struct.pack("<4f", 0, 1, 2, 3)),
        ordered_code(b"emb", halves[1]): Value(FLOAT32, (2, 2), struct.pack("<4f", 4, 5, 6, 7)),
    }
    heads = {b"emb": Entry(FLOAT32, (4, 2), slices=halves)}
    return write_bundle(directory / "v2.ckpt-5", values, heads=heads)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    prefix = write_v1(tmp_path / "elsewhere" / "model.ckpt-7", small_v1())
    Path(f"{prefix}.meta").write_bytes(small_meta())
    return prefix


def test_a_v1_checkpoint_comes_back_bit_for_bit(store: Store, old: Path, tmp_path: Path) -> None:
    checkpoint = added(store, old)
    assert (checkpoint.format, checkpoint.step) == ("tf1-v1", 1200)
    assert checkpoint.step_source == "variable"
    assert not added(store, old).new
    store.checkout("m", tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["model.ckpt-7", "model.ckpt-7.meta"]
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == old.with_name(name).read_bytes()
    assert store.verify().findings == ()


def test_several_v1_files_come_back_too(store: Store, tmp_path: Path) -> None:
    tensors = small_v1()
    for shard, names in enumerate((list(tensors)[:4], list(tensors)[4:])):
        held = {name: tensors[name] for name in names}
        write_v1(tmp_path / "in" / f"m-{shard:05d}-of-00002", held)
    added(store, tmp_path / "in" / "m")
    store.checkout("m", tmp_path / "out")
    for path in (tmp_path / "in").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


def test_equal_tensors_of_both_formats_are_equal(store: Store, old: Path, tmp_path: Path) -> None:
    added(store, old)
    v1 = {tensor.key: tensor for tensor in store.tensors("m")}
    added(store, v2_twin(tmp_path), step=2000)
    table = store.tensors("m")
    assert len(table) == 7
    for tensor in table:
        assert v1[tensor.key].full_name == tensor.full_name
        assert v1[tensor.key].sliced == tensor.sliced
        if not tensor.sliced:
            assert v1[tensor.key].content == tensor.content
    assert {tensor.full_name for tensor in table if tensor.full_name} == {
        "emb[0:2,:]",
        "emb[2:4,:]",
    }


def test_values_that_cannot_be_decoded_are_not_taken_in(store: Store, tmp_path: Path) -> None:
    from tests.formats.bundle_writer import write_table  # noqa: PLC0415

    entries = v1_entries(small_v1())
    at = next(at for at, (key, _) in enumerate(entries) if key.startswith(b"\x00ids"))
    entries[at] = (entries[at][0], entries[at][1].replace(b"\xff\x01", b"\x7f\x01"))
    path = tmp_path / "model.ckpt-7"
    path.write_bytes(write_table(entries))
    with pytest.raises(DamagedFileError, match="more or fewer values"):
        added(store, path)
