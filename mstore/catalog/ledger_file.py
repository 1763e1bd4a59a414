"""The ledger's file: what every transaction of the catalog changed, so that it can be lost.

One line for each transaction (see docs/FORMAT.md)::

    BLAKE3 of the JSON in hex, a space, canonical JSON, a line feed

Each entry names the digest of the one before, so that an entry whose transaction never ended is
known by the next one, which names the same predecessor.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from mstore.domain.canonical import canonical

_DIGEST = 64
"""Hex digits of a digest."""

Row = Mapping[str, Any]
"""Column to value: None, a number, a text, or bytes."""


@dataclass(frozen=True, slots=True)
class Change:
    """A row as a transaction left it.

    Attributes:
        table: name of the table.
        key: its primary key.
        row: all of its columns, or None where it was deleted.
    """

    table: str
    key: Row
    row: Row | None


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """What one transaction changed.

    Attributes:
        number: 1 for the first entry of a ledger, and so on.
        previous: digest of the entry before, or an empty text.
        schema: revision of the catalog's tables.
        at: time, ISO 8601 in UTC.
        base: whether it begins with all rows there were, and nothing before counts.
        last: whether it ends what its transaction wrote; a large one writes several.
        changes: the rows.
    """

    number: int
    previous: str
    schema: str
    at: str
    base: bool
    last: bool
    changes: Sequence[Change]

    def to_line(self) -> tuple[str, bytes]:
        """Return the digest and the line that `read_line` reads."""
        body = canonical(
            {
                "number": self.number,
                "previous": self.previous,
                "schema": self.schema,
                "at": self.at,
                "base": self.base,
                "last": self.last,
                "changes": [
                    [change.table, _outward(change.key), change.row and _outward(change.row)]
                    for change in self.changes
                ],
            }
        )
        digest = blake3(body).hexdigest()
        return digest, b"%s %s\n" % (digest.encode(), body)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file.

    Attributes:
        start: where it begins.
        end: where the next one does.
        digest: what it says its digest is; empty where it is damaged.
        entry: what it holds; None where it is damaged.
    """

    start: int
    end: int
    digest: str
    entry: LedgerEntry | None


def read_line(data: bytes, start: int = 0) -> Line:
    """Read a line; one that does not have its digest, or is not complete, holds no entry."""
    end = start + len(data)
    digest, body = data[:_DIGEST], data[_DIGEST + 1 : -1]
    whole = data[-1:] == b"\n" and data[_DIGEST : _DIGEST + 1] == b" "
    if not whole or blake3(body).hexdigest().encode() != digest:
        return Line(start, end, "", None)
    try:
        entry = _entry(json.loads(body))
    except (ValueError, KeyError, TypeError):  # no entry of this format, with a digest of its own
        return Line(start, end, "", None)
    return Line(start, end, digest.decode(), entry)


def _entry(body: Any) -> LedgerEntry:
    return LedgerEntry(
        int(body["number"]),
        str(body["previous"]),
        str(body["schema"]),
        str(body["at"]),
        bool(body["base"]),
        bool(body["last"]),
        tuple(
            Change(str(table), _inward(key), None if row is None else _inward(row))
            for table, key, row in body["changes"]
        ),
    )


def read_lines(path: Path, start: int = 0) -> Iterator[Line]:
    """Yield the lines of a ledger from ``start``; nothing where there is no file."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(start)
        for data in file:
            if data != b"\n":  # what ends the rest of a line that was cut off
                yield read_line(data, start)
            start += len(data)


@dataclass(frozen=True, slots=True)
class Mark:
    """Where an entry stands, without what it changed.

    Attributes:
        start: where its line begins.
        end: where the next one does.
        digest: its digest.
        number: its number.
        at: its time.
        base: as in `LedgerEntry`.
        last: as in `LedgerEntry`.
        follows: whether the entry that it names is the one before it.
    """

    start: int
    end: int
    digest: str
    number: int
    at: str
    base: bool
    last: bool
    follows: bool


@dataclass(frozen=True, slots=True)
class History:
    """What the file tells: the entries that count, from the last base on."""

    marks: Sequence[Mark]

    @property
    def damaged(self) -> int:
        """How many gaps there are: places where entries were and cannot be read."""
        return sum(not mark.follows for mark in self.marks)

    @property
    def first(self) -> int:
        """Number of the first entry that counts; 0 where there is none."""
        return self.marks[0].number if self.marks else 0


def read_history(path: Path) -> History:
    """Read a ledger, and drop the entries whose transactions never ended.

    The last transaction counts, whether it ended or not, where what it wrote is complete.
    """
    kept = _complete(path, 0)
    bases = [at for at, mark in enumerate(kept) if mark.base]
    return History(kept[bases[-1] if bases else 0 :])


def transactions(path: Path, start: int) -> int:
    """Return how many transactions that follow each other stand from ``start`` on."""
    return sum(mark.last for mark in _complete(path, start))


def _complete(path: Path, start: int) -> list[Mark]:
    kept: list[Mark] = []
    for line in read_lines(path, start):
        entry = line.entry
        if entry is None:
            continue
        while kept and kept[-1].number >= entry.number:
            kept.pop()
        follows = entry.base or (bool(kept) and entry.previous == kept[-1].digest)
        place = (line.start, line.end, line.digest, entry.number, entry.at)
        kept.append(Mark(*place, entry.base, entry.last, follows))
    while kept and not kept[-1].last:
        kept.pop()
    return kept


def read_entries(path: Path, marks: Sequence[Mark]) -> Iterator[LedgerEntry]:
    """Yield the entries that stand at the marks; one that changed meanwhile is left out."""
    if not marks:  # there may be no file
        return
    with path.open("rb") as file:
        for mark in marks:
            file.seek(mark.start)
            entry = read_line(file.read(mark.end - mark.start), mark.start).entry
            if entry is not None:
                yield entry


def _outward(row: Row) -> dict[str, Any]:
    return {
        name: {"hex": value.hex()} if isinstance(value, bytes) else value
        for name, value in row.items()
    }


def _inward(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        str(name): bytes.fromhex(value["hex"]) if isinstance(value, dict) else value
        for name, value in row.items()
    }
