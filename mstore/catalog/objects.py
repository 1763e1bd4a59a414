"""Where objects stand: the index over all packs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from mstore.catalog.tables import damaged, objects, packs


class Placed(Protocol):
    """What the catalog keeps of an object; the pack's own index entries are of this shape."""

    @property
    def id(self) -> bytes:
        """BLAKE3 of the object."""

    @property
    def kind(self) -> int:
        """Number of its kind."""

    @property
    def codec(self) -> int:
        """Number of its codec."""

    @property
    def offset(self) -> int:
        """First byte in the pack."""

    @property
    def stored(self) -> int:
        """Bytes in the pack."""

    @property
    def raw(self) -> int:
        """Bytes of the object."""


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """One row of the index: the pack's name and the fields of `Placed`."""

    pack: str
    id: bytes
    kind: int
    codec: int
    offset: int
    stored: int
    raw: int


_ROW = (
    packs.c.name,
    objects.c.id,
    objects.c.kind,
    objects.c.codec,
    objects.c.offset,
    objects.c.stored,
    objects.c.raw,
)


# Made once: each add asks it for every few megabytes.
_KNOWN = sa.select(objects.c.id).where(
    objects.c.id.in_(sa.bindparam("ids", expanding=True)),
    objects.c.id.not_in(sa.select(damaged.c.id)),
)


def known(connection: sa.Connection, ids: Sequence[bytes]) -> set[bytes]:
    """Return those of ``ids`` that the store has and that are not known to be damaged."""
    return set(connection.scalars(_KNOWN, {"ids": ids}))


def locate(connection: sa.Connection, ids: Sequence[bytes]) -> list[ObjectRow]:
    """Return where each of ``ids`` stands; unknown ones are left out."""
    query = sa.select(*_ROW).join(packs, packs.c.seq == objects.c.pack)
    rows = connection.execute(query.where(objects.c.id.in_(ids)))
    return [ObjectRow(*row) for row in rows]


def of_pack(connection: sa.Connection, name: str) -> dict[bytes, ObjectRow]:
    """Return all objects that the catalog expects in the pack called ``name``."""
    query = sa.select(*_ROW).join(packs, packs.c.seq == objects.c.pack)
    return {
        row.id: ObjectRow(*row) for row in connection.execute(query.where(packs.c.name == name))
    }


def placed(connection: sa.Connection) -> set[bytes]:
    """Return the ids of all objects."""
    return set(connection.scalars(sa.select(objects.c.id)))


def packs_of(connection: sa.Connection, ids: Iterable[bytes]) -> set[str]:
    """Return the names of the packs that hold these objects."""
    found: set[str] = set()
    query = sa.select(packs.c.name).join(objects, packs.c.seq == objects.c.pack)
    for key in ids:
        found.update(connection.scalars(query.where(objects.c.id == key)))
    return found


def all_packs(connection: sa.Connection) -> Iterator[tuple[str, int]]:
    """Yield name and size in bytes of every pack."""
    for row in connection.execute(sa.select(packs.c.name, packs.c.bytes).order_by(packs.c.seq)):
        yield row.name, row.bytes


def forget_packs(connection: sa.Connection, names: Iterable[str]) -> None:
    """Take packs and all their objects out of the catalog."""
    for name in names:
        seq = connection.scalar(sa.select(packs.c.seq).where(packs.c.name == name))
        connection.execute(sa.delete(objects).where(objects.c.pack == seq))
        connection.execute(sa.delete(packs).where(packs.c.seq == seq))


def add_pack(
    connection: sa.Connection, name: str, size: int, entries: Iterable[Placed], at: str
) -> None:
    """Record a pack and its objects; an object that another pack holds already stays there."""
    seq = connection.execute(
        sa.insert(packs).values(name=name, bytes=size, created_at=at)
    ).inserted_primary_key
    assert seq is not None  # noqa: S101 - SQLAlchemy returns it for a single row
    add_objects(connection, seq[0], entries)


def pack_keys(connection: sa.Connection) -> list[tuple[int, str]]:
    """Return key and name of every pack, in the order they came."""
    rows = connection.execute(sa.select(packs.c.seq, packs.c.name).order_by(packs.c.seq))
    return [(row.seq, row.name) for row in rows]


def add_objects(connection: sa.Connection, pack: int, entries: Iterable[Placed]) -> None:
    """Record the objects of a pack; one that another pack holds already stays there.

    Unless it is damaged there: then this copy takes its place.
    """
    entries = tuple(entries)
    rotten = set(connection.scalars(sa.select(damaged.c.id)))
    for key in rotten & {entry.id for entry in entries}:
        connection.execute(sa.delete(objects).where(objects.c.id == key))
        connection.execute(sa.delete(damaged).where(damaged.c.id == key))
    rows = [
        {
            "id": entry.id,
            "pack": pack,
            "kind": entry.kind,
            "codec": entry.codec,
            "offset": entry.offset,
            "stored": entry.stored,
            "raw": entry.raw,
        }
        for entry in entries
    ]
    if rows:
        connection.execute(insert(objects).on_conflict_do_nothing(), rows)
