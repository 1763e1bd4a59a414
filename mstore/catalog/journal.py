"""Writes what a transaction changed into the ledger's file, before it is committed."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from itertools import chain, islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from mstore import disk
from mstore.catalog.changes import changed, everything
from mstore.catalog.ledger_file import Change, LedgerEntry, read_history, read_line, transactions
from mstore.catalog.tables import ledger
from mstore.errors import DamagedStoreError

FILE = "ledger"
"""Name of the ledger's file beside the catalog."""

_PART = 1000
"""Rows in one entry at most."""


@dataclass(frozen=True, slots=True)
class Position:
    """Which entry the catalog knows as the last one, and where its line stands in the file."""

    number: int
    digest: str
    start: int
    end: int


def position(connection: sa.Connection) -> Position | None:
    """Return where the catalog stands in its ledger; None before the first entry."""
    columns = (ledger.c.number, ledger.c.digest, ledger.c.start, ledger.c.end)
    row = connection.execute(sa.select(*columns)).first()
    return None if row is None else Position(*row)


def move(connection: sa.Connection, to: Position) -> None:
    """Write down where the catalog stands in its ledger."""
    connection.execute(sa.delete(ledger))
    connection.execute(sa.insert(ledger).values(seq=1, **asdict(to)))


def record(connection: sa.Connection, directory: Path, *, durable: bool) -> None:
    """Append what the transaction has changed so far to the ledger in ``directory``.

    Args:
        connection: in a transaction that is about to be committed.
        directory: where the ledger is.
        durable: whether the entry must be on disk before the commit; not where its facts are in a
            pack.
    """
    cursor = connection.connection.cursor()
    try:
        rows = changed(cursor)
        first = next(rows, None)
        if first is not None:
            _Writing(connection, cursor, directory / FILE).go_on(chain([first], rows), durable)
    finally:
        cursor.close()


def begin_anew(connection: sa.Connection, directory: Path) -> None:
    """Write all rows that the ledger covers as its new beginning, in a transaction."""
    cursor = connection.connection.cursor()
    try:
        _Writing(connection, cursor, directory / FILE).begin()
    finally:
        cursor.close()


def ensure_not_older(connection: sa.Connection, directory: Path) -> None:
    """Refuse to write into a catalog that was put back from a copy: what came later would be lost.

    One transaction may stand behind what the catalog knows: its process died before the commit.
    Two that follow each other cannot, since every writer begins with what was committed.

    Raises:
        DamagedStoreError: the catalog is older than the ledger.
    """
    path, at = directory / FILE, position(connection)
    end = at.end if at else 0
    if _size(path) <= end or (at is not None and not _in_step(path, at)):
        return
    if transactions(path, end) > 1:
        raise DamagedStoreError(
            f"the catalog beside {path} is older than that ledger: it was put back from a copy",
            hint="run: mstore fsck --rebuild",
        )


def is_behind(connection: sa.Connection, directory: Path) -> bool:
    """Return whether the end of the ledger is lost: an add does not wait for it, the power may go.

    It reads the last entry alone.
    """
    at = position(connection)
    return at is not None and not _in_step(directory / FILE, at)


def settle(connection: sa.Connection, directory: Path) -> Position:
    """See to it that the ledger tells all that the catalog holds, in a transaction.

    Raises:
        DamagedStoreError: the catalog is older than the ledger.
    """
    path = directory / FILE
    at = position(connection)
    history = read_history(path)
    known = at is not None and at.digest in {mark.digest for mark in history.marks}
    ensure_not_older(connection, directory)
    if not known or history.damaged:
        begin_anew(connection, directory)
    found = position(connection)
    assert found is not None  # noqa: S101 - begin_anew moved it
    return found


def why_not_whole(connection: sa.Connection, directory: Path) -> str:
    """Return what is wrong with the ledger of a catalog, or an empty text.

    Args:
        connection: in a transaction that only reads; others may write meanwhile.
        directory: where the ledger is.
    """
    at = position(connection)
    if at is None:
        return ""
    history = read_history(directory / FILE)
    if history.damaged:
        return f"{history.damaged} of its entries are damaged or missing"
    # One that was begun anew since then does not list it, and tells all the same.
    if at.number >= history.first and at.digest not in {mark.digest for mark in history.marks}:
        return "the catalog's last entry is not in it"
    return ""


class _Writing:
    """Appends the entries of one transaction."""

    def __init__(self, connection: sa.Connection, cursor: Any, path: Path) -> None:
        self._connection = connection
        self._cursor = cursor
        self._path = path
        self._before = position(connection)

    def go_on(self, rows: Iterable[Change], durable: bool) -> None:
        """Append rows behind the last entry; all rows there are where that one is lost."""
        before = self._before
        known = before is not None and _in_step(self._path, before)
        if known:
            self._append(rows, durable=durable, base=False)
        else:  # it went with the power, or there is none yet
            self.begin()

    def begin(self) -> None:
        """Append all rows there are."""
        self._append(everything(self._cursor), durable=True, base=True)

    def _append(self, rows: Iterable[Change], *, durable: bool, base: bool) -> None:
        query = "SELECT version_num FROM alembic_version"
        schema = str(self._connection.exec_driver_sql(query).scalar())
        at = datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
        before = self._before
        number, previous = (before.number, before.digest) if before else (0, "")
        start = _size(self._path)
        cut = b"" if _ends_a_line(self._path, start) else b"\n"
        for first, part, last in _parts(rows):
            number += 1
            begins = base and first
            named = "" if begins else previous
            entry = LedgerEntry(number, named, schema, at, begins, last, part)
            previous, line = entry.to_line()
            start += len(cut)
            disk.append(self._path, cut + line, durable=durable and last)
            end, cut = start + len(line), b""
            if last:
                move(self._connection, Position(number, previous, start, end))
            start = end


def _parts(changes: Iterable[Change]) -> Iterator[tuple[bool, list[Change], bool]]:
    """Cut changes into parts that fit into memory; say which is the first, and which the last."""
    waiting = iter(changes)
    part = list(islice(waiting, _PART))
    first, last = True, False
    while not last:
        following = list(islice(waiting, _PART))
        last = not following
        yield first, part, last
        part, first = following, False


def _in_step(path: Path, at: Position) -> bool:
    """Return whether the entry that the catalog knows as the last one is in the file."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(at.start)
        return read_line(file.read(at.end - at.start), at.start).digest == at.digest
    return False


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _ends_a_line(path: Path, size: int) -> bool:
    """Return whether a file of ``size`` bytes ends with a whole line; it may have been cut off."""
    if not size:
        return True
    with path.open("rb") as file:
        file.seek(size - 1)
        return file.read(1) == b"\n"
