"""What commands that died left behind is removed, and nothing else."""

import os
from pathlib import Path
from unittest import mock

import pytest

from mstore.catalog import objects
from mstore.errors import SystemIOError, UsageError
from mstore.store import Store
from tests.ops.making import added, checkpoint, packs, weights


@pytest.fixture
def orphan(store: Store, tmp_path: Path) -> Path:
    """A pack whose command failed after it had its name, and before the catalog knew it."""
    added(store, checkpoint(tmp_path / "a" / "ckpt-1"))
    before = set(packs(store))
    broken = mock.patch.object(objects, "add_pack", side_effect=OSError(5, "Input/output error"))
    with broken, pytest.raises(SystemIOError):
        added(store, checkpoint(tmp_path / "b" / "ckpt-2", weights(7)))
    (left,) = set(packs(store)) - before
    return left


def test_a_pack_that_nothing_knows_is_removed(store: Store, orphan: Path) -> None:
    size = orphan.stat().st_size
    would = store.gc(dry_run=True, grace=0)
    assert (would.removed, would.bytes, would.dry_run) == ((orphan.stem,), size, True)
    assert orphan.exists()
    done = store.gc(grace=0)
    assert done.removed == would.removed
    assert not orphan.exists()
    assert store.gc(grace=0).removed == ()
    report = store.verify()
    assert report.clean
    assert report.checkpoints == 1


def test_what_was_written_lately_stays(store: Store, orphan: Path) -> None:
    report = store.gc()
    assert (report.removed, report.young) == ((), 1)
    assert orphan.exists()
    os.utime(orphan, (1, 1))
    assert store.gc().removed == (orphan.stem,)
    with pytest.raises(UsageError, match="0 or more"):
        store.gc(grace=-1)


def test_what_is_removed_can_be_added_again(store: Store, orphan: Path, tmp_path: Path) -> None:
    assert orphan.exists()
    store.gc(grace=0)
    again = added(store, tmp_path / "b" / "ckpt-2")
    assert again.new
    store.checkout(again.id, tmp_path / "out")
    assert store.verify().clean
