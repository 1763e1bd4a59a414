import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mstore.errors import DamagedStoreError
from mstore.objects.packs import (
    CHUNK,
    HEADER,
    MANIFEST,
    RAW,
    RECORD,
    Entry,
    PackWriter,
    decode,
    gaps,
    object_id,
    pack_path,
    read_index,
)

OBJECTS = st.lists(
    st.tuples(st.sampled_from([CHUNK, MANIFEST, RECORD]), st.binary(max_size=300)), max_size=8
)


def write(directory: Path, objects: list[tuple[int, bytes]]) -> Path:
    work = directory / "work"
    work.mkdir()
    (directory / "packs").mkdir()
    writer = PackWriter(work)
    for kind, data in objects:
        writer.add(kind, data)
    name = writer.seal()
    writer.publish(directory / "packs")
    path = pack_path(directory / "packs", name)
    assert writer.size == path.stat().st_size
    return path


def load(path: Path) -> dict[bytes, bytes]:
    data = path.read_bytes()
    return {e.id: decode(e, data[e.offset : e.offset + e.stored]) for e in read_index(path)}


@settings(deadline=None)
@given(OBJECTS)
def test_a_pack_gives_back_what_was_put_in(objects: list[tuple[int, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = write(Path(directory), objects)
        assert load(path) == {object_id(data): data for _, data in objects}
        assert list(gaps(read_index(path))) == []
        assert path.stat().st_mode & 0o222 == 0


def test_objects_are_stored_as_they_are_and_once(tmp_path: Path) -> None:
    path = write(tmp_path, [(CHUNK, b"a" * 900), (RECORD, b"b" * 900), (CHUNK, b"a" * 900)])
    chunk, record = read_index(path)
    assert (chunk.codec, chunk.stored, chunk.raw) == (RAW, 900, 900)
    assert (record.codec, record.stored, record.raw) == (RAW, 900, 900)
    assert path.read_bytes()[chunk.offset : chunk.offset + 900] == b"a" * 900


def test_every_flipped_byte_of_a_pack_is_damage(tmp_path: Path) -> None:
    path = write(tmp_path, [(CHUNK, b"first"), (RECORD, b"second" * 20)])
    sound = path.read_bytes()
    path.chmod(0o644)
    for position in range(len(sound)):
        for mask in (0x01, 0x80, 0xFF):
            data = bytearray(sound)
            data[position] ^= mask
            path.write_bytes(data)
            with pytest.raises(DamagedStoreError):
                load(path)


def test_every_truncation_and_every_growth_is_damage(tmp_path: Path) -> None:
    path = write(tmp_path, [(CHUNK, b"first"), (RECORD, b"second" * 20)])
    sound = path.read_bytes()
    path.chmod(0o644)
    for size in range(len(sound)):
        path.write_bytes(sound[:size])
        with pytest.raises(DamagedStoreError):
            read_index(path)
    path.write_bytes(sound + b"\0")
    with pytest.raises(DamagedStoreError):
        read_index(path)


def test_a_pack_under_another_name_and_a_missing_one_are_damage(tmp_path: Path) -> None:
    path = write(tmp_path, [(CHUNK, b"data")])
    other = path.rename(path.with_name("ab" * 32 + ".pack"))
    with pytest.raises(DamagedStoreError, match="index"):
        read_index(other)
    with pytest.raises(DamagedStoreError, match="cannot be read"):
        read_index(path)


def test_what_does_not_have_its_id_is_damage() -> None:
    good = b"data"
    entry = Entry(object_id(good), CHUNK, RAW, len(HEADER), 4, 4)
    assert decode(entry, good) == good
    for stored in (b"datA", b"dat", b"", b"data!"):
        with pytest.raises(DamagedStoreError, match="damaged"):
            decode(entry, stored)
    with pytest.raises(DamagedStoreError, match="codec 9"):
        decode(Entry(object_id(good), RECORD, 9, len(HEADER), 4, 4), good)


def test_bytes_that_no_object_covers_are_gaps() -> None:
    first = Entry(b"1" * 32, CHUNK, RAW, len(HEADER) + 3, 5, 5)
    second = Entry(b"2" * 32, CHUNK, RAW, len(HEADER) + 10, 5, 5)
    assert list(gaps((second, first))) == [(16, 19), (24, 26)]
