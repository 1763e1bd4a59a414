"""The one place that changes files.

Every call that alters what is on disk goes through here, so that durability is decided once and
tests can stop a process at each single step (see `observer`).
"""

import ctypes
import errno
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from mstore.errors import StoreLockedError, SystemIOError

STAGING_PREFIX = ".mstore-tmp-"
"""How names of unfinished directories begin; no server reads a number in them."""

LOCK_TIMEOUT = 60.0
"""Seconds to wait for a lock before giving up."""

_HAND_OVER = 4 << 20
"""Bytes written to a file before the disk is asked to begin with them."""

_MAX_PARTS = 1024  # IOV_MAX of Linux and of the BSDs
_SYNC_FILE_RANGE_WRITE = 2
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
_FICLONE = 0x40049409  # _IOW(0x94, 9, int) of linux/fs.h


def _ignore(action: str, path: str) -> None:
    """Let every step pass."""


observer: Callable[[str, str], None] = _ignore
"""Called before each step with its name and path; crash tests put a function here that exits."""


def step(action: str, path: str | Path) -> None:
    """Announce a change that is about to be made."""
    observer(action, str(path))


@contextmanager
def os_errors(what: str, *, hint: str = "") -> Iterator[None]:
    """Turn an ``OSError`` of the block into a `SystemIOError` that says ``what`` failed.

    Raises:
        SystemIOError: the operating system refused.
    """
    try:
        yield
    except OSError as error:
        raise SystemIOError(f"{what}: {_reason(error)}", hint=hint or _advice(error)) from error


def _reason(error: OSError) -> str:
    place = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or error}{place}"


def _advice(error: OSError) -> str:
    return {
        errno.ENOSPC: "free some space on that file system and run the command again",
        errno.EDQUOT: "the disk quota is used up; free some space and run the command again",
        errno.EACCES: "check the permissions of that path",
        errno.EPERM: "check the permissions of that path",
        errno.EROFS: "that file system is mounted read-only",
    }.get(error.errno or 0, "nothing was lost; run the command again when the cause is mended")


def make_directory(path: Path, mode: int = 0o777) -> None:
    """Create a directory and make its name durable; it may exist already.

    The name is made durable even then: whoever created it may have died just before that.
    """
    if not path.is_dir():
        step("mkdir", path)
        path.mkdir(mode=mode, exist_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    step("fsync-directory", path)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the contents of a file durable."""
    step("fsync", path)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class NewFile:
    """A file that does not exist yet, written from front to back.

    It has no final name until somebody renames it; until then a crash leaves only rubbish in a
    working directory.
    """

    def __init__(self, path: Path, mode: int = 0o644) -> None:
        """Create the file.

        Raises:
            FileExistsError: there is one already.
        """
        step("create", path)
        self.path = path
        # The mode is set on the descriptor as well, since open() lets the umask take bits away.
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        os.fchmod(self._descriptor, mode)
        self.size = 0
        self._handed = 0

    def write(self, *parts: bytes | bytearray | memoryview) -> None:
        """Append all of ``parts``, one after the other."""
        step("write", self.path)
        left = [memoryview(part).cast("B") for part in parts if len(part)]
        while left:
            written = os.writev(self._descriptor, left[:_MAX_PARTS])
            if not written:  # a broken file system; asking again might never end
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(self.path))
            self.size += written
            while left and written >= len(left[0]):
                written -= len(left.pop(0))
            if written:
                left[0] = left[0][written:]
        if self.size - self._handed >= _HAND_OVER:
            _start_writing(self._descriptor, self._handed, self.size - self._handed)
            self._handed = self.size

    def sync(self) -> None:
        """Make the contents durable."""
        step("fsync", self.path)
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file; more than once does no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _start_writing(descriptor: int, offset: int, length: int) -> None:
    """Let the disk begin with these bytes, so that little is left for the final fsync to wait for.

    Nothing depends on it: what sync_file_range(2) does is not durable, and where it is missing or
    refused, fsync does all of the work.
    """
    if _sync_file_range is not None:
        _sync_file_range(descriptor, offset, length, _SYNC_FILE_RANGE_WRITE)


def _find_sync_file_range() -> Callable[[int, int, int, int], int] | None:
    function = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if function is not None:
        function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return function


_sync_file_range = _find_sync_file_range()


def append(path: Path, data: bytes, *, durable: bool) -> None:
    """Write ``data`` behind what a file holds, which is made if need be.

    Args:
        path: the file.
        data: what to append; a crash may leave the beginning of it.
        durable: whether to return only when it is on disk. A file that was made just now always is.
    """
    fresh = not path.exists()
    step("append", path)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        left = memoryview(data)
        while left:
            left = left[_written(descriptor, left, path) :]
        if durable or fresh:
            step("fsync", path)
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if fresh:
        sync_directory(path.parent)


def _written(descriptor: int, part: memoryview, path: Path) -> int:
    written = os.write(descriptor, part)
    if not written:  # a broken file system; asking again might never end
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
    return written


def write_sparse(path: Path, size: int, parts: Mapping[int, bytes]) -> None:
    """Make a file of ``size`` bytes that holds ``parts`` at their offsets, and nothing between.

    Raises:
        FileExistsError: there is one already.
    """
    step("create", path)
    with path.open("xb") as file:
        for offset, data in parts.items():
            file.seek(offset)
            file.write(data)
        file.truncate(size)


def share_file(source: Path, target: Path) -> bool:
    """Give a file that is durable a second name, or its blocks to a second file, without a copy.

    A clone that shares the blocks (FICLONE; Btrfs, XFS) is tried first, as a later change to one
    does not reach the other; then a hard link.

    Returns:
        False where the file system can do neither; then there is no ``target``.
    """
    step("share", target)
    try:
        with source.open("rb") as old, target.open("xb") as new:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
            os.fchmod(new.fileno(), 0o644)
            os.fsync(new.fileno())
            return True
    except FileExistsError:
        raise
    except OSError:
        target.unlink(missing_ok=True)
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another file system, too many links, another owner
        return False
    return True


def rename_new(source: Path, target: Path) -> None:
    """Rename a file or directory to a name that must be free, and make the new name durable.

    Uses renameat2(2) with RENAME_NOREPLACE, so that two processes cannot both win. On a file
    system without it (some network ones) the name is checked first and the caller's lock on the
    directory is what keeps others out.

    Raises:
        FileExistsError: the name is taken.
    """
    step("rename", target)
    if not _renameat2(source, target):
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        source.rename(target)
    sync_directory(target.parent)


def _renameat2(source: Path, target: Path) -> bool:
    """Rename without replacing; return False where the system cannot do that."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return False
    result = function(
        _AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE
    )
    if result == 0:
        return True
    code = ctypes.get_errno()
    if code in {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}:
        return False
    raise OSError(code, os.strerror(code), str(target))


def replace_file(source: Path, target: Path) -> None:
    """Rename a file over another one and make the name durable."""
    step("replace", target)
    source.replace(target)
    sync_directory(target.parent)


def remove_file(path: Path) -> None:
    """Remove a file; it may be gone already."""
    step("remove", path)
    path.unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Remove a directory with all that is in it; it may be gone already."""
    step("remove", path)
    with suppress(FileNotFoundError):
        shutil.rmtree(path)


@contextmanager
def locked(directory: Path, *, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold the exclusive advisory lock of a directory; the system frees it when we die.

    Raises:
        StoreLockedError: another process held it for all of ``timeout`` seconds.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _wait_for_lock(descriptor, directory, timeout)
        yield
    finally:
        os.close(descriptor)


def _wait_for_lock(descriptor: int, directory: Path, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StoreLockedError(
                    f"another process has held {directory} for over {timeout:g} s",
                    hint="wait for it to end, or find it with: fuser -v " + str(directory),
                ) from None
            time.sleep(0.01)
        else:
            return


@contextmanager
def work_directory(parent: Path) -> Iterator[Path]:
    """Make a directory for unfinished work under ``parent`` and remove it at the end.

    It is locked while it is in use: `sweep` removes those whose owner has died.
    """
    parent.mkdir(exist_ok=True)
    path = parent / f"{STAGING_PREFIX}{uuid.uuid4().hex}"
    step("mkdir", path)
    path.mkdir(mode=0o755)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield path
    finally:
        remove_tree(path)
        os.close(descriptor)


def sweep(parent: Path, *, min_age: float = 60.0) -> None:
    """Remove working directories under ``parent`` whose owner is dead.

    Those younger than ``min_age`` seconds stay: their owner may be about to lock them.
    """
    try:
        names = [p.name for p in parent.iterdir() if p.name.startswith(STAGING_PREFIX)]
    except FileNotFoundError:
        return
    for name in names:
        _sweep_one(parent / name, min_age)


def _sweep_one(path: Path, min_age: float) -> None:
    try:
        if time.time() - path.stat().st_mtime < min_age:
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # gone meanwhile, or not ours to open: nothing to clean
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_tree(path)
    except OSError:  # in use, or not ours to remove
        pass
    finally:
        os.close(descriptor)
