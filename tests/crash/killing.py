"""Does something to a command at each of its steps and looks at what is left."""

import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import alembic.command  # noqa: F401 - once here, and not in every child that migrates

from mstore import disk
from mstore.errors import StoreNotFoundError
from tests.crash import planted
from tests.crash.children import KILLED, Child, call, scratch
from tests.crash.commands import COMMANDS
from tests.crash.commands_base import Command
from tests.crash.faults import FAULTS, Fault, recover
from tests.crash.state import ensure_sound, names, only, opened

_ENOUGH = 500
_LONG_AGO = 1_000_000_000


def kill_everywhere(name: str, plant: str = "", actions: str = "") -> dict[str, Any]:
    """Kill a command at its first step, at its second one, and so on; see `sweep`."""
    return sweep(name, "kill", plant, actions)


def sweep(
    name: str, fault: str, plant: str = "", actions: str = "", stride: str = "1"
) -> dict[str, Any]:
    """Do something to a command at its first step, at its second one, and so on until it ends.

    Args:
        name: key of `COMMANDS`.
        fault: keys of `FAULTS`, with spaces between; the steps take them in turn.
        plant: a mistake of `planted` that is made in the process, to test this test.
        actions: only steps of these kinds count, with spaces between; all if empty.
        stride: how many steps to go on each time.

    Returns:
        The steps where it was done, and what was found wrong: number of the step, where it was, and
        how it showed.
    """
    command, kinds = COMMANDS[name], fault.split()
    steps: list[str] = []
    wrong: list[tuple[int, str, str]] = []
    with scratch() as directory:
        # Always the same path, since the ledger knows base paths by theirs.
        root, template = Path(directory) / "root", Path(directory) / "template"
        call(partial(command.prepare, root))
        root.rename(template)
        for turn in range(_ENOUGH):
            count = 1 + turn * int(stride)
            shutil.copytree(template, root)
            log = Path(directory) / f"{count}.log"
            make = FAULTS[kinds[turn % len(kinds)]]
            at = make(count, log, root, frozenset(actions.split()))
            end = Child(partial(_suffering, command, root, at, plant)).wait()
            assert end.status in {0, KILLED}, end.said
            reached = log.exists()
            where = log.read_text(encoding="utf-8") if reached else "end"
            recover(root)
            judge = partial(_judge, name, root, stopped=reached, tidy=at.tidy)
            after = Child(judge).wait()
            if end.said or after.status:
                wrong.append((count, where, end.said or after.said))
            shutil.rmtree(root)
            if not reached:
                return {"steps": steps, "wrong": wrong}
            steps.append(where)
    raise AssertionError(f"{name} did not end in {_ENOUGH} steps")


def _suffering(command: Command, root: Path, fault: Fault, plant: str) -> str | None:
    """Run a command under a fault; return what it should not have raised."""
    if plant:
        planted.MISTAKES[plant]()
    return fault.suffer(partial(command.run, root))


def steps(name: str) -> list[tuple[str, str]]:
    """Return the steps of a command that nobody kills."""
    command = COMMANDS[name]
    with scratch() as directory:
        root = Path(directory) / "root"
        call(partial(command.prepare, root))
        found: list[list[str]] = call(partial(_watched, command, root))
        return [(action, str(Path(path).relative_to(root))) for action, path in found]


def _watched(command: Command, root: Path) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    disk.observer = lambda action, path: found.append((action, path))
    command.run(root)
    return found


def _judge(name: str, root: Path, *, stopped: bool, tidy: bool) -> None:
    """Look at what is left, run the command again, and look once more."""
    command = COMMANDS[name]
    before = 0
    if name != "init" or names(root):
        command.check(root)
        before = command.count(root)
    else:
        _ensure_no_store(root)
    if stopped:
        _age(root)
        command.run(root)
    else:
        before -= name == "export"
    command.end(root, before)
    command.check(root)
    if command.check is ensure_sound and name != "init":
        assert only(root).model == "m"
    if not tidy:  # names of unfinished work that were gone may be there again
        return
    left = list(root.rglob(f"{disk.STAGING_PREFIX}*"))
    assert not left, f"rubbish is left: {left}"


def _ensure_no_store(root: Path) -> None:
    try:
        opened(root).close()
    except StoreNotFoundError:
        return
    raise AssertionError("there is a store and there is none")


def _age(root: Path) -> None:
    """Make unfinished work look old, as it is when somebody runs the command again."""
    for path in root.rglob(f"{disk.STAGING_PREFIX}*"):
        os.utime(path, (_LONG_AGO, _LONG_AGO))
