"""Manifests: the files of a checkpoint or version as slices of chunks."""

import json
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

from mstore.domain.canonical import canonical
from mstore.domain.tensors import DECODED, DTYPES, Tensor, TensorTable
from mstore.errors import DamagedStoreError

_DTYPE_NAMES = frozenset(name for name, _ in DTYPES.values())


@dataclass(frozen=True, slots=True)
class Piece:
    """A slice of a chunk.

    Attributes:
        chunk: id of the chunk, 32 bytes.
        start: first byte in the chunk.
        length: how many bytes.
    """

    chunk: bytes
    start: int
    length: int


@dataclass(frozen=True)
class ManifestFile:
    """One file: its path (of a checkpoint: what follows the prefix), size, SHA-256 and pieces."""

    path: str
    size: int
    sha256: str
    pieces: tuple[Piece, ...]

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(piece.length for piece in self.pieces))

    def slice(self, offset: int, length: int) -> list[Piece]:
        """Return the pieces that cover ``length`` bytes from ``offset``."""
        found: list[Piece] = []
        at = bisect_right(self._ends, offset)
        while length and at < len(self.pieces):
            piece = self.pieces[at]
            skipped = offset - (self._ends[at] - piece.length)
            taken = min(length, piece.length - skipped)
            found.append(Piece(piece.chunk, piece.start + skipped, taken))
            offset, length, at = offset + taken, length - taken, at + 1
        return found


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a checkpoint or version.

    Attributes:
        files: all of them, ordered by path.
        tensors: what they hold, where no index among the files says so by offset.
        architecture: what they carry of the model besides weights, None if nothing.
    """

    files: tuple[ManifestFile, ...]
    tensors: TensorTable | None = None
    architecture: str | None = None

    def file(self, path: str) -> ManifestFile:
        """Return the file called ``path``.

        Raises:
            KeyError: there is none.
        """
        for file in self.files:
            if file.path == path:
                return file
        raise KeyError(path)

    def chunks(self) -> set[bytes]:
        """Return the ids of all chunks it needs."""
        return {piece.chunk for file in self.files for piece in file.pieces}

    def identity(self) -> bytes:
        """Return canonical bytes of paths, sizes and SHA-256 alone, whatever the chunks."""
        return canonical([[file.path, file.size, file.sha256] for file in self.originals])

    @property
    def originals(self) -> tuple[ManifestFile, ...]:
        """The files that people brought: all but that of decoded tensors."""
        return tuple(file for file in self.files if file.path != DECODED)

    def slices(self, table: TensorTable, tensor: Tensor) -> list[Piece]:
        """Return the slices of chunks that hold a tensor of the manifest's table.

        Raises:
            DamagedStoreError: there is no such file, or it is too short.
        """
        try:
            pieces = self.file(table.files[tensor.shard]).slice(tensor.offset, tensor.size)
        except (KeyError, IndexError):
            pieces = []
        if sum(piece.length for piece in pieces) != tensor.size:
            raise DamagedStoreError(
                f"a manifest of the store has no place for tensor {tensor.name}",
                hint="run: mstore verify",
            )
        return pieces

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that `from_bytes` reads."""
        body: dict[str, Any] = {
            "files": [
                {
                    "path": file.path,
                    "size": file.size,
                    "sha256": file.sha256,
                    "pieces": [[p.chunk.hex(), p.start, p.length] for p in file.pieces],
                }
                for file in self.files
            ]
        }
        if self.tensors is not None:
            body["tensors"] = _table_json(self.tensors)
        if self.architecture is not None:
            body["architecture"] = self.architecture
        return canonical(body)

    @staticmethod
    def from_bytes(data: bytes) -> "Manifest":
        """Read a manifest.

        Raises:
            DamagedStoreError: it is not one.
        """
        try:
            body = json.loads(data)
            files = tuple(_file(entry) for entry in body["files"])
            table = _table(body["tensors"]) if "tensors" in body else None
            return Manifest(files, table, body.get("architecture"))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise DamagedStoreError(f"a manifest of the store cannot be read: {error}") from error


def _file(entry: dict[str, object]) -> ManifestFile:
    pieces = entry["pieces"]
    if not isinstance(pieces, list) or not isinstance(entry["size"], int):
        raise TypeError("wrong types")
    # The path is put behind a name of ours; it must not lead out of the directory it is put in.
    if {"..", "."} & set(f"x{entry['path']}".split("/")) or "\0" in str(entry["path"]):
        raise ValueError("a path that climbs")
    return ManifestFile(
        str(entry["path"]),
        entry["size"],
        str(entry["sha256"]),
        tuple(Piece(bytes.fromhex(chunk), int(start), int(n)) for chunk, start, n in pieces),
    )


def _table_json(table: TensorTable) -> dict[str, Any]:
    entries = [
        [t.key.hex(), t.dtype, list(t.shape), t.shard, t.offset, t.size, t.crc32c, t.full_name]
        # The entry that heads a partitioned variable is marked by one element more.
        + ([True] if t.sliced else [])
        for t in table
    ]
    return {"files": list(table.files), "entries": entries}


def _table(body: dict[str, Any]) -> TensorTable:
    files = tuple(str(name) for name in body["files"])
    tensors = tuple(_tensor(*entry) for entry in body["entries"])
    if any(tensor.shard >= len(files) for tensor in tensors):
        raise ValueError("a tensor in no file")
    return TensorTable(tensors, len(files), files)


def _tensor(key: str, dtype: str, shape: list[int], *others: Any) -> Tensor:
    *numbers, name = others[:5]
    shard, offset, size, crc32c = (int(number) for number in numbers)
    if dtype not in _DTYPE_NAMES or min(shard, offset, size, *shape, 0) < 0:
        raise ValueError("no such tensor")
    sliced = others[5:] == (True,)
    places = (shard, offset, size, crc32c)
    return Tensor(bytes.fromhex(key), dtype, tuple(shape), *places, name, sliced)


def coalesce(pieces: Iterable[Piece]) -> tuple[Piece, ...]:
    """Join neighbouring slices of the same chunk."""
    joined: list[Piece] = []
    for piece in pieces:
        last = joined[-1] if joined else None
        if last and last.chunk == piece.chunk and last.start + last.length == piece.start:
            joined[-1] = Piece(last.chunk, last.start, last.length + piece.length)
        else:
            joined.append(piece)
    return tuple(joined)
