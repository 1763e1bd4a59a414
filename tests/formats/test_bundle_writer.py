"""Bundles that are written here, against the reader and an encoder of the tests' own."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mstore.domain.tensors import Tensor, TensorTable
from mstore.errors import DamagedFileError
from mstore.formats.bundle_writer import BundleWriter, encode_index, encode_strings
from mstore.formats.crc import Buffer, check_crc
from mstore.formats.sstable import read_entries
from mstore.formats.sstable_writer import write_table
from mstore.formats.tensor_bundle import (
    decode_strings,
    index_path,
    parse_index,
    read_index,
    read_tensor,
    shard_paths,
)
from tests.formats import bundle_writer as independent

KEYS = st.binary(min_size=1, max_size=40)
TENSORS = st.dictionaries(KEYS, st.binary(max_size=60), max_size=60)


def test_a_bundle_has_the_files_that_the_independent_encoder_gives(tmp_path: Path) -> None:
    values = independent.small_values()
    expected = independent.write_bundle(tmp_path / "expected", values)
    got = tmp_path / "got"
    types = {1: "float32", 9: "int64"}
    with BundleWriter(got) as writer:
        for key in sorted(values):
            value = values[key]
            if isinstance(value.raw, bytes):
                writer.add(key, types[value.dtype], tuple(value.shape), [value.raw])
            else:
                writer.add_strings(key, tuple(value.shape), value.raw)
        table = writer.finish()
    assert index_path(got).read_bytes() == index_path(expected).read_bytes()
    assert shard_paths(got, 1)[0].read_bytes() == shard_paths(expected, 1)[0].read_bytes()
    assert table == parse_index(index_path(got).read_bytes(), path="x")
    words = b"words" + independent.SUFFIX
    raw = read_tensor(got, table, table.tensors[-1])
    assert table.tensors[-1].key == words
    assert decode_strings(table.tensors[-1], raw, path="x") == [b"one", b"", b"three" * 40]


@given(TENSORS, st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_what_is_written_in_any_portions_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, contents: Mapping[bytes, bytes], shards: int
) -> None:
    prefix = tmp_path_factory.mktemp("bundle") / "x"
    with BundleWriter(prefix, shards) as writer:
        for number, (key, raw) in enumerate(contents.items()):
            pieces: list[Buffer] = [raw[:7], memoryview(raw)[7:]]
            writer.add(key, "uint8", (len(raw),), pieces, shard=number % shards)
        writer.finish()
    table = read_index(prefix)
    assert table.num_shards == shards
    assert {t.key: read_tensor(prefix, table, t) for t in table} == contents


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_strings_have_the_checksum_that_the_reader_checks(strings: list[bytes]) -> None:
    stored, crc = encode_strings(strings)
    assert (stored, crc) == independent.encode_strings(strings)
    tensor = Tensor(b"s", "string", (len(strings),), 0, 0, len(stored), crc)
    assert check_crc(tensor, stored)


@given(
    st.dictionaries(st.binary(max_size=30), st.binary(max_size=50), max_size=200),
    st.integers(40, 2000),
)
@settings(deadline=None)
def test_tables_of_many_blocks_are_read_back(items: dict[bytes, bytes], size: int) -> None:
    table = write_table(sorted(items.items()), block_size=size)
    assert dict(read_entries(table, path="x")) == items


def test_without_its_end_a_bundle_is_not_there(tmp_path: Path) -> None:
    prefix = tmp_path / "x"
    with BundleWriter(prefix) as writer:
        writer.add(b"w", "float32", (1,), [bytes(4)])
    assert not index_path(prefix).exists()


def test_a_data_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    prefix = tmp_path / "x"
    shard_paths(prefix, 2)[1].write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        BundleWriter(prefix, 2)
    assert shard_paths(prefix, 2)[1].read_bytes() == b"precious"


def test_an_index_of_a_partitioned_variable_is_refused() -> None:
    head = Tensor(b"v", "float32", (4,), 0, 0, 0, 0, None, True)
    with pytest.raises(ValueError, match="v is partitioned"):
        encode_index(TensorTable((head,)))


def test_a_wrong_checksum_given_by_the_caller_is_seen_by_the_reader(tmp_path: Path) -> None:
    prefix = tmp_path / "x"
    with BundleWriter(prefix) as writer:
        tensor = writer.add(b"w", "uint8", (3,), [b"abc"], crc32c=1)
        table = writer.finish()
    with pytest.raises(DamagedFileError, match="checksum"):
        read_tensor(prefix, table, tensor)
