"""Objects that a verification found damaged: nobody relies on them until they are written again."""

from collections.abc import Iterable, Mapping

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from mstore.catalog.tables import damaged, objects, packs


def noted(connection: sa.Connection) -> dict[bytes, str]:
    """Return id and damage of each object that is not to be relied on."""
    rows = connection.execute(sa.select(damaged.c.id, damaged.c.detail))
    return {row.id: row.detail for row in rows}


def note(connection: sa.Connection, found: Mapping[bytes, str], at: str) -> None:
    """Write down which objects are damaged."""
    rows = [{"id": key, "found_at": at, "detail": detail} for key, detail in found.items()]
    if rows:
        connection.execute(insert(damaged).on_conflict_do_nothing(), rows)


def forget(connection: sa.Connection, ids: Iterable[bytes]) -> None:
    """Rely on these objects again."""
    for key in ids:
        connection.execute(sa.delete(damaged).where(damaged.c.id == key))


def drop_objects(connection: sa.Connection, ids: Iterable[bytes]) -> None:
    """Take objects out of the index: nothing needs them, or nobody has them any more."""
    keys = list(ids)
    for key in keys:
        connection.execute(sa.delete(objects).where(objects.c.id == key))
    forget(connection, keys)


def drop_empty_packs(connection: sa.Connection, names: Iterable[str]) -> list[str]:
    """Take those of the packs out of the catalog that hold no object any more; return these."""
    dropped = []
    for name in names:
        held = sa.select(objects.c.id).join(packs, packs.c.seq == objects.c.pack)
        if connection.execute(held.where(packs.c.name == name).limit(1)).first() is None:
            result = connection.execute(sa.delete(packs).where(packs.c.name == name))
            dropped += [name] * result.rowcount
    return dropped
