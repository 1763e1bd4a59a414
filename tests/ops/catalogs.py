"""What a catalog holds, to be compared before it is lost and after it was made again."""

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from mstore.catalog.engine import connect, reading
from mstore.catalog.tables import ledger, metadata, objects
from mstore.store import Store

Rows = dict[str, list[tuple[Any, ...]]]


def rows(root: Path) -> Rows:
    """Return every row of every table of the catalog below ``root``, but where the ledger is.

    With which bases an object was tried in vain is found out again.
    """
    engine = connect(root / ".mstore" / "catalog.db")
    try:
        with reading(engine) as connection:
            return {
                table.name: sorted(map(tuple, connection.execute(_everything(table))), key=repr)
                for table in metadata.sorted_tables
                if table is not ledger
            }
    finally:
        engine.dispose()


def _everything(table: sa.Table) -> sa.Select[Any]:
    return sa.select(*(column for column in table.c if column is not objects.c.tried))


def answers(store: Store) -> dict[str, Any]:
    """Return what the store says of itself."""
    return {
        "list": [item.to_json() for item in store.list(superseded=True)],
        "versions": [item.to_json() for item in store.versions()],
        "programs": [item.to_json() for item in store.programs()],
        "deployments": [item.to_json() for item in store.deployments()],
        "log": [item.to_json() for item in store.log()],
    }


def lose(root: Path) -> None:
    """Delete the catalog."""
    for path in (root / ".mstore").glob("catalog.db*"):
        path.unlink()
