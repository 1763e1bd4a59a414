import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mstore.domain.tensors import Tensor
from mstore.formats.crc import RunningCrc, check_crc, masked_crc, tensor_check
from tests.formats.bundle_writer import encode_strings, encode_variants, masked, varint


def tensor(dtype: str, shape: tuple[int, ...], raw: bytes, crc: int) -> Tensor:
    return Tensor(b"t", dtype, shape, 0, 0, len(raw), crc)


PLAIN = tensor("uint8", (5,), b"hello", masked(b"hello"))
strings = st.lists(st.binary(max_size=300), max_size=12)


@given(st.binary(max_size=2000), st.integers(1, 50))
def test_pieces_give_the_checksum_of_the_whole(data: bytes, size: int) -> None:
    running = RunningCrc()
    for start in range(0, len(data), size):
        running.update(memoryview(data)[start : start + size])
    assert running.value() == masked_crc(bytearray(data)) == masked(data)


def test_large_buffers_of_any_kind_are_taken() -> None:
    data = bytes(range(256)) * 5000
    expected = masked(data)
    assert masked_crc(data) == masked_crc(bytearray(data)) == expected
    assert masked_crc(memoryview(data)) == expected


@given(strings, st.integers(1, 40))
def test_string_tensors_are_checked_in_pieces(items: list[bytes], size: int) -> None:
    raw, crc = encode_strings(items)
    check = tensor_check(tensor("string", (len(items),), raw, crc))
    for start in range(0, len(raw), size):
        assert not check.matches()
        check.update(raw[start : start + size])
    assert check.matches()


@given(strings, st.integers(1, 40))
def test_variant_tensors_are_checked_in_pieces(items: list[bytes], size: int) -> None:
    raw, crc = encode_variants(items)
    check = tensor_check(tensor("variant", (len(items),), raw, crc))
    for start in range(0, len(raw), size):
        check.update(raw[start : start + size])
    assert check.matches()


@pytest.mark.parametrize("dtype", ["uint8", "string", "variant"])
def test_any_other_bytes_do_not_match(dtype: str) -> None:
    items = [b"abc", b"", b"d" * 200]
    if dtype == "uint8":
        raw = b"".join(items)
        subject = tensor(dtype, (len(raw),), raw, masked(raw))
    else:
        raw, crc = (encode_strings if dtype == "string" else encode_variants)(items)
        subject = tensor(dtype, (3,), raw, crc)
    assert check_crc(subject, raw)
    for at in range(len(raw)):
        for flip in (0x01, 0x80):
            changed = raw[:at] + bytes([raw[at] ^ flip]) + raw[at + 1 :]
            assert not check_crc(subject, changed)
        assert not check_crc(subject, raw[:at])
    assert not check_crc(subject, raw + b"\0")


@pytest.mark.parametrize("dtype", ["string", "variant"])
@example(data=b"\x80" * 9 + b"\x02", count=1)  # a length of 65 bits
@given(data=st.binary(max_size=64), count=st.integers(0, 40))
def test_rubbish_is_no_match(dtype: str, data: bytes, count: int) -> None:
    assert not check_crc(Tensor(b"t", dtype, (count,), 0, 0, len(data), 12345), data)


def test_a_length_over_32_bits_enters_as_64_bits() -> None:
    length = 1 << 32
    inner = struct.pack("<I", masked(struct.pack("<Q", length)))
    check = tensor_check(Tensor(b"t", "string", (1,), 0, 0, 9 + length, 0))
    # The string itself is not made: the checksum of the lengths is what is looked at.
    check.update(varint(length) + inner)
    assert getattr(check, "_sound") is True  # noqa: B009 - private to the module


def test_one_checksum_more_or_less_is_no_match() -> None:
    assert check_crc(PLAIN, b"hello")
    assert not check_crc(PLAIN, b"hello\0")
    assert not check_crc(PLAIN, b"hell")
