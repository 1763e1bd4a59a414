"""Where good copies of damaged objects may be: original files, served directories, other stores."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mstore.catalog import versions as ledger
from mstore.catalog.checkpoints import CheckpointRow
from mstore.catalog.engine import reading
from mstore.catalog.versions import VersionRow
from mstore.domain.progress import NoProgress
from mstore.errors import DamagedStoreError, Error
from mstore.objects.ingest import Known, Source, ingest
from mstore.objects.manifest import Manifest, ManifestFile, coalesce
from mstore.objects.packs import CHUNK, Entry, PackWriter, decode, object_id, pack_path
from mstore.ops.context import Context
from mstore.ops.deploying import is_version
from mstore.ops.opened import OpenCheckpoint

_UNREADABLE = (OSError, Error)


@dataclass
class Copies:
    """Collects good copies in a pack.

    Attributes:
        context: the store.
        writer: where copies go.
        wanted: the objects that are missing or damaged, and their kinds.
        origins: id of an object to where its copy came from.
    """

    context: Context
    writer: PackWriter
    wanted: dict[bytes, int]
    origins: dict[bytes, str] = field(default_factory=dict)

    def lacking(self) -> set[bytes]:
        """Return the ids of which no copy was found yet."""
        return set(self.wanted) - set(self.writer.entries)

    def _heed(self, origin: str, before: set[bytes]) -> None:
        for key in before - self.lacking():
            self.origins[key] = origin

    def from_store(self, other: Context) -> None:
        """Take what another store has; each object is checked against its id."""
        before = self.lacking()
        with other.reader() as reader:
            for key in sorted(before):
                with suppress(DamagedStoreError):
                    self.writer.add(self.wanted[key], reader.read(key), id_=key)
        self._heed(str(other.root), before)

    def from_bases(self) -> None:
        """Take differences that are sound themselves and whose bases were found."""
        places = self.context.locate(sorted(self.lacking()))
        left = {key: place for key, place in places.items() if place[1].base is not None}
        while True:
            found = {key for key, (_, entry) in left.items() if entry.base in self.writer.entries}
            if not found:
                return
            for key in found:
                name, entry = left.pop(key)
                with suppress(*_UNREADABLE):
                    self._from_base(pack_path(self.context.packs, name), entry)

    def _from_base(self, pack: Path, entry: Entry) -> None:
        assert entry.base is not None  # noqa: S101 - asked for
        with pack.open("rb") as file:
            stored = os.pread(file.fileno(), entry.stored, entry.offset)
        data = decode(entry, stored, self.writer.read(entry.base))
        self.writer.add(self.wanted[entry.id], data, id_=entry.id)
        self.origins[entry.id] = f"the difference to {entry.base.hex()}"

    def from_checkpoint(self, row: CheckpointRow, path: Path) -> Manifest | None:
        """Take what the files of a checkpoint hold, wherever they are.

        Returns:
            Their manifest, where that is lost and they are the very files that were added.
        """
        before = self.lacking()
        manifest = None
        with suppress(*_UNREADABLE):
            if row.manifest in before:  # so nobody knows which chunks it needs
                if self._take(path, None, self.context.known)[0] == row.checkpoint.content:
                    known = self.context.known
                    manifest = self._take(path, self.writer, lambda ids: known(ids) - before)[1]
            else:
                self._take(path, self.writer, lambda ids: set(ids) - before)
        self._heed(str(path), before)
        return manifest

    @staticmethod
    def _take(path: Path, writer: PackWriter | None, known: Known) -> tuple[str, Manifest]:
        """Take in the files of a checkpoint; return its content id and its manifest."""

        def read(sources: list[Source]) -> Manifest:
            return ingest(sources, writer, known, NoProgress())

        with OpenCheckpoint(path) as opened:
            manifest = opened.take(read)
            return opened.content(manifest), manifest

    def from_version(self, manifest: Manifest, directory: Path) -> None:
        """Take the chunks that the files of a published version hold as a whole."""
        before = self.lacking()
        for file in manifest.files:
            with suppress(OSError):
                for key, data in _chunks(directory / file.path, file, before):
                    if object_id(data) == key:
                        self.writer.add(CHUNK, data, id_=key)
        self._heed(str(directory), before)

    def manifest_of_version(self, row: VersionRow, directory: Path) -> Manifest | None:
        """Take a whole version, whose manifest is lost, from where it is published."""
        try:
            if not is_version(directory, row.version.files):
                return None
            return _ingest_directory(self.context, self.writer, directory, self.lacking())
        except _UNREADABLE:
            return None


def _chunks(path: Path, file: ManifestFile, wanted: set[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield id and bytes of each wanted chunk of which a file holds the beginning."""
    offset = 0
    with path.open("rb") as stream:
        for piece in coalesce(file.pieces):
            if piece.start == 0 and piece.chunk in wanted:
                yield piece.chunk, os.pread(stream.fileno(), piece.length, offset)
            offset += piece.length


def _ingest_directory(
    context: Context, writer: PackWriter, directory: Path, bad: set[bytes]
) -> Manifest:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    descriptors: list[int] = []
    try:
        sources = []
        for path in files:
            descriptors.append(os.open(path, os.O_RDONLY))
            size = os.fstat(descriptors[-1]).st_size
            sources.append(Source(str(path.relative_to(directory)), descriptors[-1], size))
        known = context.known
        return ingest(sources, writer, lambda ids: known(ids) - bad, NoProgress())
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def places_of_checkpoint(row: CheckpointRow, given: Sequence[Path]) -> list[Path]:
    """Return where the files of a checkpoint may be: where they were, and below ``given``."""
    source = Path(row.checkpoint.source)
    places = [source]
    for directory in given:
        places += [directory / source.name, directory / source.parent.name / source.name]
    return places


def places_of_version(context: Context, row: VersionRow, given: Sequence[Path]) -> list[Path]:
    """Return where a version may be published: where it was, and below ``given``."""
    with reading(context.engine) as connection:
        found = ledger.find_deployments(connection, model=row.version.model)
    places = [Path(item.path) for item in found if item.version == row.version.version]
    for directory in given:
        places += [directory, directory / str(row.version.version)]
    return list(dict.fromkeys(places))
