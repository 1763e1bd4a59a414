"""Connections to the catalog: SQLite in WAL mode, writers one at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DatabaseError, OperationalError

from mstore import disk
from mstore.catalog import journal
from mstore.catalog.changes import watch
from mstore.errors import DamagedStoreError, Error, StoreLockedError, SystemIOError

BUSY_SECONDS = 60
"""How long a writer waits for another one."""

_FILE = "mstore-file"


def connect(path: Path, *, ledger: Path | None = None) -> sa.Engine:
    """Return an engine for the catalog file at ``path``.

    Args:
        path: the file, made if need be.
        ledger: the directory of its ledger; by default the one that it is in itself.
    """
    engine = sa.create_engine(
        f"sqlite:///{path}",
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
        pool_size=2,
        max_overflow=8,
        execution_options={"ledger": str(ledger or path.parent)},
    )
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    event.listen(engine, "commit", _announce_commit)
    return engine


def _configure(connection: Any, record: Any) -> None:
    # The driver must not open transactions of its own accord, or DDL would escape them.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    # Which file this is: a catalog made again takes the name, and this one would get no more.
    (_, _, path), *_ = cursor.execute("PRAGMA database_list").fetchall()
    record.info[_FILE] = path and Path(path).stat().st_ino
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _announce_commit(connection: sa.Connection) -> None:
    if connection.get_execution_options().get("immediate", False):
        disk.step("commit", str(connection.engine.url.database))


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Give a connection that sees one state of the catalog.

    Raises:
        DamagedStoreError: the file is no catalog.
        SystemIOError: it cannot be read.
    """
    with _translated(engine), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def writing(
    engine: sa.Engine, *, journaled: bool = True, in_pack: bool = False
) -> Iterator[sa.Connection]:
    """Give a connection that holds the write lock; commit at the end, or undo on any exception.

    What was changed is written into the ledger beside the catalog before the commit.

    Args:
        engine: the catalog.
        journaled: False where the ledger itself says what is to be written.
        in_pack: whether what is written can be told from a pack that is on disk already, so that
            the ledger need not be waited for.

    Raises:
        DamagedStoreError: the catalog was put back from a copy older than its ledger.
        StoreLockedError: another process wrote for longer than `BUSY_SECONDS`.
        SystemIOError: it cannot be written.
    """
    with _translated(engine), engine.connect() as plain:
        watched = journaled and watch(plain)
        connection = plain.execution_options(immediate=True)
        with connection.begin():
            _ensure_in_place(connection)
            if watched:
                journal.ensure_not_older(connection, _directory(engine))
            yield connection
            if watched:
                with disk.os_errors(f"the ledger beside {engine.url.database} cannot be written"):
                    journal.record(connection, _directory(engine), durable=not in_pack)


def _ensure_in_place(connection: sa.Connection) -> None:
    path = Path(str(connection.engine.url.database))
    if not path.exists() or path.stat().st_ino != connection.info[_FILE]:
        raise StoreLockedError(
            f"the catalog {path} was made again while this command ran",
            hint="nothing was written; run the command again",
        )


def _directory(engine: sa.Engine) -> Path:
    return Path(str(engine.get_execution_options()["ledger"]))


@contextmanager
def _translated(engine: sa.Engine) -> Iterator[None]:
    path = engine.url.database
    try:
        yield
    except Error:
        raise
    except OperationalError as error:
        raise _operational(error, path) from error
    except DatabaseError as error:
        raise DamagedStoreError(
            f"the catalog {path} cannot be used: {error.orig}",
            hint="keep the file; everything in it is also in the packs beside it",
        ) from error


def _operational(error: OperationalError, path: str | None) -> Error:
    reason = str(error.orig)
    if "locked" in reason or "busy" in reason:
        return StoreLockedError(
            f"the catalog {path} has been locked for over {BUSY_SECONDS} s",
            hint="wait for the other command to end and run this one again",
        )
    if "no such table" in reason or "no such column" in reason:
        return DamagedStoreError(
            f"the catalog {path} is not complete: {reason}",
            hint="keep the file; everything in it is also in the packs beside it",
        )
    return SystemIOError(
        f"the catalog {path} cannot be used: {reason}",
        hint="check free space and permissions of the store, then run the command again",
    )
