"""Chains of bases: read to their end, and never without one; packs that move are found again."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from mstore.errors import DamagedStoreError
from mstore.objects import planes
from mstore.objects.manifest import Piece
from mstore.objects.packs import (
    CHUNK,
    DELTA,
    MOST_BASES,
    RAW,
    Entry,
    PackWriter,
    object_id,
    pack_path,
    read_index,
)
from mstore.objects.reader import ObjectReader

DATA = [f"number {at:4d}".encode() * 40 for at in range(MOST_BASES + 2)]


class Packs:
    """Packs in a directory, and where their objects are."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.places: dict[bytes, tuple[str, Entry]] = {}
        self.asked = 0

    def write(self, objects: Sequence[tuple[bytes, bytes | None, bytes]]) -> str:
        """Write data, the id of its base and the base into a pack."""
        work = self.root / f"work-{len(list(self.root.iterdir()))}"
        work.mkdir()
        writer = PackWriter(work)
        for data, key, base in objects:
            if key is None:
                writer.add(CHUNK, data)
            else:
                stored = planes.encode(data, 0, base, key)
                entry = Entry(object_id(data), CHUNK, DELTA, 0, 0, len(data), key)
                writer.add_stored(entry, stored)
        name = writer.seal()
        writer.publish(self.root)
        writer.close()
        found = read_index(pack_path(self.root, name))
        assert found == tuple(writer.entries.values())
        self.places |= {entry.id: (name, entry) for entry in found}
        return name

    def locate(self, ids: Sequence[bytes]) -> Mapping[bytes, tuple[str, Entry]]:
        self.asked += 1
        return {key: self.places[key] for key in ids if key in self.places}

    def reader(self) -> ObjectReader:
        return ObjectReader(self.root, self.locate)


@pytest.fixture
def packs(tmp_path: Path) -> Packs:
    return Packs(tmp_path)


def chain(packs: Packs, length: int) -> list[str]:
    """Store each of the first objects as the difference to the next one, each in its pack."""
    pairs = pairwise(DATA[: length + 1])
    names = [packs.write([(data, object_id(base), base)]) for data, base in pairs]
    return [*names, packs.write([(DATA[length], None, b"")])]


def test_a_chain_is_read_to_its_end(packs: Packs) -> None:
    chain(packs, MOST_BASES)
    pieces = [Piece(object_id(data), 2, 7) for data in DATA[: MOST_BASES + 1]]
    with packs.reader() as reader:
        assert reader.read(object_id(DATA[0])) == DATA[0]
        assert [bytes(part) for part in reader.stream(pieces)] == [d[2:9] for d in DATA[:-1]]


def test_many_packs_at_once_are_no_more_than_may_be_open(packs: Packs) -> None:
    """Chains of 8 packs for each of 40 chunks: their packs are closed when nobody reads them."""
    expected = []
    for at in range(40):
        last = f"last {at}".encode() * 50
        data = [f"{at} {step}".encode() * 60 for step in range(8)]
        packs.write([(last, None, b"")])
        for one, base in zip(data, [*data[1:], last], strict=True):
            packs.write([(one, object_id(base), base)])
        expected.append(data[0])
    with packs.reader() as reader:
        pieces = [Piece(object_id(data), 0, len(data)) for data in expected]
        assert [bytes(part) for part in reader.stream(pieces)] == expected
        assert len(reader._open) <= 64


def test_too_long_a_chain_is_damage(packs: Packs) -> None:
    chain(packs, MOST_BASES + 1)
    with packs.reader() as reader, pytest.raises(DamagedStoreError, match="too many"):
        reader.read(object_id(DATA[0]))


def test_a_circle_is_damage(packs: Packs) -> None:
    first, second = DATA[:2]
    packs.write([(first, object_id(second), second), (second, object_id(first), first)])
    with packs.reader() as reader:
        for data in (first, second):
            with pytest.raises(DamagedStoreError, match="too many"):
                reader.read(object_id(data))
        with pytest.raises(DamagedStoreError, match="too many"):
            list(reader.stream([Piece(object_id(d), 0, 5) for d in (first, second)]))


def test_a_base_that_is_not_there_is_named(packs: Packs) -> None:
    first, second = DATA[:2]
    packs.write([(first, object_id(second), second)])
    with packs.reader() as reader, pytest.raises(DamagedStoreError) as caught:
        reader.read(object_id(first))
    assert object_id(second).hex() in caught.value.message
    assert object_id(first).hex() in caught.value.message


def test_the_catalog_cannot_give_it_another_base(packs: Packs) -> None:
    first, second, third = DATA[:3]
    packs.write([(first, object_id(second), second), (second, None, b""), (third, None, b"")])
    name, entry = packs.places[object_id(first)]
    packs.places[entry.id] = (name, Entry(*_fields(entry)[:-1], object_id(third)))
    with packs.reader() as reader, pytest.raises(DamagedStoreError, match="another object"):
        reader.read(entry.id)


def _fields(entry: Entry) -> tuple[bytes, int, int, int, int, int, bytes | None]:
    return (
        entry.id,
        entry.kind,
        entry.codec,
        entry.offset,
        entry.stored,
        entry.raw,
        entry.base,
    )


def test_what_moved_to_another_pack_is_found_there(packs: Packs) -> None:
    """The pack goes away between the question where it is and the attempt to open it."""
    old = packs.write([(DATA[0], None, b""), (DATA[1], None, b"")])
    moved = dict(packs.places)
    packs.write(
        [(DATA[0], object_id(DATA[2]), DATA[2]), (DATA[2], None, b""), (DATA[1], None, b"")]
    )
    now = dict(packs.places)
    pieces = [Piece(object_id(data), 0, 5) for data in DATA[:2]]
    pack_path(packs.root, old).unlink()
    locate = packs.locate

    def first_old(ids: Sequence[bytes]) -> Mapping[bytes, tuple[str, Entry]]:
        found = locate(ids)
        packs.places = now
        return found

    packs.places = moved
    with ObjectReader(packs.root, first_old) as reader:
        assert reader.read(object_id(DATA[0])) == DATA[0]
    packs.places = moved
    with ObjectReader(packs.root, first_old) as reader:
        assert [bytes(part) for part in reader.stream(pieces)] == [d[:5] for d in DATA[:2]]


def test_a_pack_that_is_gone_for_good_is_an_error(packs: Packs) -> None:
    name = packs.write([(DATA[0], None, b"")])
    pack_path(packs.root, name).unlink()
    with packs.reader() as reader, pytest.raises(DamagedStoreError, match="missing"):
        reader.read(object_id(DATA[0]))
    assert packs.asked <= 5
    assert packs.places[object_id(DATA[0])][1].codec == RAW
