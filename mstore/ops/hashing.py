"""SHA-256 of whole files, where outsiders check it."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from mstore.domain.records import FileRecord

_BLOCK = 1 << 20

STATEMENT_PATH = "assets.extra/mstore.json"
"""Where a version carries its provenance statement."""


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def version_digest(files: Iterable[FileRecord]) -> str:
    """Return one SHA-256 for a whole version.

    It is taken over lines ``path NUL size NUL sha256 LF`` in path order; the statement is left
    out, since it names this digest's inputs itself.
    """
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.path):
        if file.path != STATEMENT_PATH:
            digest.update(f"{file.path}\0{file.size}\0{file.sha256}\n".encode())
    return digest.hexdigest()
