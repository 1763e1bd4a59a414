"""Sees which rows a transaction changes, whatever changed them.

Temporary triggers note the key of each row that is inserted, updated or deleted. Nobody who writes
to the catalog has to do anything for it, and a new table is covered from its first row.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from mstore.catalog.ledger_file import Change

DERIVED = frozenset({"objects", "tensors"})
"""Tables whose rows are made again from the packs."""

_OWN = frozenset({"alembic_version", "ledger"})
_KEYS = 4
_WATCHED = "mstore-watched"
_SIDES = {"INSERT": ("NEW",), "UPDATE": ("OLD", "NEW"), "DELETE": ("OLD",)}


def watch(connection: sa.Connection) -> bool:
    """Put the triggers in, outside of a transaction, unless this connection has them.

    Returns:
        Whether there is anything to watch: a catalog that has a ledger.
    """
    cursor = connection.connection.cursor()
    try:
        (cookie,) = cursor.execute("PRAGMA schema_version").fetchone()
        seen, watched = connection.info.get(_WATCHED, (None, False))
        if seen != cookie:
            watched = _install(cursor)
            connection.info[_WATCHED] = (cookie, watched)
        return bool(watched)
    finally:
        cursor.close()


def _install(cursor: Any) -> bool:
    columns = ", ".join(f"k{at}" for at in range(_KEYS))
    # Kept in memory: a file would be one more thing that can fail.
    cursor.execute("PRAGMA temp_store = MEMORY")
    cursor.execute(f"CREATE TEMP TABLE IF NOT EXISTS mstore_changes (name, {columns})")
    triggers = "SELECT name FROM sqlite_temp_master WHERE type = 'trigger'"
    for (name,) in cursor.execute(triggers).fetchall():
        cursor.execute(f'DROP TRIGGER temp."{name}"')
    tables = covered(cursor)
    for name, keys in tables.items():
        for event, sides in _SIDES.items():
            notes = "".join(_note(name, keys, side) for side in sides)
            cursor.execute(
                f'CREATE TEMP TRIGGER "mstore_{name}_{event}" AFTER {event} ON main."{name}" '
                f"BEGIN {notes} END"
            )
    return bool(tables)


def _note(name: str, keys: list[str], side: str) -> str:
    values = [f'{side}."{key}"' for key in keys] + ["NULL"] * (_KEYS - len(keys))
    listing = ", ".join(values)
    return f"INSERT INTO mstore_changes VALUES ('{name}', {listing});"  # noqa: S608 - our names


def covered(cursor: Any) -> dict[str, list[str]]:
    """Return the primary key of each table that the ledger covers; none before it has one."""
    query = "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    names = {name for (name,) in cursor.execute(query).fetchall()}
    if "ledger" not in names:
        return {}
    found = {}
    for name in sorted(names - DERIVED - _OWN):
        info = cursor.execute(f'PRAGMA main.table_info("{name}")').fetchall()
        found[name] = [row[1] for row in sorted(info, key=lambda row: int(row[5])) if row[5]]
        assert 0 < len(found[name]) <= _KEYS, f"{name} needs a primary key"  # noqa: S101 - ours
    return found


def changed(cursor: Any) -> Iterator[Change]:
    """Yield the rows that were noted in this transaction, as they are now, and forget the notes."""
    noted = dict.fromkeys(cursor.execute("SELECT * FROM temp.mstore_changes").fetchall())
    if not noted:
        return
    cursor.execute("DELETE FROM temp.mstore_changes")
    tables = covered(cursor)
    for name, *values in noted:
        keys = tables[name]
        where = " AND ".join(f'"{key}" = ?' for key in keys)
        query = f'SELECT * FROM main."{name}" WHERE {where}'  # noqa: S608 - our names
        row = next(_rows(cursor, query, values[: len(keys)]), None)
        yield Change(name, dict(zip(keys, values, strict=False)), row)


def everything(cursor: Any) -> Iterator[Change]:
    """Yield all rows that the ledger covers."""
    for name, keys in covered(cursor).items():
        for row in _rows(cursor, f'SELECT * FROM main."{name}"', ()):  # noqa: S608 - our names
            yield Change(name, {key: row[key] for key in keys}, row)


def _rows(cursor: Any, query: str, values: Sequence[object]) -> Iterator[dict[str, Any]]:
    cursor.execute(query, values)
    names = [column[0] for column in cursor.description]
    for row in cursor:
        yield dict(zip(names, row, strict=True))
