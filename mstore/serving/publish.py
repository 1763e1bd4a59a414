"""Place a version in a TensorFlow Serving base path so that no server can see it half done."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from mstore import disk
from mstore.domain.places import Base, BucketPath
from mstore.domain.records import FileRecord
from mstore.domain.serving_names import server_number
from mstore.errors import ConflictError, DamagedStoreError, InputError

DIRECTORY_MODE = 0o755
FILE_MODE = 0o644

_WORTH_SHARING = 1 << 16
"""Bytes from which on a file is shared with a sibling; smaller ones are copied."""


@dataclass(frozen=True, slots=True)
class FileToPlace:
    """One file of a version.

    Attributes:
        record: what it must be.
        read: yields its bytes.
        siblings: files elsewhere that should be the same, to be shared where that can be done.
    """

    record: FileRecord
    read: Callable[[], Iterable[memoryview]]
    siblings: Sequence[Path] = ()


def numbers(base: Base) -> dict[int, list[str]]:
    """Return what a server would take for versions: number to the names that parse to it.

    A base path that does not exist has none.
    """
    if isinstance(base, BucketPath):
        there: dict[int, list[str]] = _bucket().numbers(base)
        return there
    try:
        names = sorted(path.name for path in base.iterdir())
    except FileNotFoundError:
        return {}
    found: dict[int, list[str]] = {}
    for name in names:
        number = server_number(name)
        if number is not None:
            found.setdefault(number, []).append(name)
    return found


def _bucket() -> "ModuleType":
    from mstore.serving import bucket  # noqa: PLC0415 - which imports this module, for buckets alone

    return bucket


def prepare_base(base: Base) -> None:
    """Create the base path if need be.

    Raises:
        InputError: it is a file.
        SystemIOError: it cannot be created, or the bucket cannot be used.
    """
    if isinstance(base, BucketPath):
        _bucket().prepare_base(base)
        return
    if base.exists() and not base.is_dir():
        raise InputError(f"{base} is not a directory", hint="name the directory above the versions")
    with disk.os_errors(f"the base path {base} cannot be made"):
        _make_parents(base)


def _make_parents(path: Path) -> None:
    if not path.is_dir():
        _make_parents(path.parent)
        disk.make_directory(path)


def place(
    base: Path,
    number: int,
    files: Sequence[FileToPlace],
    same: Callable[[Path], bool],
    advance: Callable[[int], None],
) -> bool:
    """Publish a version as ``base/number``, one publication at a time; see `place_locked`.

    Raises:
        StoreLockedError: another publication holds the base path.
    """
    with disk.os_errors(f"publishing {base / str(number)} failed"), disk.locked(base):
        return place_locked(base, number, files, same, advance)


def place_locked(
    base: Base,
    number: int,
    files: Sequence[FileToPlace],
    same: Callable[[Any], bool],
    advance: Callable[[int], None],
) -> bool:
    """Publish a version as ``base/number``; the caller holds the lock of ``base``.

    The files are written to a directory beside it whose name no server reads as a number, each
    compared with its SHA-256 on the way and made durable; then one rename that fails if the number
    exists.

    Args:
        base: the base path; it must exist.
        number: the version's number.
        files: what it consists of.
        same: tells whether an existing directory is this very version.
        advance: hears of bytes written.

    Returns:
        False if the same version was there already and nothing was done.

    Raises:
        ConflictError: the number is there with other content, or under a name such as ``007``.
        DamagedStoreError: the bytes do not have their SHA-256.
        SystemIOError: the system refused.
    """
    if isinstance(base, BucketPath):
        return bool(_bucket().place(base, number, files, same, advance))
    with disk.os_errors(f"publishing {base / str(number)} failed"):
        disk.sweep(base, min_age=0)
        if _occupied(base, number, same):
            return False
        with disk.work_directory(base) as work:
            staged = work / "version"
            _make(staged)
            for file in files:
                _write(staged, file, advance)
            _sync_tree(staged)
            try:
                disk.rename_new(staged, base / str(number))
            except FileExistsError as error:
                raise _conflict(base, number) from error
    return True


def withdraw(base: Base, chosen: Sequence[int]) -> None:
    """Take versions out of sight of a server, one after the other; the caller holds the lock.

    Each leaves by one rename to a name that no server reads as a number. A server has what it
    serves in memory, and lets it go when it next looks. Versions that are gone already do no harm.

    Args:
        base: the base path.
        chosen: their numbers, in the order in which they leave.

    Raises:
        SystemIOError: the system refused; those before have left.
    """
    if isinstance(base, BucketPath):
        _bucket().withdraw(base, chosen)
        return
    with disk.os_errors(f"taking versions out of {base} failed"):
        disk.sweep(base, min_age=0)
        with disk.work_directory(base) as work:
            for number in chosen:
                path = base / str(number)
                if path.is_dir():
                    disk.rename_new(path, work / f"was-{number}")
                    disk.sync_directory(base)


def _occupied(base: Path, number: int, same: Callable[[Path], bool]) -> bool:
    names = numbers(base).get(number, [])
    if not names:
        return False
    if names == [str(number)] and same(base / names[0]):
        return True
    raise _conflict(base, number, names)


def _conflict(base: Path, number: int, names: Sequence[str] = ()) -> ConflictError:
    shown = ", ".join(repr(name) for name in names) or repr(str(number))
    return ConflictError(
        f"{base} already has {shown}, which the server takes for version {number}, "
        "and it is not this version; a number is never given to other content",
        hint="export the checkpoint again with --to to get the next free number, "
        f"or see what is there: mstore audit {base}",
    )


def _make(path: Path) -> None:
    disk.step("mkdir", path)
    path.mkdir()
    path.chmod(DIRECTORY_MODE)  # the server runs as another user, whatever our umask


def _write(staged: Path, file: FileToPlace, advance: Callable[[int], None]) -> None:
    path = PurePosixPath(file.record.path)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise DamagedStoreError(f"a version has a file with the path {file.record.path!r}")
    target = staged
    for part in path.parts[:-1]:
        target = target / part
        if not target.is_dir():
            _make(target)
    if any(_share(sibling, target / path.name, file.record) for sibling in file.siblings):
        advance(file.record.size)
        return
    digest = hashlib.sha256()
    output = disk.NewFile(target / path.name, mode=FILE_MODE)
    try:
        for part_bytes in file.read():
            output.write(part_bytes)
            digest.update(part_bytes)
            advance(len(part_bytes))
        output.sync()
    finally:
        output.close()
    if (output.size, digest.hexdigest()) != (file.record.size, file.record.sha256):
        raise DamagedStoreError(
            f"{file.record.path} does not have its recorded SHA-256; nothing was published",
            hint="run: mstore verify",
        )


def _share(sibling: Path, target: Path, record: FileRecord) -> bool:
    """Make a file out of one that a sibling target has, if that is what it must be."""
    try:
        status = sibling.lstat()
    except OSError:
        return False
    modes = stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)
    fits = modes == (stat.S_IFREG, FILE_MODE) and status.st_size == record.size >= _WORTH_SHARING
    if not fits or not disk.share_file(sibling, target):
        return False
    # What counts is what has come here, not what was there when somebody looked.
    digest = hashlib.sha256()
    with target.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != record.sha256:
        disk.remove_file(target)
        return False
    return True


def _sync_tree(staged: Path) -> None:
    for directory, _, _ in os.walk(staged, topdown=False):
        disk.sync_directory(Path(directory))
