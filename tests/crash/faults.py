"""What can happen to a process at one of its steps: death, errors, the loss of power.

A fault is an observer of `mstore.disk`, made for one step. It writes down where it struck.
"""

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from sqlalchemy.exc import OperationalError

from mstore import disk
from mstore.errors import Error
from tests.crash.children import KILLED
from tests.crash.power import Memory

AFTER = "after"
"""Suffix of a directory that is what was left of another one."""


class Fault:
    """Counts steps down and strikes at the last of them; this one kills.

    Attributes:
        tidy: whether running the command again must leave no unfinished work behind.
    """

    tidy = True

    def __init__(self, left: int, log: Path, root: Path, actions: frozenset[str]) -> None:
        """Strike before the step number ``left`` of those whose kind is in ``actions``."""
        self.left = left
        self.log = log
        self.root = root
        self.actions = actions

    def __call__(self, action: str, path: str) -> None:
        """Hear of a step."""
        if not self.actions or action in self.actions:
            self.left -= 1
            if not self.left:
                self.log.write_text(f"{action} {path}", encoding="utf-8")
                self.strike(action, path)

    def strike(self, action: str, path: str) -> None:
        """Do what this fault does."""
        del action, path
        os._exit(KILLED)

    def suffer(self, run: Callable[[], None]) -> str | None:
        """Run something under this fault; return what it should not have raised."""
        disk.observer = self
        run()
        return None


class Failure(Fault):
    """The operating system refuses the step; of what is to be written half is written before."""

    def __init__(self, code: int, *others: Any) -> None:
        """Refuse with an error number."""
        super().__init__(*others)
        self.code = code
        self.torn = False

    def strike(self, action: str, path: str) -> None:
        """Refuse."""
        if action in {"write", "append"}:
            self.torn = True
            return
        if action == "commit":
            full = sqlite3.OperationalError("database or disk is full")
            raise OperationalError("COMMIT", None, full)
        raise OSError(self.code, os.strerror(self.code), path)

    def suffer(self, run: Callable[[], None]) -> str | None:
        """Run something; only errors of mstore may come out of it."""
        disk.observer = self
        writev, write = os.writev, os.write

        def torn_writev(descriptor: int, parts: list[memoryview]) -> int:
            if self.torn:
                write(descriptor, parts[0][: len(parts[0]) // 2])
                raise OSError(self.code, os.strerror(self.code))
            return writev(descriptor, parts)

        def torn_write(descriptor: int, data: memoryview) -> int:
            if self.torn:
                write(descriptor, data[: len(data) // 2])
                raise OSError(self.code, os.strerror(self.code))
            return write(descriptor, data)

        with mock.patch.multiple(os, writev=torn_writev, write=torn_write):
            try:
                run()
            except Error:
                return None
            except Exception as error:  # noqa: BLE001 - that is what is looked for
                return f"{type(error).__name__}: {error}"
            finally:
                disk.observer = lambda *_: None
        return None


class Short(Fault):
    """Every write takes only a part of what it is given, so that it must be gone on with."""

    def __call__(self, action: str, path: str) -> None:
        """Strike at no step: at all of them."""

    def suffer(self, run: Callable[[], None]) -> str | None:
        """Run something to its end."""
        disk.observer = self
        write = os.write

        def short_writev(descriptor: int, parts: list[memoryview]) -> int:
            return write(descriptor, parts[0][: (len(parts[0]) + 1) // 2])

        def short_write(descriptor: int, data: memoryview) -> int:
            return write(descriptor, data[: (len(data) + 1) // 2])

        with mock.patch.multiple(os, writev=short_writev, write=short_write):
            run()
        return None


class PowerLoss(Fault):
    """The machine stops: what was not made durable is lost.

    Once whole names are lost, so that directories are as they were at their last fsync; once only
    the bytes, so that files have their names and lengths and hold zeros.
    """

    tidy = False

    def __init__(self, keep_names: bool, *others: Any) -> None:
        """Lose names, or the bytes behind them."""
        super().__init__(*others)
        self.keep_names = keep_names
        self.memory: Memory | None = None

    def __call__(self, action: str, path: str) -> None:
        """Hear of a step: the one before it has been made."""
        assert self.memory is not None
        self.memory.hear(action, path)
        super().__call__(action, path)

    def strike(self, action: str, path: str) -> None:
        """Lose the power."""
        del action, path
        self._lose()
        os._exit(KILLED)

    def suffer(self, run: Callable[[], None]) -> str | None:
        """Run something; where it ends, the power is lost then."""
        self.memory = Memory(self.root)
        disk.observer = self
        run()
        disk.observer = lambda *_: None
        self.memory.hear("end", "")
        self._lose()
        return None

    def _lose(self) -> None:
        assert self.memory is not None
        after = self.root.with_name(f"{self.root.name}.{AFTER}")
        self.memory.write(after, keep_names=self.keep_names)


def recover(root: Path) -> None:
    """Put what a loss of power left in the place of the directory."""
    after = root.with_name(f"{root.name}.{AFTER}")
    if after.exists():
        shutil.rmtree(root)
        after.rename(root)


FAULTS: dict[str, Callable[..., Fault]] = {
    "kill": Fault,
    "short": Short,
    "enospc": partial(Failure, errno.ENOSPC),
    "eio": partial(Failure, errno.EIO),
    "eintr": partial(Failure, errno.EINTR),
    "names": partial(PowerLoss, False),
    "bytes": partial(PowerLoss, True),
}
