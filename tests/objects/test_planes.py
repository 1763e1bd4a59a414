"""Chunks come back from their planes whatever they hold, and hostile bytes end in an error."""

import struct
import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
import zstandard
from blake3 import blake3
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mstore.errors import DamagedStoreError
from mstore.objects import planes
from mstore.objects.packs import CHUNK, DELTA, PLANES, Entry, check, decode, object_id

EVERY = sorted(planes.WORDS)
FLOAT32 = planes.words_of("float32", 4)
BASE_ID = b"b" * 32

blobs = st.binary(max_size=300)
words = st.sampled_from(EVERY)


@settings(deadline=None, max_examples=300)
@given(data=blobs, base=st.one_of(st.none(), blobs), number=words)
@example(data=b"", base=b"", number=7)
@example(data=b"\xff" * 17, base=b"\x00" * 3, number=7)
def test_any_bytes_come_back(data: bytes, base: bytes | None, number: int) -> None:
    stored = planes.encode(data, number, base, b"" if base is None else BASE_ID)
    assert planes.decode(stored, len(data), base) == data
    assert planes.why_not_whole(stored) == ""
    if base is not None:
        assert planes.base_of(stored) == BASE_ID


@settings(deadline=None)
@given(seed=st.integers(0, 999), number=words, noise=st.sampled_from([0.0, 1e-4, 1.0]))
def test_numbers_that_moved_come_back(seed: int, number: int, noise: float) -> None:
    random = np.random.default_rng(seed)
    base = random.normal(size=5000).astype("<f4")
    data = base + noise * random.normal(size=5000).astype("<f4")
    stored = planes.encode(data.tobytes(), number, base.tobytes(), BASE_ID)
    assert planes.decode(stored, 20_000, base.tobytes()) == data.tobytes()


def test_weights_that_moved_little_become_much_smaller() -> None:
    random = np.random.default_rng(1)
    base = random.normal(size=100_000).astype("<f4")
    data = (base * (1 + 1e-5 * random.normal(size=100_000))).astype("<f4")
    alone = len(planes.encode(data.tobytes(), FLOAT32))
    assert len(planes.encode(data.tobytes(), FLOAT32, base.tobytes(), BASE_ID)) < 0.45 * alone
    same = planes.encode(base.tobytes(), FLOAT32, base.tobytes(), BASE_ID)
    assert len(same) < 300


@pytest.mark.parametrize(
    ("dtype", "width", "expected"),
    [
        ("float32", 4, (4, 23)),
        ("bfloat16", 2, (2, 7)),
        ("float16", 2, (2, 10)),
        ("complex128", 16, (8, 52)),
        ("int64", 8, (8, 0)),
        ("string", 0, (1, 0)),
        ("bool", 1, (1, 0)),
    ],
)
def test_the_layout_follows_the_type(dtype: str, width: int, expected: tuple[int, int]) -> None:
    found = planes.WORDS[planes.words_of(dtype, width)]
    assert (found.width, found.shift) == expected


@pytest.mark.parametrize("base", [None, b"base" * 100])
def test_every_flipped_byte_of_what_is_stored_is_damage(base: bytes | None) -> None:
    data = b"some" * 90 + b"more" * 10 + b"?"
    key = BASE_ID if base else b""
    stored = planes.encode(data, FLOAT32, base, key)
    codec = DELTA if base else PLANES
    entry = Entry(object_id(data), CHUNK, codec, 16, len(stored), len(data), key or None)
    check(entry, stored)
    for position in range(len(stored)):
        for mask in (0x01, 0x80, 0xFF):
            other = bytearray(stored)
            other[position] ^= mask
            with pytest.raises(DamagedStoreError):
                check(entry, bytes(other))
            with suppress(DamagedStoreError):  # a frame has bits that do not matter
                assert decode(entry, bytes(other), base) == data
    for length in range(len(stored)):
        with pytest.raises(DamagedStoreError):
            check(entry, stored[:length])
        with pytest.raises(DamagedStoreError):
            decode(entry, stored[:length], base)


def sealed(body: bytes) -> bytes:
    return blake3(body).digest() + body


def plane(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


def bomb(claimed: int | None) -> bytes:
    """Return a frame of a gigabyte of zeros that says how long it is, or does not."""
    packer = zstandard.ZstdCompressor(level=1, write_content_size=claimed is not None)
    frame = packer.compressobj(size=claimed or -1)
    return b"".join(frame.compress(bytes(1 << 20)) for _ in range(1024)) + frame.flush()


@pytest.mark.parametrize("claimed", [1 << 30, None])
def test_a_bomb_takes_no_memory(claimed: int | None) -> None:
    body = bytes((0, 0)) + plane(bomb(claimed))
    tracemalloc.start()
    with pytest.raises(DamagedStoreError):
        planes.decode(sealed(body), 1 << 20)
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("body", "raw"),
    [
        (b"", 4),
        (b"\x08\x00", 0),  # no such numbers
        (b"\x00\x02" + plane(b"data"), 4),  # no such order
        (b"\x06\x01" + 4 * plane(b"d"), 4),  # no base whose exponents there are
        (b"\x00\x00" + plane(b"data"), (1 << 20) + 1),  # too long
        (b"\x00\x00" + plane(b"data") + b"more", 4),
        (b"\x00\x00" + plane(b"data"), 5),
        (b"\x00\x00\xff\xff\xff\xffdata", 4),
        (b"\x00\x00" + plane(b"no frame"), 100),
        (b"\x00\x00" + plane(zstandard.compress(bytes(99))), 100),
        (b"\x00\x00" + plane(zstandard.compress(bytes(100)) + b"more"), 100),
        (b"\x06\x00" + 3 * plane(b"d"), 4),
    ],
)
def test_hostile_bytes_are_damage(body: bytes, raw: int) -> None:
    with pytest.raises(DamagedStoreError):
        planes.decode(sealed(body), raw)


@settings(deadline=None, max_examples=300)
@given(body=st.binary(max_size=80), raw=st.integers(0, 1 << 62), base=st.one_of(st.none(), blobs))
def test_nothing_but_damage_comes_of_nonsense(body: bytes, raw: int, base: bytes | None) -> None:
    with suppress(DamagedStoreError):
        assert len(planes.decode(sealed(body), raw, base)) == raw
