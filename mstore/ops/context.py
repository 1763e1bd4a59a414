"""What every use case needs: where the store is, its catalog, and who is asking."""

import os
import pwd
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import sqlalchemy as sa

from mstore.catalog import objects as object_queries
from mstore.catalog.engine import reading
from mstore.domain.progress import NoProgress, Progress
from mstore.objects.manifest import Manifest
from mstore.objects.packs import Entry
from mstore.objects.reader import ObjectReader

CATALOG = "catalog.db"
"""Name of the catalog in a store."""


@dataclass(frozen=True)
class Context:
    """An open store, as the use cases see it.

    Attributes:
        root: the ``.mstore`` directory.
        engine: connections to the catalog.
        progress: hears of long work.
    """

    root: Path
    engine: sa.Engine
    progress: Progress = field(default_factory=NoProgress)

    @property
    def packs(self) -> Path:
        """Where packs are."""
        return self.root / "packs"

    @property
    def tmp(self) -> Path:
        """Where unfinished work is."""
        return self.root / "tmp"

    def known(self, ids: Sequence[bytes]) -> set[bytes]:
        """Return those object ids that the store has."""
        with reading(self.engine) as connection:
            return object_queries.known(connection, ids)

    def locate(self, ids: Sequence[bytes]) -> Mapping[bytes, tuple[str, Entry]]:
        """Return pack and place of each object id that the store has."""
        with reading(self.engine) as connection:
            rows = object_queries.locate(connection, ids)
        return {row.id: (row.pack, entry_of(row)) for row in rows}

    def reader(self) -> ObjectReader:
        """Return a new reader of the store's objects."""
        return ObjectReader(self.packs, self.locate)

    def manifest(self, key: bytes) -> Manifest:
        """Return the manifest with that object id.

        Raises:
            DamagedStoreError: it is missing or damaged.
        """
        with self.reader() as reader:
            return Manifest.from_bytes(reader.read(key))


def entry_of(row: object_queries.ObjectRow) -> Entry:
    """Return a row of the catalog as the entry of a pack."""
    return Entry(row.id, row.kind, row.codec, row.offset, row.stored, row.raw, row.base)


def now() -> str:
    """Return the time in UTC as ISO 8601 with microseconds; texts sort as times do."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def whoami() -> str:
    """Return user and host, for the ledger."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a user id without an entry, common in containers
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
