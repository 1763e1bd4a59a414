import struct

import pytest

from mstore.errors import DamagedFileError
from mstore.formats.sstable import MAX_KEY, read_entries
from tests.formats.bundle_writer import (
    BlockBuilder,
    sealed,
    table_end,
    varint,
    write_table,
)


def read(data: bytes) -> list[tuple[bytes, bytes]]:
    return list(read_entries(data, path="t.index"))


def refusal(data: bytes) -> str:
    with pytest.raises(DamagedFileError) as caught:
        read(data)
    return caught.value.message


def one_block(block: bytes, *, kind: int = 0, separator: bytes = b"\xff") -> bytes:
    """Return a table whose only data block is ``block``."""
    body = sealed(block, kind)
    index = BlockBuilder(1)
    index.add(separator, varint(0) + varint(len(block)))
    return body + table_end(len(body), index)


def raw_block(entries: bytes, restarts: tuple[int, ...] = (0,)) -> bytes:
    tail = (*restarts, len(restarts))
    return entries + struct.pack(f"<{len(tail)}I", *tail)


@pytest.mark.parametrize("block_size", [1, 64, 262_144])
def test_a_table_gives_back_its_entries(block_size: int) -> None:
    items = [(b"key-%03d" % at, bytes([at]) * at) for at in range(100)]
    assert read(write_table(items, block_size=block_size)) == items


def test_an_empty_table_has_no_entries() -> None:
    assert read(write_table([])) == []


def test_snappy_is_refused_in_words() -> None:
    assert "Snappy" in refusal(one_block(raw_block(b"\x00\x01\x01av"), kind=1))
    assert "unknown type 7" in refusal(one_block(raw_block(b"\x00\x01\x01av"), kind=7))


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (raw_block(b"\x01\x01\x01av"), "runs over"),
        (raw_block(b"\x00\x7f\x01av"), "runs over"),
        (raw_block(b"\x00\x01\x7fav"), "runs over"),
        (raw_block(b"\x00" + b"\xff" * 9 + b"\x7f\x01av"), "too large"),
        (raw_block(b"\x00" + b"\xff" * 11 + b"\x01\x01av"), "too large"),
        (raw_block(b"\x00\x01"), "cut short"),
        (raw_block(b"\x00\x01\x01bv\x00\x01\x01av"), "not in order"),
        (raw_block(b"\x00\x01\x01av\x00\x01\x01av"), "not in order"),
        (raw_block(b"\x00\x01\x01av\x01\x01\x01bv", (0, 5)), "none can be continued"),
        (raw_block(b"\x00\x01\x01av", (0, 3)), "restart points"),
        (raw_block(b"\x00\x01\x01av", (5,)), "restart points"),
        (struct.pack("<I", 0), "no room"),
        (struct.pack("<I", 0xFFFFFFFF), "no room"),
        (b"\x01", "no room"),
    ],
)
def test_impossible_blocks_are_refused(block: bytes, words: str) -> None:
    assert words in refusal(one_block(block))


def test_a_separator_below_its_block_is_refused() -> None:
    assert "does not fit" in refusal(one_block(raw_block(b"\x00\x01\x01bv"), separator=b"a"))


def test_blocks_that_are_used_twice_are_refused() -> None:
    block = raw_block(b"\x00\x01\x01av")
    body = sealed(block)
    index = BlockBuilder(1)
    for separator in (b"a", b"b"):
        index.add(separator, varint(0) + varint(len(block)))
    assert "overlap" in refusal(body + table_end(len(body), index))


@pytest.mark.parametrize("handle", [b"", b"\x00", b"\x00\x08\x00", varint(2**63) + varint(9)])
def test_impossible_handles_are_refused(handle: bytes) -> None:
    body = sealed(raw_block(b"\x00\x01\x01av"))
    index = BlockBuilder(1)
    index.add(b"b", handle)
    refusal(body + table_end(len(body), index))


def test_a_key_that_is_too_long_is_refused() -> None:
    assert read(write_table([(b"k" * MAX_KEY, b"")]))
    assert "longer than" in refusal(write_table([(b"k" * (MAX_KEY + 1), b"")]))


def test_shared_prefixes_cannot_multiply_a_small_file() -> None:
    # Each entry of five bytes spells a key of 60,000.
    entries = bytearray(b"\x00" + varint(60_000) + b"\x00" + b"a" * 60_000)
    for at in range(200):
        entries += varint(60_000 + at) + b"\x01\x00b"
    assert "longer than" in refusal(one_block(raw_block(bytes(entries))))


def test_bytes_after_the_handles_of_the_footer_are_refused() -> None:
    data = bytearray(write_table([(b"a", b"v")]))
    data[-9] = 1
    assert "footer" in refusal(bytes(data))


def test_another_file_is_refused() -> None:
    assert "magic number" in refusal(b"hello" * 100)
    assert "less than its footer" in refusal(b"")
