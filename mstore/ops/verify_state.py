"""How far a verification came, so that one that was stopped can go on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mstore import disk
from mstore.domain.canonical import canonical
from mstore.ops.context import Context

_NAME = "verify.json"


def load(context: Context, subset: tuple[int, int]) -> Mapping[str, Any] | None:
    """Return where a verification of the same subset was stopped; None where there is none."""
    try:
        state = json.loads(_path(context).read_bytes())
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) and state.get("subset") == list(subset) else None


def save(context: Context, subset: tuple[int, int], after: str, counts: Mapping[str, int]) -> None:
    """Write down that all packs up to the one called ``after`` were read."""
    with disk.work_directory(context.tmp) as work:
        file = disk.NewFile(work / _NAME)
        try:
            file.write(canonical({"subset": list(subset), "after": after, **counts}))
        finally:
            file.close()
        disk.replace_file(file.path, _path(context))


def clear(context: Context) -> None:
    """Forget it: the verification came to its end."""
    disk.remove_file(_path(context))


def _path(context: Context) -> Path:
    return context.root / _NAME
