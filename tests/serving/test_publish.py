import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from mstore import disk
from mstore.domain.records import FileRecord
from mstore.errors import ConflictError, DamagedStoreError, InputError, StoreLockedError
from mstore.serving.publish import FileToPlace, numbers, place, prepare_base

CONTENT = {"saved_model.pb": b"graph", "variables/variables.index": b"", "a/b/c": b"deep"}


def to_place(path: str, data: bytes, promised: bytes | None = None) -> FileToPlace:
    digest = hashlib.sha256(data if promised is None else promised).hexdigest()

    def read() -> Iterator[memoryview]:
        view = memoryview(data)
        return (view[at : at + 2] for at in range(0, len(view), 2))

    return FileToPlace(FileRecord(path, len(data), digest), read)


FILES = [to_place(path, data) for path, data in CONTENT.items()]


def never(_: Path) -> bool:
    return False


def publish(
    base: Path,
    number: int = 7,
    files: list[FileToPlace] = FILES,
    same: Callable[[Path], bool] = never,
) -> bool:
    prepare_base(base)
    return place(base, number, files, same, lambda _: None)


def test_a_version_appears_with_its_content(tmp_path: Path) -> None:
    seen: list[int] = []
    prepare_base(tmp_path / "deep" / "base")
    assert place(tmp_path / "deep" / "base", 7, FILES, never, seen.append)
    version = tmp_path / "deep" / "base" / "7"
    found = {str(f.relative_to(version)): f.read_bytes() for f in version.rglob("*") if f.is_file()}
    assert found == CONTENT
    assert sum(seen) == sum(map(len, CONTENT.values()))
    assert list(version.parent.iterdir()) == [version]


def test_the_server_may_read_it_whatever_the_umask(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    old = os.umask(0o077)
    try:
        publish(tmp_path / "base")
    finally:
        os.umask(old)
    for path in [tmp_path / "base" / "7", *(tmp_path / "base" / "7").rglob("*")]:
        assert path.stat().st_mode & 0o7777 == (0o755 if path.is_dir() else 0o644), path


@pytest.mark.parametrize("name", ["7", "007", " 7", "+7", "0" * 30 + "7"])
def test_a_number_that_the_server_would_see_twice_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(ConflictError) as caught:
        publish(tmp_path)
    assert repr(name) in caught.value.message
    assert "audit" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_same_version_again_is_left_alone(tmp_path: Path) -> None:
    publish(tmp_path)
    before = (tmp_path / "7").stat()
    assert publish(tmp_path, same=lambda path: path == tmp_path / "7") is False
    assert (tmp_path / "7").stat().st_mtime_ns == before.st_mtime_ns
    (tmp_path / "007").mkdir()
    with pytest.raises(ConflictError):
        publish(tmp_path, same=lambda _: True)


def test_bytes_that_are_not_what_was_promised_are_never_published(tmp_path: Path) -> None:
    for bad in (to_place("x", b"data", b"dato"), to_place("../x", b"d"), to_place("/x", b"d")):
        with pytest.raises(DamagedStoreError):
            publish(tmp_path, files=[*FILES, bad])
        assert list(tmp_path.iterdir()) == []
    assert not (tmp_path.parent / "x").exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt(), ValueError()])
def test_nothing_is_left_when_reading_fails(tmp_path: Path, error: BaseException) -> None:
    def fail() -> Iterator[memoryview]:
        yield memoryview(b"be")
        raise error

    bad = FileToPlace(FileRecord("x", 4, "0" * 64), fail)
    with pytest.raises(BaseException, match=r".*"):
        publish(tmp_path, files=[*FILES, bad])
    assert list(tmp_path.iterdir()) == []


def test_no_name_on_the_way_is_a_number_to_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[str] = set()
    (tmp_path / "3").mkdir()

    def watch(_action: str, _path: str | Path) -> None:
        seen.update(str(number) for number in numbers(tmp_path))

    monkeypatch.setattr(disk, "step", watch)
    rename = disk.rename_new

    def last(source: Path, target: Path) -> None:
        assert set(numbers(tmp_path)) == {3}
        rename(source, target)

    monkeypatch.setattr(disk, "rename_new", last)
    publish(tmp_path)
    assert "3" in seen
    assert set(numbers(tmp_path)) == {3, 7}


def test_one_publication_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wait = disk._wait_for_lock
    monkeypatch.setattr(disk, "_wait_for_lock", lambda d, p, _t: wait(d, p, 0.05))
    with disk.locked(tmp_path), pytest.raises(StoreLockedError):
        publish(tmp_path)
    assert publish(tmp_path)


def test_a_file_is_no_base_path(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError):
        prepare_base(tmp_path / "file")
    assert numbers(tmp_path / "gone") == {}


LARGE = bytes(range(256)) * 512


def shared(base: Path, sibling: Path) -> Path:
    """Publish a large file that a sibling may have; return where it is."""
    file = replace(to_place("variables/data", LARGE), siblings=[base / "none", sibling])
    publish(base, files=[file])
    return base / "7" / "variables" / "data"


def test_a_sibling_on_the_same_file_system_shares_its_blocks(tmp_path: Path) -> None:
    sibling = tmp_path / "other" / "data"
    sibling.parent.mkdir()
    sibling.write_bytes(LARGE)
    sibling.chmod(0o644)
    made = shared(tmp_path / "base", sibling)
    assert made.read_bytes() == LARGE
    clones = [made.stat().st_ino != sibling.stat().st_ino, made.stat().st_nlink == 1]
    assert made.stat().st_nlink == 2 or all(clones)  # a hard link, or a clone


@pytest.mark.parametrize("change", ["bytes", "size", "mode", "link", "gone", "refused"])
def test_a_sibling_that_is_not_the_same_is_not_taken(
    tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sibling = tmp_path / "other" / "data"
    sibling.parent.mkdir()
    sibling.write_bytes(LARGE)
    sibling.chmod(0o644)
    if change == "bytes":
        sibling.write_bytes(LARGE[:-1] + b"!")
    elif change == "size":
        sibling.write_bytes(LARGE[:-1])
    elif change == "mode":
        sibling.chmod(0o600)
    elif change == "link":
        sibling.rename(sibling.with_name("real"))
        sibling.symlink_to("real")
    elif change == "gone":
        sibling.unlink()
    else:
        monkeypatch.setattr(os, "link", Mock(side_effect=OSError(errno.EXDEV, "other")))
        monkeypatch.setattr(fcntl, "ioctl", Mock(side_effect=OSError(errno.ENOTTY, "none")))
    made = shared(tmp_path / "base", sibling)
    assert made.read_bytes() == LARGE
    assert made.stat().st_nlink == 1
    assert stat.S_IMODE(made.stat().st_mode) == 0o644
    assert sorted(path.name for path in made.parent.iterdir()) == ["data"]
