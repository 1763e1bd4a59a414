"""What a command shows to others was made durable before, in the order that a power cut needs."""

from pathlib import PurePath

import pytest

from mstore.disk import STAGING_PREFIX
from tests.crash.children import drive

Steps = list[tuple[str, str]]


def steps_of(command: str) -> Steps:
    return [(action, path) for action, path in drive("tests.crash.killing:steps", command)]


def ensure_synced(steps: Steps, path: str) -> None:
    """Check that a file was made durable after the last byte was written to it."""
    kinds = [action for action, where in steps if where == path]
    assert kinds[0] == "create"
    assert kinds[-1] == "fsync", f"{path}: {kinds}"


def created_below(steps: Steps, directory: PurePath) -> list[str]:
    made = [path for action, path in steps if action == "create"]
    return [path for path in made if directory in PurePath(path).parents]


@pytest.mark.parametrize("command", ["add", "export", "promote"])
def test_a_pack_is_durable_before_the_catalog_knows_it(command: str) -> None:
    steps = steps_of(command)
    shown = [at for at, (action, _) in enumerate(steps) if action == "replace"]
    assert len(shown) == (2 if command == "export" else 1)
    for at in shown:
        before = [path for action, path in steps[:at] if action == "create"]
        ensure_synced(steps[:at], next(p for p in reversed(before) if p.endswith("/pack")))
        directory = PurePath(steps[at][1]).parent
        assert steps[at + 1] == ("fsync-directory", str(directory))
        # The ledger is waited for, unless its facts are in the pack, or their file is new.
        ledger = [action for action, path in steps[at + 2 :] if path == ".mstore/ledger"]
        assert ledger[: 1 if command == "add" else 2] == ["append", "fsync"][: len(ledger[:2])]
        commit = steps.index(("commit", ".mstore/catalog.db"), at)
        assert {path for _, path in steps[at + 2 : commit]} == {".mstore/ledger"}
        # Another process may have made the directory and died before that was durable.
        assert steps[at - 1] == ("fsync-directory", str(directory.parent))


@pytest.mark.parametrize("command", ["export", "promote"])
def test_a_version_is_durable_before_a_server_can_see_it(command: str) -> None:
    steps = steps_of(command)
    at = next(at for at, step in enumerate(steps) if step[0] == "rename" and "base/" in step[1])
    staged = next(
        PurePath(path)
        for action, path in steps
        if action == "mkdir"
        and path.startswith(f"base/{STAGING_PREFIX}")
        and path.endswith("version")
    )
    files = created_below(steps, staged)
    assert {PurePath(path).name for path in files} >= {"saved_model.pb", "variables.index"}
    for path in files:
        ensure_synced(steps[:at], path)
        assert steps.index(("fsync-directory", str(PurePath(path).parent))) < at
    last = max(place for place, step in enumerate(steps[:at]) if step[0] == "create")
    assert last < steps.index(("fsync-directory", str(staged))) < at
    assert steps[at + 1] == ("fsync-directory", "base")


def test_a_store_is_durable_before_it_is_there() -> None:
    steps = steps_of("init")
    at = steps.index(("rename", ".mstore"))
    (marker,) = (path for action, path in steps if action == "create")
    ensure_synced(steps[:at], marker)
    assert ("commit", str(PurePath(marker).parent / "catalog.db")) in steps[:at]
    assert steps[at - 1] == ("fsync-directory", str(PurePath(marker).parent))
    assert steps[at + 1] == ("fsync-directory", ".")
