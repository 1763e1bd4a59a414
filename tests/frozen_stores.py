"""The stores in tests/frozen."""

import json
import tarfile
from pathlib import Path
from typing import Any

ARCHIVES = sorted((Path(__file__).parent / "frozen").glob("*.tar.xz"))


def thaw(archive: Path, directory: Path) -> dict[str, Any]:
    """Unpack a store; return what it said of itself when it was frozen."""
    with tarfile.open(archive) as file:
        # The argument is there in newer patches of the older Pythons alone.
        options: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        file.extractall(directory, **options)  # noqa: S202 - our own archive
    told: dict[str, Any] = json.loads((directory / "told.json").read_text(encoding="utf-8"))
    return told
