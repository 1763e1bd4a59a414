"""Packs that the catalog does not know, and the records in them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mstore.catalog import objects
from mstore.catalog.engine import reading
from mstore.errors import DamagedStoreError
from mstore.objects.packs import RECORD, Entry, decode, read_index
from mstore.ops.context import Context


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a pack.

    Attributes:
        id: id of its object.
        type: its type, without name space and number.
        at: time of the event, ISO 8601 in UTC.
        body: what it says.
        size: bytes of its pack.
    """

    id: bytes
    type: str
    at: str
    body: Mapping[str, Any]
    size: int


@dataclass(frozen=True, slots=True)
class Stray:
    """A pack that the catalog does not know.

    Attributes:
        name: its name.
        size: its bytes.
        at: time of its first record, or of its file.
        entries: its objects.
        records: its records.
    """

    name: str
    size: int
    at: str
    entries: tuple[Entry, ...]
    records: tuple[Record, ...]


def read_strays(context: Context, *, after: str | None) -> list[Stray]:
    """Read the packs that the catalog does not know.

    Args:
        context: the store.
        after: only checkpoints added later than this; what is older and not in the ledger was
            never committed, and other events are on disk in the ledger before they are committed.
            None takes all, where no ledger can tell.

    Returns:
        The packs in the order of their times.
    """
    with reading(context.engine) as connection:
        known = {name for name, _ in objects.all_packs(connection)}
    strays = []
    for path in sorted(context.packs.glob("*/*.pack")):
        if path.stem not in known:
            try:
                strays.append(_read(path))
            except DamagedStoreError:  # no index, so nobody can say what is in it
                continue
    if after is not None:
        strays = [
            stray
            for stray in strays
            if any(record.type == "checkpoint" and record.at > after for record in stray.records)
        ]
    return sorted(strays, key=lambda stray: (stray.at, stray.name))


def _read(path: Path) -> Stray:
    entries = read_index(path)
    status = path.stat()
    records = []
    with path.open("rb") as file:
        for entry in entries:
            if entry.kind == RECORD:
                file.seek(entry.offset)
                body = json.loads(decode(entry, file.read(entry.stored)))
                kind = str(body["type"]).split("/")[1]
                records.append(Record(entry.id, kind, _time(kind, body), body, status.st_size))
    written = datetime.fromtimestamp(status.st_mtime, timezone.utc)
    at = written.isoformat(timespec="microseconds").replace("+00:00", "Z")
    first = min((record.at for record in records), default=at)
    return Stray(path.stem, status.st_size, first, entries, tuple(records))


def _time(kind: str, body: Mapping[str, Any]) -> str:
    places: dict[str, tuple[str, ...]] = {
        "checkpoint": ("checkpoint", "added_at"),
        "version": ("version", "created_at"),
        "program": ("program", "recorded_at"),
        "deployment": ("deployment", "at"),
    }
    found: Any = body
    for name in places.get(kind, ("at",)):
        found = found.get(name, "")
    return str(found)
