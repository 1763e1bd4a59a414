"""Manifests: the files of a checkpoint or version as slices of chunks."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from mstore.errors import DamagedStoreError


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


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file: its path (of a checkpoint: what follows the prefix), size, SHA-256 and pieces."""

    path: str
    size: int
    sha256: str
    pieces: tuple[Piece, ...]

    def slice(self, offset: int, length: int) -> list[Piece]:
        """Return the pieces that cover ``length`` bytes from ``offset``."""
        found: list[Piece] = []
        position = 0
        for piece in self.pieces:
            start = max(offset, position)
            end = min(offset + length, position + piece.length)
            if start < end:
                found.append(Piece(piece.chunk, piece.start + start - position, end - start))
            position += piece.length
        return found


@dataclass(frozen=True, slots=True)
class Manifest:
    """All files, ordered by path."""

    files: tuple[ManifestFile, ...]

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
        return canonical([[file.path, file.size, file.sha256] for file in self.files])

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that `from_bytes` reads."""
        return canonical(
            {
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
        )

    @staticmethod
    def from_bytes(data: bytes) -> "Manifest":
        """Read a manifest.

        Raises:
            DamagedStoreError: it is not one.
        """
        try:
            return Manifest(tuple(_file(entry) for entry in json.loads(data)["files"]))
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedStoreError(f"a manifest of the store cannot be read: {error}") from error


def _file(entry: dict[str, object]) -> ManifestFile:
    pieces = entry["pieces"]
    if not isinstance(pieces, list) or not isinstance(entry["size"], int):
        raise TypeError("wrong types")
    return ManifestFile(
        str(entry["path"]),
        entry["size"],
        str(entry["sha256"]),
        tuple(Piece(bytes.fromhex(chunk), int(start), int(n)) for chunk, start, n in pieces),
    )


def canonical(value: object) -> bytes:
    """Return JSON with sorted keys, no spaces and no NaN, in UTF-8: equal values, equal bytes."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


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
