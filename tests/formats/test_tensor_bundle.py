import struct
from pathlib import Path

import pytest

from mstore.domain.tensors import OBJECT_GRAPH_KEY, Tensor, TensorTable
from mstore.errors import DamagedFileError, Error, InputError
from mstore.formats.slices import slice_key
from mstore.formats.tensor_bundle import (
    decode_strings,
    parse_index,
    read_graph,
    read_index,
    read_table,
    read_tensor,
    shard_name,
    shard_paths,
)
from tests.formats.bundle_writer import (
    FLOAT32,
    INT64,
    STRING,
    SUFFIX,
    Entry,
    Value,
    header,
    message,
    node,
    number,
    object_graph,
    small_values,
    varint,
    write_bundle,
    write_index,
    write_table,
)


def damage(data: bytes) -> str:
    """Return the words in which an index is refused."""
    with pytest.raises(DamagedFileError) as caught:
        parse_index(data, path="some.index")
    assert caught.value.path == "some.index"
    assert caught.value.message.startswith("some.index is damaged: ")
    assert caught.value.hint
    return caught.value.message


def intact(prefix: Path, table: TensorTable, tensor: Tensor) -> bool:
    try:
        read_tensor(prefix, table, tensor)
    except DamagedFileError:
        return False
    return True


def test_a_checkpoint_is_read_with_names_from_the_object_graph(tmp_path: Path) -> None:
    prefix = write_bundle(tmp_path / "ckpt-1", small_values())
    table = read_table(prefix)
    assert [(item.name, item.dtype, item.shape, item.full_name) for item in table] == [
        ("_CHECKPOINTABLE_OBJECT_GRAPH", "string", (), None),
        ("step/.ATTRIBUTES/VARIABLE_VALUE", "int64", (), "counter"),
        ("w/.ATTRIBUTES/VARIABLE_VALUE", "float32", (2, 3), "dense/kernel"),
        ("words/.ATTRIBUTES/VARIABLE_VALUE", "string", (3,), "vocabulary"),
    ]
    weight = table.get(b"w" + SUFFIX)
    assert weight is not None
    assert read_tensor(prefix, table, weight) == struct.pack("<6f", *range(6))
    words = table.get(b"words" + SUFFIX)
    assert words is not None
    raw = read_tensor(prefix, table, words)
    assert decode_strings(words, raw, path="x") == [b"one", b"", b"three" * 40]


def test_the_graph_of_a_checkpoint_is_read(tmp_path: Path) -> None:
    prefix = write_bundle(tmp_path / "ckpt-1", small_values())
    graph = read_graph(prefix, read_index(prefix))
    assert graph is not None
    assert dict(graph.nodes[0].children) == {"w": 1, "step": 2, "words": 3}


def test_a_name_based_checkpoint_has_no_full_names(tmp_path: Path) -> None:
    prefix = write_bundle(tmp_path / "model.ckpt-7", {b"w": Value(FLOAT32, (1,), bytes(4))})
    table = read_table(prefix)
    assert [item.full_name for item in table] == [None]
    assert read_graph(prefix, table) is None


def test_several_shards_are_read(tmp_path: Path) -> None:
    values = {
        b"a": Value(FLOAT32, (2,), bytes(8), shard=0),
        b"b": Value(INT64, (), struct.pack("<q", -5), shard=2),
        b"c": Value(FLOAT32, (0, 4), b"", shard=1),
    }
    prefix = write_bundle(tmp_path / "x.y", values, num_shards=3)
    table = read_table(prefix)
    assert table.num_shards == 3
    assert [item.shard for item in table] == [0, 2, 1]
    assert read_tensor(prefix, table, table.tensors[1]) == struct.pack("<q", -5)
    assert [path.name for path in shard_paths(prefix, 3)] == [
        shard_name("x.y", shard, 3) for shard in range(3)
    ]
    assert all(path.is_file() for path in shard_paths(prefix, 3))


def test_many_blocks_are_read(tmp_path: Path) -> None:
    values = {b"layer/%04d" % at: Value(INT64, (), struct.pack("<q", at)) for at in range(500)}
    prefix = write_bundle(tmp_path / "x", values, block_size=256)
    table = read_table(prefix)
    assert [item.key for item in table] == sorted(values)
    assert read_tensor(prefix, table, table.tensors[123]) == struct.pack("<q", 123)


def partitioned() -> tuple[dict[bytes, Entry], dict[bytes, Value]]:
    first, second = [(0, 2), (0, None)], [(2, 1), (0, None)]
    heads = {b"part": Entry(FLOAT32, (3, 2), slices=[first, second])}
    values = {
        slice_key(b"part", [(0, 2), (0, -1)]): Value(FLOAT32, (2, 2), bytes(16)),
        slice_key(b"part", [(2, 1), (0, -1)]): Value(FLOAT32, (1, 2), bytes(8)),
    }
    return heads, values


def test_partitioned_variables_are_read(tmp_path: Path) -> None:
    heads, values = partitioned()
    prefix = write_bundle(tmp_path / "x", values, heads=heads)
    table = read_table(prefix)
    head = table.get(b"part")
    assert head is not None
    assert (head.sliced, head.size, head.shape) == (True, 0, (3, 2))
    assert [item.shape for item in table.values] == [(2, 2), (1, 2)]
    assert table.nbytes == 24
    assert read_tensor(prefix, table, head) == b""


def test_a_missing_slice_is_damage(tmp_path: Path) -> None:
    heads, values = partitioned()
    values.pop(min(values))
    prefix = write_bundle(tmp_path / "x", values, heads=heads)
    with pytest.raises(DamagedFileError, match="a slice of part is missing"):
        read_table(prefix)


def test_a_slice_of_another_shape_is_damage(tmp_path: Path) -> None:
    heads, values = partitioned()
    values[min(values)] = Value(FLOAT32, (4,), bytes(16))
    prefix = write_bundle(tmp_path / "x", values, heads=heads)
    with pytest.raises(DamagedFileError, match="another type or shape"):
        read_table(prefix)


@pytest.mark.parametrize("extents", [[(0, 4), (0, None)], [(3, 1), (0, None)], [(0, 2)]])
def test_a_slice_outside_the_shape_is_damage(extents: list[tuple[int, int | None]]) -> None:
    index = write_index({b"part": Entry(FLOAT32, (3, 2), slices=[extents])})
    assert "a slice outside its shape" in damage(index)


def test_keys_that_are_not_text_are_kept(tmp_path: Path) -> None:
    key = b"\x00\xff\xfe"
    prefix = write_bundle(tmp_path / "x", {key: Value(FLOAT32, (), bytes(4))})
    tensor = read_table(prefix).tensors[0]
    assert tensor.key == key
    assert tensor.name == "\x00\\xff\\xfe"


def test_no_index_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        read_table(tmp_path / "nothing")


def test_a_missing_data_file_is_named(tmp_path: Path) -> None:
    prefix = write_bundle(tmp_path / "x", small_values())
    path = shard_paths(prefix, 1)[0]
    path.unlink()
    with pytest.raises(DamagedFileError, match=r"x\.data-00000-of-00001 is damaged: it is missing"):
        read_table(prefix)
    table = read_index(prefix)
    with pytest.raises(DamagedFileError, match="missing"):
        read_tensor(prefix, table, table.tensors[0])


def test_a_directory_in_place_of_a_data_file_is_damage(tmp_path: Path) -> None:
    prefix = write_bundle(tmp_path / "x", small_values())
    path = shard_paths(prefix, 1)[0]
    path.unlink()
    path.mkdir()
    with pytest.raises(DamagedFileError):
        read_table(prefix)


def test_a_data_file_cut_short_names_the_tensor(tmp_path: Path) -> None:
    prefix = write_bundle(tmp_path / "x", small_values())
    path = shard_paths(prefix, 1)[0]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedFileError, match=r"words/\.ATTRIBUTES/VARIABLE_VALUE ends at byte"):
        read_table(prefix)
    table = read_index(prefix)
    with pytest.raises(DamagedFileError, match="it ends within words"):
        read_tensor(prefix, table, table.tensors[-1])


def test_every_flipped_byte_of_the_data_is_found(tmp_path: Path) -> None:
    prefix = write_bundle(tmp_path / "x", small_values())
    path = shard_paths(prefix, 1)[0]
    sound = path.read_bytes()
    for position in range(len(sound)):
        path.write_bytes(sound[:position] + bytes([sound[position] ^ 0x10]) + sound[position + 1 :])
        table = read_index(prefix)
        broken = [tensor for tensor in table if not intact(prefix, table, tensor)]
        assert [item.offset <= position < item.offset + item.size for item in broken] == [True]


def test_every_flipped_byte_of_the_index_is_found(tmp_path: Path) -> None:
    heads, values = partitioned()
    prefix = write_bundle(tmp_path / "x", {**small_values(), **values}, heads=heads)
    sound = (tmp_path / "x.index").read_bytes()
    for position in range(len(sound)):
        for flip in (0x01, 0x80, 0xFF):
            broken = bytearray(sound)
            broken[position] ^= flip
            with pytest.raises(DamagedFileError):
                parse_index(bytes(broken), path=str(prefix))


def test_every_truncation_of_the_index_is_found(tmp_path: Path) -> None:
    write_bundle(tmp_path / "x", small_values())
    sound = (tmp_path / "x.index").read_bytes()
    for size in range(len(sound)):
        damage(sound[:size])
    damage(sound + b"\0")


def test_an_empty_checkpoint_has_no_tensors() -> None:
    assert len(parse_index(write_index({}), path="x")) == 0


def test_a_big_endian_checkpoint_is_refused_in_words() -> None:
    assert "big-endian" in damage(write_table([(b"", header(endianness=1))]))
    assert "byte order" in damage(write_table([(b"", header(endianness=2))]))


def test_a_newer_format_is_refused_in_words() -> None:
    assert "newer version" in damage(write_table([(b"", header(version=number(2, 2)))]))
    assert "newer version" in damage(write_table([(b"", header(version=message(3, b"\x01")))]))


@pytest.mark.parametrize("shards", [0, -1, 2**31 - 1])
def test_an_impossible_number_of_shards_is_damage(shards: int) -> None:
    assert f"{shards} data files" in damage(write_table([(b"", header(shards))]))


def test_a_table_without_header_is_damage() -> None:
    assert "header" in damage(write_table([(b"a", Entry(FLOAT32, (), 0, 0, 4).encode())]))
    assert "header" in damage(write_table([]))
    assert "header does not parse" in damage(write_table([(b"", b"\xff")]))


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (Entry(0, ()), "unknown type 0"),
        (Entry(99, ()), "unknown type 99"),
        (Entry(20, ()), "unknown type 20"),
        (Entry(FLOAT32, (2,), size=4), "cannot take 4 bytes"),
        (Entry(FLOAT32, (2**40, 2**40), size=4), "cannot take"),
        (Entry(FLOAT32, (2**62,), size=2**62), "cannot take"),
        (Entry(FLOAT32, (-1,), size=4), "no possible shape"),
        (Entry(FLOAT32, (1,) * 255, size=4), "no possible shape"),
        (Entry(FLOAT32, (), shard=1, size=4), "data file 1 of 1"),
        (Entry(FLOAT32, (), shard=-1, size=4), "data file -1 of 1"),
        (Entry(FLOAT32, (), offset=-4, size=4), "outside any file"),
        (Entry(FLOAT32, (), size=-4), "outside any file"),
        (Entry(FLOAT32, (1,), offset=2**63 - 2, size=4), "outside any file"),
        (Entry(STRING, (5,), size=8), "cannot take 8 bytes"),
        (Entry(21, (5,), size=8), "cannot take 8 bytes"),
        (Entry(29, (5,), size=9), "cannot take 9 bytes"),
        (Entry(FLOAT32, (2,), size=8, slices=[[(0, 1)]]), "cannot take 8 bytes"),
    ],
)
def test_impossible_entries_are_damage(entry: Entry, words: str) -> None:
    assert words in damage(write_index({b"a": entry}))


def test_an_entry_that_does_not_parse_is_damage() -> None:
    index = write_table([(b"", header()), (b"a", b"\x0a\xff\xff\xff\xff\x7f")])
    assert "does not parse" in damage(index)


def test_an_unknown_rank_is_damage() -> None:
    entry = number(1, FLOAT32) + message(2, number(3, 1)) + number(5, 4)
    assert "no possible shape" in damage(write_table([(b"", header()), (b"a", entry)]))


def test_overlapping_tensors_are_damage() -> None:
    entries = {b"a": Entry(FLOAT32, (2,), size=8), b"b": Entry(FLOAT32, (), offset=4, size=4)}
    assert "a and b overlap" in damage(write_index(entries))


def test_hostile_names_are_shown_short_and_printable() -> None:
    words = damage(write_index({b"\x1b[31m" + b"k" * 5000: Entry(99)}))
    assert "\\x1b[31mkkk" in words
    assert words.isprintable()
    assert len(words) < 400


def test_tensors_of_no_bytes_may_share_an_offset() -> None:
    entries = {b"a": Entry(FLOAT32, (2,), size=8), b"b": Entry(FLOAT32, (0,), offset=4)}
    assert len(parse_index(write_index(entries), path="x")) == 2


@pytest.mark.parametrize(
    "graph",
    [
        object_graph(node({"child": 7})),
        object_graph(node({"child": -1})),
        object_graph(node(slots=[(0, "m", 9)])),
        b"\x0a\xff",
        message(1, b"\x12\x03\x0a\xff\xff"),
        varint(1 << 3) + b"\x01",
    ],
)
def test_a_damaged_object_graph_is_found(tmp_path: Path, graph: bytes) -> None:
    values = {OBJECT_GRAPH_KEY: Value(STRING, (), [graph])}
    with pytest.raises(DamagedFileError) as caught:
        read_table(write_bundle(tmp_path / "x", values))
    assert "data-00000" in caught.value.path


def test_an_object_graph_of_another_type_is_damage(tmp_path: Path) -> None:
    values = {OBJECT_GRAPH_KEY: Value(FLOAT32, (), bytes(4))}
    with pytest.raises(DamagedFileError, match="object graph"):
        read_table(write_bundle(tmp_path / "x", values))


def test_strings_that_do_not_fill_their_bytes_are_damage(tmp_path: Path) -> None:
    prefix = write_bundle(tmp_path / "x", {b"s": Value(STRING, (2,), [b"ab", b"c"])})
    tensor = read_index(prefix).tensors[0]
    for raw in (b"\x02\x01____abcd", b"\x02\x01____ab", b"\x02", b"\xff" * 12):
        with pytest.raises(Error):
            decode_strings(tensor, raw, path="x")
