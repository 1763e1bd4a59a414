"""The readers against files that TensorFlow wrote and what TensorFlow reads in them."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mstore.domain.tensors import DTYPES, Tensor, TensorTable
from mstore.formats import wire
from mstore.formats.bundle_writer import BundleWriter, encode_index
from mstore.formats.detect import find_checkpoints, find_step, step_in_name
from mstore.formats.farmhash import fingerprint64
from mstore.formats.saved_model import SavedModelInfo, read_saved_model
from mstore.formats.sstable import read_entries
from mstore.formats.tensor_bundle import (
    decode_strings,
    index_path,
    read_graph,
    read_table,
    read_tensor,
    shard_paths,
)
from tests.formats.bundle_writer import Entry, header, write_table

HERE = Path(__file__).parent
NAMES = (
    *("keras_model", "all_dtypes", "narrow_dtypes", "variants", "slices", "shards", "many"),
    *("tables", "name_based", "saved_model"),
)
PARTITIONED = {"slices", "shards", "name_based"}
NUMBERS = {name: number for number, (name, _) in DTYPES.items()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    root = tmp_path_factory.mktemp("written")
    result = subprocess.run(
        [sys.executable, str(HERE / "formats_checkpoints.py"), str(root)],
        capture_output=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stderr.decode()[-4000:]
    listing: Mapping[str, Any] = json.loads((root / "listing.json").read_text())
    assert sorted(listing) == sorted(NAMES)
    return listing


def prefix_of(written: Mapping[str, Any], name: str) -> Path:
    return Path(written[name]["prefix"])


def shown(prefix: Path, table: TensorTable, tensor: Tensor) -> dict[str, Any]:
    raw = read_tensor(prefix, table, tensor)
    if tensor.dtype == "string":
        content: Any = [item.hex() for item in decode_strings(tensor, raw, path="x")]
    else:
        content = raw.hex()
    return {"dtype": tensor.dtype, "shape": list(tensor.shape), "raw": content}


@pytest.mark.parametrize("name", NAMES)
def test_the_tensors_are_those_that_tensorflow_reads(written: Mapping[str, Any], name: str) -> None:
    prefix = prefix_of(written, name)
    table = read_table(prefix)
    seen = {
        tensor.name: shown(prefix, table, tensor)
        for tensor in table
        # TensorFlow puts partitioned variables together; slices are compared below.
        if not tensor.sliced and not tensor.key.startswith(b"\0") and tensor.dtype != "variant"
    }
    expected = written[name]["tensors"]
    if name != "narrow_dtypes":
        heads = {tensor.name for tensor in table if tensor.sliced}
        assert seen == {key: value for key, value in expected.items() if key not in heads}
        assert heads <= expected.keys()
    assert len(table) > 0


@pytest.mark.parametrize("name", NAMES)
def test_an_index_is_written_again_byte_for_byte(written: Mapping[str, Any], name: str) -> None:
    prefix = prefix_of(written, name)
    data = index_path(prefix).read_bytes()
    assert write_table(read_entries(data, path="x")) == data
    table = read_table(prefix)
    if any(tensor.sliced for tensor in table):
        return
    items = [(b"", header(table.num_shards))]
    for item in table:
        entry = Entry(
            NUMBERS[item.dtype], item.shape, item.shard, item.offset, item.size, item.crc32c
        )
        items.append((item.key, entry.encode()))
    assert write_table(items) == data


@pytest.mark.parametrize("name", ["slices", "shards", "name_based"])
def test_slices_put_together_are_the_variable(written: Mapping[str, Any], name: str) -> None:
    prefix = prefix_of(written, name)
    table = read_table(prefix)
    heads = [tensor for tensor in table if tensor.sliced]
    assert heads
    for head in heads:
        parts = [item for item in table if item.key.startswith(b"\0" + escaped(head.key))]
        stored = sorted(rows(b"".join(read_tensor(prefix, table, item) for item in parts)))
        expected = written[name]["tensors"][head.name]
        assert list(head.shape) == expected["shape"]
        assert stored == sorted(rows(bytes.fromhex(expected["raw"])))


def escaped(key: bytes) -> bytes:
    return key.replace(b"\xff", b"\xff\x00") + b"\0\1"


def rows(data: bytes) -> list[bytes]:
    """Cut float32 data into elements: slices along columns are not in row order."""
    return [data[at : at + 4] for at in range(0, len(data), 4)]


def test_variants_are_read_with_their_checksums(written: Mapping[str, Any]) -> None:
    prefix = prefix_of(written, "variants")
    table = read_table(prefix)
    assert [(item.dtype, item.shape) for item in table] == [("variant", ()), ("variant", (2,))]
    assert all(len(read_tensor(prefix, table, item)) == item.size for item in table)


def test_full_names_are_those_of_the_program(written: Mapping[str, Any]) -> None:
    prefix = prefix_of(written, "keras_model")
    names = {item.full_name for item in read_table(prefix)}
    assert names >= set(json.loads((prefix.parent / "names.json").read_text()))
    table = read_table(prefix_of(written, "many"))
    named = {
        item.name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE"): item.full_name for item in table
    }
    assert named["items/4321"] == "item_4321"


def test_sharded_checkpoints_have_several_data_files(written: Mapping[str, Any]) -> None:
    table = read_table(prefix_of(written, "shards"))
    assert table.num_shards == 3
    assert {item.shard for item in table} == {0, 1, 2}


def test_written_and_saved_checkpoints_differ_in_the_counter_alone(
    written: Mapping[str, Any],
) -> None:
    saved = prefix_of(written, "keras_model")
    both = [read_table(path) for path in (saved, saved.parent / "written")]
    contents = [{item.content for item in table.values} for table in both]
    assert contents[0] >= contents[1]
    assert all(read_graph(saved, table) is not None for table in both)


def test_steps_come_from_the_variables(written: Mapping[str, Any]) -> None:
    prefix = prefix_of(written, "keras_model")
    assert find_step(prefix, read_table(prefix)) == (1234, "step")
    prefix = prefix_of(written, "name_based")
    assert find_step(prefix, read_table(prefix)) == (77, "global_step")
    assert step_in_name(prefix) == 77
    prefix = prefix_of(written, "many")
    assert find_step(prefix, read_table(prefix)) is None


def test_state_files_lead_to_the_latest(written: Mapping[str, Any]) -> None:
    prefix = prefix_of(written, "keras_model")
    assert find_checkpoints(prefix.parent, latest=True) == [prefix]
    assert find_checkpoints(prefix.parent) == [prefix, prefix.parent / "written"]
    prefix = prefix_of(written, "name_based")
    old = prefix.parent / "old"  # a file of the V1 format, saved last
    assert find_checkpoints(prefix.parent, latest=True) == [old]
    assert find_checkpoints(old) == [old]
    assert find_checkpoints(prefix.parent / "model.ckpt-77.meta") == [prefix]


@pytest.fixture(scope="module")
def served(written: Mapping[str, Any]) -> SavedModelInfo:
    return read_saved_model(prefix_of(written, "saved_model").parents[1])


def test_the_signatures_are_those_that_tensorflow_loads(
    written: Mapping[str, Any], served: SavedModelInfo
) -> None:
    directory = prefix_of(written, "saved_model").parents[2]
    expected = json.loads((directory / "model.json").read_text())
    seen = {name: signature.to_json() for name, signature in served.signatures.items()}
    assert seen == expected["signatures"]
    assert served.tensorflow_version == expected["tensorflow"]
    assert served.tag_sets == [frozenset({"serve"})]


def test_the_variables_handles_and_assets_are_found(served: SavedModelInfo) -> None:
    # TensorFlow adds a scalar variable for the file name of the table.
    assert served.handles == {"kernel": 1, "bias": 1, "Variable": 1}
    assert sorted(served.variable_names.values()) == ["bias", "kernel"]
    assert served.variables is not None
    assert len(served.variables.values) == 2
    assert served.assets == ("vocabulary.txt",)
    assert {"MatMul", "Relu", "LookupTableFindV2", "HashTableV2"} <= served.ops
    assert not [name for name in served.ops if name.startswith("__inference")]


@pytest.mark.parametrize("name", sorted({*NAMES} - PARTITIONED))
def test_bundles_are_written_byte_for_byte_as_tensorflow_writes_them(
    written: Mapping[str, Any], name: str, tmp_path: Path
) -> None:
    prefix = prefix_of(written, name)
    table = read_table(prefix)
    assert encode_index(table) == index_path(prefix).read_bytes()
    copy = tmp_path / "copy"
    with BundleWriter(copy, table.num_shards) as writer:
        for tensor in sorted(table, key=lambda item: (item.shard, item.offset, item.key)):
            raw = read_tensor(prefix, table, tensor)
            known = tensor.crc32c if tensor.dtype in {"string", "variant"} else None
            writer.add(
                tensor.key, tensor.dtype, tensor.shape, [raw], shard=tensor.shard, crc32c=known
            )
        writer.finish()
    assert index_path(copy).read_bytes() == index_path(prefix).read_bytes()
    for shard, path in enumerate(shard_paths(prefix, table.num_shards)):
        assert shard_paths(copy, table.num_shards)[shard].read_bytes() == path.read_bytes()


def test_the_fingerprint_of_a_saved_model_names_the_index_as_farmhash_does(
    written: Mapping[str, Any],
) -> None:
    directory = prefix_of(written, "saved_model").parent.parent
    index = index_path(directory / "variables" / "variables").read_bytes()
    fields = dict(
        wire.fields(
            memoryview((directory / "fingerprint.pb").read_bytes()), wire.Budget(20), path="x"
        )
    )
    assert fields[5] == fingerprint64(index)


READS = """
import sys
import tensorflow as tf
reader = tf.train.load_checkpoint(sys.argv[1])
for key in sorted(reader.get_variable_to_shape_map()):
    print(key, reader.get_tensor(key).tolist())
"""


def test_tensorflow_reads_what_is_written_in_several_data_files(tmp_path: Path) -> None:
    prefix = tmp_path / "x"
    with BundleWriter(prefix, 3) as writer:
        writer.add(b"b", "int32", (2,), [b"\1\0\0\0", b"\2\0\0\0"], shard=2)
        writer.add_strings(b"a", (2, 1), [b"one", b""], shard=0)
        writer.add(b"c", "bool", (), [b"\1"], shard=2)
        writer.finish()
    done = subprocess.run(
        [sys.executable, "-c", READS, str(prefix)], capture_output=True, timeout=300, check=True
    )
    assert done.stdout.decode().splitlines() == ["a [[b'one'], [b'']]", "b [1, 2]", "c True"]
