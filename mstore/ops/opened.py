"""A checkpoint whose files are held open, so that it can be added even after it was deleted."""

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from mstore import disk
from mstore.domain.progress import NoProgress
from mstore.domain.tensors import DECODED, Tensor, TensorTable
from mstore.errors import InputError
from mstore.formats.files import damaged, label, open_regular
from mstore.formats.layout import Layout
from mstore.formats.open import primary_file, read_layout
from mstore.objects.ingest import Source, ingest
from mstore.objects.manifest import Manifest
from mstore.objects.packs import object_id
from mstore.ops.checksums import CrcCollector
from mstore.ops.watch import CrcWatch

Identity = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file of a checkpoint, held open: it can be read even after it was deleted."""

    path: Path
    suffix: str
    file: BinaryIO
    identity: Identity


class OpenCheckpoint:
    """A checkpoint whose files are open and whose tensor table has been read.

    Attributes:
        path: what was asked for: the prefix, the file or the directory.
        layout: what its files are.
        files: the files.
    """

    def __init__(self, path: Path) -> None:
        """Open all files of the checkpoint that ``path`` names.

        Raises:
            InputError: there is none.
            DamagedFileError: it is damaged.
            SystemIOError: a file cannot be read.
        """
        self.path = path
        self._stack = ExitStack()
        self._decoded: BinaryIO | None = None
        with ExitStack() as undo, disk.os_errors(f"the checkpoint {path} cannot be read"):
            undo.callback(self.close)
            # Opened before anything is read of it: if it is rewritten meanwhile, that shows.
            first = self._open(primary_file(path), "")
            self.layout: Layout = read_layout(path)
            self.files = [
                replace(first, suffix=suffix)
                if self.layout.path(suffix) == first.path
                else self._open(self.layout.path(suffix), suffix)
                for suffix in self.layout.files
            ]
            self._check_extents()
            undo.pop_all()

    def _open(self, path: Path, suffix: str) -> OpenFile:
        file = self._stack.enter_context(open_regular(path))
        return OpenFile(path, suffix, file, _identity(os.fstat(file.fileno())))

    def _check_extents(self) -> None:
        """Check that tensors lie within their files and share no bytes."""
        sizes = {file.suffix: file.identity[2] for file in self.files}
        end, before = 0, -1
        for tensor in sorted(self.layout.table, key=lambda t: (t.shard, t.offset, t.size)):
            suffix = self.layout.table.files[tensor.shard]
            if tensor.shard != before:
                end, before = 0, tensor.shard
            if tensor.size and tensor.offset < end:
                raise damaged(str(self.path), f"{label(tensor)} shares bytes with another tensor")
            end = max(end, tensor.offset + tensor.size)
            if suffix != DECODED and tensor.size and end > sizes.get(suffix, 0):
                raise damaged(str(self.path), f"{label(tensor)} ends behind its file: cut short")

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.identity[2] for file in self.files)

    def take(
        self, read: Callable[[list[Source]], Manifest], scratch: Path | None = None
    ) -> Manifest:
        """Let ``read`` take the files in and return their manifest, complete with the tensors.

        Args:
            read: takes sources and gives their manifest.
            scratch: directory for the file of decoded tensors; None is the system's.

        Raises:
            DamagedFileError: a tensor does not have the CRC32C on record, or cannot be decoded.
        """
        sources, collectors = self._sources(scratch)
        manifest = read(sources)
        table = self.layout.table
        values = {key: crc for collector in collectors for key, crc in collector.values.items()}
        if values:
            found = tuple(replace(t, crc32c=values.get(t.key, t.crc32c)) for t in table)
            table = replace(table, tensors=found)
        indexed = self.layout.checked and self.layout.decode is None
        return replace(
            manifest,
            tensors=None if indexed else table,
            architecture=self.layout.architecture,
        )

    def _sources(self, scratch: Path | None) -> tuple[list[Source], list[CrcCollector]]:
        """Return the files, their tensors watched for what CRC32C they have or should have."""
        table = self.layout.table
        files = [(file.suffix, file.file, file.identity[2], file.path) for file in self.files]
        if self.layout.decode is not None:
            decoded = self._decode(scratch)
            files.append((DECODED, decoded, os.fstat(decoded.fileno()).st_size, self.path))
        by_file: dict[str, list[Tensor]] = {suffix: [] for suffix, *_ in files}
        for tensor in table:
            if not tensor.sliced:
                by_file[table.files[tensor.shard]].append(tensor)
        sources, collectors = [], []
        for suffix, file, size, path in files:
            tensors = by_file[suffix]
            extents = [(tensor.offset, tensor.size) for tensor in tensors]
            if self.layout.checked and suffix != DECODED:
                watch = CrcWatch(tensors, path=str(path)) if tensors else None
                sources.append(Source(suffix, file.fileno(), size, extents, watch))
            else:
                collector = CrcCollector(tensor for tensor in tensors if not tensor.crc32c)
                collectors.append(collector)
                sources.append(Source(suffix, file.fileno(), size, extents, collector))
        return sources, collectors

    def _decode(self, scratch: Path | None) -> BinaryIO:
        if self._decoded is None:
            decode = self.layout.decode
            assert decode is not None  # noqa: S101 - the caller looked
            # It has no name, so that nothing is left whatever happens.
            target = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - `close` closes it
            self._stack.callback(target.close)
            decode({file.suffix: file.file for file in self.files}, target)
            target.flush()
            needed = (
                t.offset + t.size
                for t in self.layout.table
                if self.layout.table.files[t.shard] == DECODED
            )
            if os.fstat(target.fileno()).st_size < max(needed, default=0):
                raise damaged(str(self.path), "its tensors are shorter than it says")
            self._decoded = target
        return self._decoded

    def content(self, manifest: Manifest) -> str:
        """Return the content id: BLAKE3 in hex, equal for checkpoints of equal content."""
        if self.layout.identity is None:
            return object_id(manifest.identity()).hex()
        opened = {file.suffix: file.file for file in self.files}
        return object_id(self.layout.identity(opened)).hex()

    def table(self) -> TensorTable:
        """Return the tensor table with every CRC32C; computes those that are not on record."""
        if self.layout.checked and self.layout.decode is None:
            return self.layout.table
        manifest = self.take(lambda sources: ingest(sources, None, lambda _: set(), NoProgress()))
        assert manifest.tensors is not None  # noqa: S101 - so it is for such layouts
        return manifest.tensors

    def ensure_unchanged(self) -> None:
        """Check that the files are still there and were not written to since they were opened.

        Raises:
            InputError: one was deleted or rewritten.
        """
        for file in self.files:
            try:
                identity = _identity(file.path.stat())
            except FileNotFoundError:
                raise InputError(
                    f"the checkpoint {self.path} was deleted while it was being added "
                    f"({file.path.name} is gone); nothing was stored",
                    hint="add checkpoints before the trainer removes them, or keep more of them "
                    "(CheckpointManager max_to_keep)",
                ) from None
            if identity != file.identity:
                raise InputError(
                    f"the checkpoint {self.path} was rewritten while it was being added "
                    f"({file.path.name} changed); nothing was stored",
                    hint="add it again when the save has ended",
                )

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    def __enter__(self) -> "OpenCheckpoint":
        """Return the checkpoint itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self.close()


def _identity(status: os.stat_result) -> Identity:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
