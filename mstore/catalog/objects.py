"""Where objects stand: the index over all packs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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

    @property
    def base(self) -> bytes | None:
        """Id of the object that it is the difference to."""


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
    base: bytes | None = None


_ROW = (
    packs.c.name,
    objects.c.id,
    objects.c.kind,
    objects.c.codec,
    objects.c.offset,
    objects.c.stored,
    objects.c.raw,
    objects.c.base,
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


def bases(connection: sa.Connection) -> dict[bytes, bytes]:
    """Return the base of each object that is stored as a difference."""
    query = sa.select(objects.c.id, objects.c.base).where(objects.c.base.is_not(None))
    return {row.id: row.base for row in connection.execute(query)}


def base_of(connection: sa.Connection, key: bytes) -> bytes | None:
    """Return the base of an object, None where it has none."""
    return connection.scalar(sa.select(objects.c.base).where(objects.c.id == key))


def with_bases(needed: sa.Select[tuple[bytes]]) -> sa.Select[Any]:
    """Return the ids that a query selects and those of all their bases, and of the bases' bases.

    This is the rule by which a base lives: what needs an object needs these as well.
    """
    found = needed.cte("needed", recursive=True)
    known = objects.c.base.is_not(None)
    deeper = sa.select(objects.c.base).join(found, found.c[0] == objects.c.id).where(known)
    return sa.select(found.union(deeper).c[0])


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


def absent(connection: sa.Connection, ids: Sequence[bytes]) -> set[bytes]:
    """Return those of ``ids`` that no pack holds."""
    missing = set(ids)
    for at in range(0, len(ids), 500):
        query = sa.select(objects.c.id).where(objects.c.id.in_(ids[at : at + 500]))
        missing.difference_update(connection.scalars(query))
    return missing


def forget_packs(connection: sa.Connection, names: Iterable[str]) -> None:
    """Take packs and all their objects out of the catalog."""
    for name in names:
        seq = connection.scalar(sa.select(packs.c.seq).where(packs.c.name == name))
        connection.execute(sa.delete(objects).where(objects.c.pack == seq))
        connection.execute(sa.delete(packs).where(packs.c.seq == seq))


def add_pack(
    connection: sa.Connection, name: str, size: int, entries: Iterable[Placed], at: str
) -> int:
    """Record a pack and its objects; an object that another pack holds already stays there.

    Returns:
        The key of the pack.
    """
    seq = _insert_pack(connection, name, size, at)
    add_objects(connection, seq, entries)
    return seq


def _insert_pack(connection: sa.Connection, name: str, size: int, at: str) -> int:
    values = sa.insert(packs).values(name=name, bytes=size, created_at=at)
    key = connection.execute(values).inserted_primary_key
    assert key is not None  # noqa: S101 - SQLAlchemy returns it for a single row
    return int(key[0])


def move_objects(
    connection: sa.Connection, old: str, name: str, size: int, entries: Iterable[Placed], at: str
) -> None:
    """Put a pack in the place of another one that holds the same objects, which is forgotten.

    Objects of the old pack that the new one lacks are forgotten with it.
    """
    seq = _insert_pack(connection, name, size, at)
    before = connection.scalar(sa.select(packs.c.seq).where(packs.c.name == old))
    values = ("kind", "codec", "offset", "stored", "raw", "base")
    moved = sa.update(objects).where(
        objects.c.id == sa.bindparam("at_id"), objects.c.pack == before
    )
    rows = [{"at_id": e.id, **{key: getattr(e, key) for key in values}} for e in entries]
    if rows:
        connection.execute(moved.values(pack=seq), rows)
    forget_packs(connection, [old])


def tried(connection: sa.Connection) -> dict[bytes, bytes]:
    """Return objects that stay as they are, and the base with which they would not be smaller."""
    query = sa.select(objects.c.id, objects.c.tried).where(objects.c.tried.is_not(None))
    return {row.id: row.tried for row in connection.execute(query)}


def note_tried(connection: sa.Connection, found: Mapping[bytes, bytes]) -> None:
    """Write down with which bases objects would not be smaller."""
    values = sa.update(objects).where(objects.c.id == sa.bindparam("at_id"))
    rows = [{"at_id": key, "base_tried": base} for key, base in found.items()]
    if rows:
        connection.execute(values.values(tried=sa.bindparam("base_tried")), rows)


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
            "base": entry.base,
        }
        for entry in entries
    ]
    if rows:
        connection.execute(insert(objects).on_conflict_do_nothing(), rows)
