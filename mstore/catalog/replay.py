"""Make the tables again from the ledger: at the revision it was written at, then brought up."""

from collections.abc import Iterable
from pathlib import Path

import sqlalchemy as sa

from mstore.catalog.journal import Position, move
from mstore.catalog.ledger_file import Change, History, read_entries
from mstore.catalog.schema import HEAD, upgrade
from mstore.catalog.tables import metadata


def replay(connection: sa.Connection, path: Path, history: History) -> int:
    """Fill an empty catalog from a ledger.

    Args:
        connection: in a transaction of the empty catalog, with ``defer_foreign_keys``.
        path: the ledger's file.
        history: what counts in it.

    Returns:
        How many rows were dropped because what they refer to is lost.

    Raises:
        StoreVersionError: the ledger was written by a newer mstore.
    """
    connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
    schema = ""
    for entry in read_entries(path, history.marks):
        if entry.schema != schema:
            schema = entry.schema
            upgrade(connection, schema)
        _apply(connection, entry.changes)
    if schema != HEAD:
        upgrade(connection, HEAD)
    if history.marks:
        last = history.marks[-1]
        move(connection, Position(last.number, last.digest, last.start, last.end))
    return _drop_dangling(connection)


def copy_rows(made: sa.Connection, into: sa.Connection) -> None:
    """Put the rows of one catalog in the place of those of another, in its transaction."""
    into.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
    for table in metadata.sorted_tables:
        into.execute(sa.delete(table))
        rows = made.execute(sa.select(table)).mappings()
        for part in rows.partitions(1000):
            into.execute(sa.insert(table), [dict(row) for row in part])


def _apply(connection: sa.Connection, changes: Iterable[Change]) -> None:
    for change in changes:
        if change.row is None:
            where = " AND ".join(f'"{name}" = ?' for name in change.key)
            query = f'DELETE FROM "{change.table}" WHERE {where}'  # noqa: S608 - names of tables
            connection.exec_driver_sql(query, tuple(change.key.values()))
        else:
            names = ", ".join(f'"{name}"' for name in change.row)
            marks = ", ".join("?" * len(change.row))
            query = f'INSERT OR REPLACE INTO "{change.table}" ({names}) VALUES ({marks})'  # noqa: S608
            connection.exec_driver_sql(query, tuple(change.row.values()))


def _drop_dangling(connection: sa.Connection) -> int:
    """Delete rows that refer to rows that are not there, and those that refer to these."""
    dropped = 0
    while True:
        found = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        if not found:
            return dropped
        for table, _, parent, number in {(row[0], None, row[2], row[3]) for row in found}:
            links = connection.exec_driver_sql(f'PRAGMA foreign_key_list("{table}")').all()
            column, key = next((link[3], link[4]) for link in links if link[0] == number)
            result = connection.exec_driver_sql(
                f'DELETE FROM "{table}" WHERE "{column}" IS NOT NULL '  # noqa: S608 - our own names
                f'AND "{column}" NOT IN (SELECT "{key}" FROM "{parent}")'
            )
            dropped += result.rowcount
