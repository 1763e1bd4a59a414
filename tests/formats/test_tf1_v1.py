import io
import struct
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from mstore.domain.tensors import DECODED
from mstore.errors import DamagedFileError, InputError
from mstore.formats.layout import Layout
from mstore.formats.strings import decode_strings
from mstore.formats.tf1_v1 import read_tf1_v1, v1_prefix, v1_prefixes_in
from tests.formats.bundle_writer import encode_strings, message, number, write_table
from tests.formats.tf1_writer import (
    FLOAT32,
    INT8,
    INT64,
    STRING,
    Saved,
    small_meta,
    small_v1,
    tensor_proto,
    v1_entries,
    write_v1,
)


def contents(layout: Layout) -> dict[str, bytes]:
    """Return the bytes of each tensor, through the files and the decoded file."""
    with ExitStack() as stack:
        opened = {
            suffix: stack.enter_context(layout.path(suffix).open("rb", buffering=0))
            for suffix in layout.files
        }
        out = io.BytesIO()
        if layout.decode is not None:
            layout.decode(opened, out)
    files = {suffix: layout.path(suffix).read_bytes() for suffix in layout.files}
    files[DECODED] = out.getvalue()
    found = {}
    for tensor in layout.table.values:
        data = files[layout.table.files[tensor.shard]]
        found[tensor.full_name or tensor.name] = data[tensor.offset : tensor.offset + tensor.size]
    return found


def small(directory: Path, **changes: Saved) -> Path:
    tensors = small_v1() | {name.encode(): saved for name, saved in changes.items()}
    return write_v1(directory / "model.ckpt-1200", tensors)


def test_every_tensor_has_the_bytes_that_a_bundle_would_hold(tmp_path: Path) -> None:
    layout = read_tf1_v1(small(tmp_path))
    got = contents(layout)
    assert got["w"] == struct.pack("<6f", 0.5, 1, 2, 3, 4, 5)
    assert got["emb[0:2,:]"] == struct.pack("<4f", 0, 1, 2, 3)
    assert got["emb[2:4,:]"] == struct.pack("<4f", 4, 5, 6, 7)
    assert got["ids"] == struct.pack("<3q", 1, -1, 2**40)
    assert got["small"] == struct.pack("<3b", -128, 127, -3)
    assert got["flags"] == b"\x01\x00\x01"
    assert got["half"] == struct.pack("<2e", 1, -2)
    assert got["words"] == encode_strings([b"one", b"", b"three" * 40])[0]
    assert got["empty"] == b""


def test_the_layout_names_its_files_step_and_table(tmp_path: Path) -> None:
    prefix = small(tmp_path)
    Path(f"{prefix}.meta").write_bytes(small_meta())
    layout = read_tf1_v1(prefix)
    assert (layout.format, layout.files) == ("tf1-v1", (".meta", ""))
    assert (layout.checked, layout.architecture) == (False, "meta-graph")
    assert layout.step == (1200, "global_step")
    assert layout.table.files == ("", DECODED)
    head = layout.table.get(b"emb")
    assert head is not None
    assert (head.sliced, head.shape) == (True, (4, 2))
    assert {layout.table.files[t.shard] for t in layout.table if t.dtype == "float32"} == {""}
    assert [t.key for t in layout.table] == sorted(t.key for t in layout.table)


def test_strings_decode_to_a_tensor_that_the_other_readers_take(tmp_path: Path) -> None:
    layout = read_tf1_v1(small(tmp_path))
    tensor = layout.table.get(b"words")
    assert tensor is not None
    raw = contents(layout)["words"]
    assert decode_strings(tensor, raw, path="x") == [b"one", b"", b"three" * 40]


def test_a_file_of_raw_tensors_alone_has_nothing_to_decode(tmp_path: Path) -> None:
    layout = read_tf1_v1(write_v1(tmp_path / "m", {b"w": Saved(FLOAT32, (2,), [1, 2])}))
    assert layout.decode is None
    assert layout.table.files == ("",)
    assert layout.architecture is None
    assert layout.step is None


def test_many_small_blocks_and_one_long_run_of_integers_are_read(tmp_path: Path) -> None:
    values = [(at * 2_654_435_761) % 2**40 - 2**39 for at in range(300_000)]
    tensors = {b"n": Saved(INT64, (300_000,), values)}
    tensors |= {b"w%04d" % at: Saved(FLOAT32, (1,), [at]) for at in range(2000)}
    layout = read_tf1_v1(write_v1(tmp_path / "m", tensors, block_size=256))
    got = contents(layout)
    assert got["n"] == struct.pack("<300000q", *values)
    assert got["w1999"] == struct.pack("<f", 1999)


def test_a_slice_that_covers_its_variable_has_the_plain_name(tmp_path: Path) -> None:
    tensors = {b"v": Saved(FLOAT32, (2, 1), [1, 2], [[(0, 2), (0, None)]])}
    layout = read_tf1_v1(write_v1(tmp_path / "m", tensors))
    assert [(t.name, t.shape, t.sliced) for t in layout.table] == [("v", (2, 1), False)]


class TestSeveralFiles:
    def write(self, directory: Path, *, count: int = 2) -> Path:
        tensors = small_v1()
        names = sorted(tensors)
        for shard in range(count):
            held: Mapping[bytes, Saved] = {name: tensors[name] for name in names[shard::count]}
            write_v1(directory / f"m-{shard:05d}-of-{count:05d}", held)
        return directory / "m"

    def test_they_are_one_checkpoint(self, tmp_path: Path) -> None:
        layout = read_tf1_v1(self.write(tmp_path))
        assert layout.files == ("-00000-of-00002", "-00001-of-00002")
        whole = read_tf1_v1(small(tmp_path / "whole"))
        assert contents(layout) == contents(whole)
        assert layout.step == (1200, "global_step")

    def test_slices_of_one_variable_may_be_in_different_files(self, tmp_path: Path) -> None:
        for shard, at in enumerate((0, 2)):
            held = {b"e": Saved(FLOAT32, (4,), [at, at + 1], [[(at, 2)]])}
            write_v1(tmp_path / f"m-{shard:05d}-of-00002", held)
        got = contents(read_tf1_v1(tmp_path / "m"))
        assert got == {"e[0:2]": struct.pack("<2f", 0, 1), "e[2:4]": struct.pack("<2f", 2, 3)}

    def test_a_missing_one_is_an_error_and_not_a_smaller_checkpoint(self, tmp_path: Path) -> None:
        prefix = self.write(tmp_path)
        (tmp_path / "m-00001-of-00002").unlink()
        for path in (prefix, tmp_path / "m-00000-of-00002"):
            with pytest.raises(DamagedFileError, match="1 of 2"):
                v1_prefix(path)
        with pytest.raises(DamagedFileError, match="1 of 2"):
            read_tf1_v1(prefix)

    def test_two_sets_of_one_name_are_refused(self, tmp_path: Path) -> None:
        self.write(tmp_path, count=2)
        prefix = self.write(tmp_path, count=3)
        with pytest.raises(DamagedFileError, match="2 of 2 and 3 of 3"):
            read_tf1_v1(prefix)

    def test_contradicting_shapes_are_refused(self, tmp_path: Path) -> None:
        write_v1(tmp_path / "m-00000-of-00002", {b"e": Saved(FLOAT32, (4,), [1], [[(0, 1)]])})
        write_v1(tmp_path / "m-00001-of-00002", {b"e": Saved(FLOAT32, (5,), [1], [[(1, 1)]])})
        with pytest.raises(DamagedFileError, match="another type or shape"):
            read_tf1_v1(tmp_path / "m")


def test_a_checkpoint_is_found_by_any_of_its_names(tmp_path: Path) -> None:
    prefix = small(tmp_path)
    Path(f"{prefix}.meta").write_bytes(small_meta())
    TestSeveralFiles().write(tmp_path)
    assert v1_prefix(prefix) == prefix
    assert v1_prefix(Path(f"{prefix}.meta")) == prefix
    for name in ("m", "m-00001-of-00002", "m-?????-of-00002"):
        assert v1_prefix(tmp_path / name) == tmp_path / "m"
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-1200"\n')
    assert v1_prefixes_in(tmp_path) == [tmp_path / "m", prefix]


def test_other_files_are_not_taken_for_one(tmp_path: Path) -> None:
    index = tmp_path / "ckpt-1.index"
    index.write_bytes(write_table([(b"", number(1, 1))]))
    bare = tmp_path / "bare"
    bare.write_bytes(index.read_bytes())
    (tmp_path / "notes.txt").write_text("checkpoint")
    for path in (index, bare, tmp_path / "notes.txt", tmp_path / "nothing", tmp_path / ("n" * 300)):
        assert v1_prefix(path) is None
    assert v1_prefixes_in(tmp_path) == []
    with pytest.raises(InputError, match="no checkpoint"):
        read_tf1_v1(tmp_path / "nothing")


def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    prefix = small(tmp_path)
    sound = prefix.read_bytes()
    for at in range(len(sound)):
        prefix.write_bytes(sound[:at] + bytes([sound[at] ^ 0x10]) + sound[at + 1 :])
        with pytest.raises((DamagedFileError, InputError)):
            read_tf1_v1(prefix)


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    prefix = small(tmp_path)
    prefix.write_bytes(prefix.read_bytes()[:-1000])
    with pytest.raises(InputError):
        read_tf1_v1(prefix)


def changed(prefix: Path, at: int, value: bytes) -> Path:
    """Write the small checkpoint with the value of one entry changed, soundly sealed."""
    entries = v1_entries({b"n": Saved(INT64, (2,), [1, 300]), b"w": Saved(FLOAT32, (2,), [1, 2])})
    entries[at] = (entries[at][0], value)
    prefix.write_bytes(write_table(entries))
    return prefix


def data(proto: bytes) -> bytes:
    return message(2, message(3, proto))


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (2, data(message(5, bytes(12))), "more or fewer values"),
        (2, data(message(5, bytes(4)) * 2), "several places"),
        (2, data(b""), "more or fewer values"),
        (2, data(message(4, bytes(8))), "more or fewer values"),
        (2, b"", "does not have the parts"),
        (2, data(b"") * 2, "does not have the parts"),
        (1, data(message(10, b"\x01")), "more or fewer values"),
        (1, data(message(10, b"\x01" * 21)), "more or fewer values"),
        (0, message(1, b""), "does not list"),
        (0, message(1, message(2, number(1, 9) + number(2, 9))), "newer version"),
    ],
)
def test_values_that_do_not_fit_are_refused(
    tmp_path: Path, at: int, value: bytes, words: str
) -> None:
    with pytest.raises(DamagedFileError, match=words):
        read_tf1_v1(changed(tmp_path / "m", at, value))


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        (b"\x01\x02\x03", "more or fewer values"),
        (b"\x01\x82", "cut short"),
        (b"\x01" + b"\x82" * 10 + b"\x01", "too long"),
    ],
)
def test_integers_that_do_not_fit_are_refused_when_they_are_decoded(
    tmp_path: Path, packed: bytes, words: str
) -> None:
    layout = read_tf1_v1(changed(tmp_path / "m", 1, data(message(10, packed))))
    with pytest.raises(DamagedFileError, match=words):
        contents(layout)


def test_a_listed_tensor_without_values_is_refused(tmp_path: Path) -> None:
    prefix = tmp_path / "m"
    prefix.write_bytes(write_table(v1_entries(small_v1())[:-1]))
    with pytest.raises(DamagedFileError, match="lacks the values of 1 tensor"):
        read_tf1_v1(prefix)


def test_strings_of_another_number_are_refused(tmp_path: Path) -> None:
    tensors = {b"s": Saved(STRING, (3,), [b"a", b"b"])}
    with pytest.raises(DamagedFileError, match="more or fewer values"):
        read_tf1_v1(write_v1(tmp_path / "m", tensors))


def test_a_damaged_meta_is_an_error_that_says_how_to_go_on(tmp_path: Path) -> None:
    prefix = small(tmp_path)
    Path(f"{prefix}.meta").write_bytes(small_meta()[:-5])
    with pytest.raises(DamagedFileError, match=r"\.meta is damaged"):
        read_tf1_v1(prefix)


def test_small_negative_numbers_keep_their_low_bits(tmp_path: Path) -> None:
    assert tensor_proto(INT8, [-1]).endswith(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
    layout = read_tf1_v1(write_v1(tmp_path / "m", {b"n": Saved(INT8, (1,), [-1])}))
    assert contents(layout)["n"] == b"\xff"
