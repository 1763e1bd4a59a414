"""Bring a catalog up to date; the only module that imports alembic, and only when it must."""

import threading
from pathlib import Path

import sqlalchemy as sa

import mstore
from mstore.catalog.engine import reading, writing
from mstore.errors import StoreVersionError

HEAD = "0009"
"""Revision of the newest migration; a test holds it against the scripts."""

KNOWN = frozenset({"0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", HEAD})
"""Revisions that this program can bring up to `HEAD`."""


_UPGRADING = threading.Lock()  # alembic keeps its context in a global


def migrations_directory() -> Path:
    """Return where the migration scripts are: in the installed package, else in the checkout."""
    package = Path(mstore.__file__).parent
    shipped = package / "migrations"
    return shipped if shipped.is_dir() else package.parent / "migrations"


def revision(connection: sa.Connection) -> str | None:
    """Return the revision a catalog is at, None for an empty one."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    row = connection.exec_driver_sql("SELECT version_num FROM alembic_version").first()
    return str(row[0]) if row else None


def ensure_current(engine: sa.Engine) -> None:
    """Apply the migrations that are missing, all of them in one transaction, or none.

    Raises:
        StoreVersionError: the catalog was written by a newer mstore.
    """
    with reading(engine) as connection:
        found = revision(connection)
    if found == HEAD:
        return
    if found is not None and found not in KNOWN:
        raise _too_new(f"its catalog is at {found}")
    with _UPGRADING, writing(engine, journaled=False) as connection:
        if revision(connection) != HEAD:
            _upgrade(connection)


def upgrade(connection: sa.Connection, to: str) -> None:
    """Bring a catalog up to a revision, in the caller's transaction.

    Raises:
        StoreVersionError: this program does not know the revision.
    """
    if to not in KNOWN:
        raise _too_new(f"its ledger is at {to}")
    with _UPGRADING:
        _upgrade(connection, to)


def _too_new(what: str) -> StoreVersionError:
    return StoreVersionError(
        f"this store was written by a newer mstore ({what}, this program knows up to {HEAD})",
        hint="upgrade mstore: pip install --upgrade mstore",
    )


def _upgrade(connection: sa.Connection, to: str = HEAD) -> None:
    from alembic import command  # noqa: PLC0415 - half a second that an up-to-date store saves
    from alembic.config import Config  # noqa: PLC0415 - the same

    config = Config()
    config.set_main_option("script_location", str(migrations_directory()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, to)
