"""A trainer deletes or rewrites a checkpoint while it is being added: nothing of it is kept."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mstore import disk
from mstore.errors import DamagedFileError, InputError
from mstore.store import Store
from tests.crash.conversion import make_checkpoint

Change = Callable[[Path], None]


def unlink(path: Path) -> None:
    path.unlink()


def replace_by_another(path: Path) -> None:
    """Put a file of the same size there, as a second save of the same step does."""
    other = make_checkpoint(path.parent / "other" / "ckpt-7", 8)
    (other.parent / path.name).replace(path)


def touch(path: Path) -> None:
    os.utime(path, ns=(0, 0))


def truncate(path: Path) -> None:
    os.truncate(path, 10)


class Acting:
    """Progress that acts when the bytes begin to be read, or when some have been."""

    def __init__(self, act: Callable[[], object], when: str) -> None:
        self.act = act
        self.when = when

    def _now(self, when: str) -> None:
        if when == self.when:
            self.when = ""
            self.act()

    def start(self, label: str, total_bytes: int | None) -> None:
        del label, total_bytes
        self._now("start")

    def advance(self, count: int) -> None:
        del count
        self._now("advance")

    def finish(self) -> None:
        """Do nothing."""


def ensure_nothing_stored(root: Path) -> None:
    with Store.open(root, exact=True) as store:
        assert store.list() == ()
        assert store.log() == ()
        report = store.verify()
        assert (report.clean, report.notes, report.packs) == (True, (), 0)
    assert [path for path in (root / ".mstore" / "packs").rglob("*") if path.is_file()] == []
    assert list((root / ".mstore" / "tmp").iterdir()) == []


@pytest.mark.parametrize("change", [unlink, replace_by_another, touch, truncate])
@pytest.mark.parametrize("suffix", [".index", ".data-00000-of-00001"])
@pytest.mark.parametrize("when", ["start", "advance"])
def test_a_checkpoint_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, change: Change, suffix: str, when: str
) -> None:
    prefix = make_checkpoint(tmp_path / "ckpts" / "ckpt-7", 7)
    progress = Acting(lambda: change(prefix.with_name(prefix.name + suffix)), when)
    with (
        Store.init(tmp_path, progress=progress) as store,
        pytest.raises(InputError, match=r"while it was being|is not there"),
    ):
        store.add(prefix, model="m")
    assert progress.when == "", "the change was made"
    ensure_nothing_stored(tmp_path)


def test_a_checkpoint_that_is_overwritten_in_place_is_refused(tmp_path: Path) -> None:
    """The bytes that were read are a mixture, which a CRC32C may show first."""
    prefix = make_checkpoint(tmp_path / "ckpts" / "ckpt-7", 7)
    data = prefix.with_name(f"{prefix.name}.data-00000-of-00001")
    progress = Acting(lambda: data.write_bytes(b"\1" * data.stat().st_size), "start")
    with (
        Store.init(tmp_path, progress=progress) as store,
        pytest.raises((InputError, DamagedFileError)),
    ):
        store.add(prefix, model="m")
    ensure_nothing_stored(tmp_path)


def test_a_deletion_at_any_write_is_refused_or_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before all bytes are read the add fails; after that it succeeds with the bytes it read."""
    outcomes: list[bool] = []
    for count in range(1, 100):
        root = tmp_path / str(count)
        prefix = make_checkpoint(root / "ckpts" / "ckpt-7", 7)
        data = prefix.with_name(f"{prefix.name}.data-00000-of-00001")
        content = data.read_bytes()
        with Store.init(root) as store:
            left = count

            def observe(_action: str, _path: str, data: Path = data) -> None:
                nonlocal left
                left -= 1
                if not left:
                    data.unlink()

            with monkeypatch.context() as patch:
                patch.setattr(disk, "observer", observe)
                try:
                    store.add(prefix, model="m")
                except InputError:
                    outcomes.append(False)
                else:
                    outcomes.append(True)
            if outcomes[-1]:
                store.checkout("m@7", root / "out")
                assert (root / "out" / data.name).read_bytes() == content
                assert store.verify().clean
        if not outcomes[-1]:
            ensure_nothing_stored(root)
        if left > 0:
            break
    assert outcomes == sorted(outcomes), "once the bytes are read, a deletion does no harm"
    assert outcomes.count(False) >= 3
    assert outcomes.count(True) >= 5
