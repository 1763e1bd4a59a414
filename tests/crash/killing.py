"""Kills a command at each of its steps and looks at what is left."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mstore import disk
from mstore.errors import (
    ConflictError,
    RefusedError,
    StoreNotFoundError,
    UnknownReferenceError,
)
from mstore.store import Store
from tests.crash import conversion, planted
from tests.crash.children import KILLED, Child, call, scratch
from tests.crash.state import ensure_sound, names, only, opened

_ENOUGH = 500
_LONG_AGO = 1_000_000_000


@dataclass(frozen=True)
class Command:
    """A command under test: what it needs, how it is run, and what must be true at its end."""

    prepare: Callable[[Path], None]
    run: Callable[[Path], None]
    end: Callable[[Path, int], None]
    count: Callable[[Path], int]


def _nothing(root: Path) -> None:
    root.mkdir(exist_ok=True)


def _init(root: Path) -> None:
    Store.init(root).close()


def _init_ended(root: Path, before: int) -> None:
    assert names(root) == [".mstore"] or names(root) == [".mstore", "out"]
    with Store.init(root) as store:
        assert not store.created
        assert store.list() == ()
    assert before in {0, 1}


def _stores(root: Path) -> int:
    return len(names(root))


def _one_checkpoint(root: Path) -> None:
    with Store.init(root) as store:
        prefix = conversion.make_checkpoint(root / "ckpts" / "ckpt-10", 10)
        store.add(prefix, model="m", metrics={"loss": 0.5})
    conversion.make_checkpoint(root / "ckpts" / "ckpt-20", 20)


def _add(root: Path) -> None:
    with opened(root) as store:
        store.add(root / "ckpts" / "ckpt-20", model="m", metrics={"loss": 0.25}, tags=["good"])


def _add_ended(root: Path, before: int) -> None:
    with opened(root) as store:
        assert [checkpoint.step for checkpoint in store.list()] == [20, 10]
        assert store.show("m@good") == store.show("m@best:loss")
        assert [event.event for event in store.log()] == ["added", "added"]
    assert before in {1, 2}


def _checkpoints(root: Path) -> int:
    with opened(root) as store:
        return len(store.list())


def _export(root: Path, *, to: bool = True) -> None:
    conversion.install()
    with opened(root) as store:
        store.export("m@10", builder="builder.py:build", to=root / "base" if to else None)


def _one_published(root: Path) -> None:
    _one_checkpoint(root)
    _export(root)


def _export_ended(root: Path, before: int) -> None:
    """Check that the number is the next one, and that versions of killed runs can be published."""
    with opened(root) as store:
        made = store.versions()[0]
        assert made.version == before + 1
        assert names(root / "base")[-1] == str(made.version)
        assert store.deployments()[0].version == made.version
        for number in range(1, before + 1):
            store.promote(f"m:{number}", root / "base")
        assert len(store.deployments()) == before + 1


def _versions(root: Path) -> int:
    with opened(root) as store:
        return len(store.versions())


def _one_version(root: Path) -> None:
    _one_checkpoint(root)
    _export(root, to=False)


def _promote(root: Path) -> None:
    with opened(root) as store:
        store.promote("m:1", root / "base")


def _promote_ended(root: Path, before: int) -> None:
    assert names(root / "base") == ["1"]
    with opened(root) as store:
        assert len(store.deployments()) == 1
        assert not store.promote("m:1", root / "base").new
    assert before in {0, 1}


def _deployments(root: Path) -> int:
    with opened(root) as store:
        return len(store.deployments())


def _three_served(root: Path) -> None:
    """Make the target prod, which had 1, 2 and 3, and has 2 and 3."""
    _one_checkpoint(root)
    conversion.install()
    with opened(root) as store:
        store.add_target("prod", root / "base", models=["m"])
        for number in (1, 2, 3):
            store.export("m@10", builder="builder.py:build")
            store.promote(f"m:{number}", "prod", alias="newest")
        store.retire("prod", 1)


def _promote_to_target(root: Path) -> None:
    with opened(root) as store:
        store.promote("m:4", "prod", alias="newest")


def _four_versions(root: Path) -> None:
    _three_served(root)
    _export(root, to=False)


def _promote_to_target_ended(root: Path, before: int) -> None:
    assert names(root / "base") == ["2", "3", "4"]
    with opened(root) as store:
        assert store.show("m:newest") == store.show("m:4")
        assert len(store.deployments()) == 5
    assert before in {4, 5}


def _rollback(root: Path) -> None:
    with opened(root) as store, suppress(RefusedError):  # done before the death
        store.rollback("prod", to=1, alias="newest")


def _rollback_ended(root: Path, before: int) -> None:
    assert names(root / "base") == ["1"]
    with opened(root) as store:
        events = [(item.event, item.version) for item in store.deployments(limit=3)]
        assert events == [("rolled-back", 3), ("rolled-back", 2), ("restored", 1)]
        assert store.show("m:newest") == store.show("m:1")
        assert len(store.deployments()) == 7
    assert before in {4, 7}


def _retire(root: Path) -> None:
    with opened(root) as store, suppress(UnknownReferenceError):  # done before the death
        store.retire("prod", 2)


def _retire_ended(root: Path, before: int) -> None:
    assert names(root / "base") == ["3"]
    with opened(root) as store:
        assert len(store.deployments()) == 5
    assert before in {4, 5}


def _alias(root: Path) -> None:
    with opened(root) as store:
        store.alias("m:2", "newest")


def _alias_ended(root: Path, before: int) -> None:
    with opened(root) as store:
        assert store.show("m:newest") == store.show("m:2")
    assert before == 4


def _target(root: Path) -> None:
    with opened(root) as store, suppress(ConflictError):  # done before the death
        store.add_target("prod", root / "base", models=["m"])


def _target_ended(root: Path, before: int) -> None:
    with opened(root) as store:
        assert [state.site.name for state in store.targets()] == ["prod"]
    assert (root / "base").is_dir()
    assert before == 0


COMMANDS = {
    "init": Command(_nothing, _init, _init_ended, _stores),
    "add": Command(_one_checkpoint, _add, _add_ended, _checkpoints),
    "export": Command(_one_published, _export, _export_ended, _versions),
    "promote": Command(_one_version, _promote, _promote_ended, _deployments),
    "target": Command(_one_version, _target, _target_ended, _deployments),
    "promote-to": Command(
        _four_versions, _promote_to_target, _promote_to_target_ended, _deployments
    ),
    "rollback": Command(_three_served, _rollback, _rollback_ended, _deployments),
    "retire": Command(_three_served, _retire, _retire_ended, _deployments),
    "alias": Command(_three_served, _alias, _alias_ended, _deployments),
}


def kill_everywhere(name: str, plant: str = "", actions: str = "") -> dict[str, Any]:
    """Kill a command at its first step, at its second one, and so on until it ends by itself.

    Args:
        name: key of `COMMANDS`.
        plant: a mistake of `planted` that is made in the killed process, to test this test.
        actions: only steps of these kinds count, with spaces between; all if empty.

    Returns:
        The steps that it was killed at, and what was found wrong: number of the step, where it
        was, and how it showed.
    """
    command = COMMANDS[name]
    steps: list[str] = []
    wrong: list[tuple[int, str, str]] = []
    with scratch() as directory:
        # Always the same path, since the ledger knows base paths by theirs.
        root, template = Path(directory) / "root", Path(directory) / "template"
        call(partial(command.prepare, root))
        root.rename(template)
        for count in range(1, _ENOUGH):
            shutil.copytree(template, root)
            log = Path(directory) / f"{count}.log"
            at = _Death(count, log, frozenset(actions.split()))
            end = Child(partial(_dying, command, root, at, plant)).wait()
            assert end.status in {0, KILLED}, end.said
            where = log.read_text(encoding="utf-8") if end.status else "end"
            after = Child(partial(_judge, name, root, killed=bool(end.status))).wait()
            if after.status:
                wrong.append((count, where, after.said))
            shutil.rmtree(root)
            if not end.status:
                return {"steps": steps, "wrong": wrong}
            steps.append(where)
    raise AssertionError(f"{name} did not end in {_ENOUGH} steps")


@dataclass
class _Death:
    """Counts steps down and ends the process at the last of them, which it writes down."""

    left: int
    log: Path
    actions: frozenset[str]

    def __call__(self, action: str, path: str) -> None:
        if not self.actions or action in self.actions:
            self.left -= 1
            if not self.left:
                self.log.write_text(f"{action} {path}", encoding="utf-8")
                os._exit(KILLED)


def _dying(command: Command, root: Path, death: _Death, plant: str) -> None:
    if plant:
        planted.MISTAKES[plant]()
    disk.observer = death
    command.run(root)


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


def _judge(name: str, root: Path, *, killed: bool) -> None:
    """Look at what is left, run the command again, and look once more."""
    command = COMMANDS[name]
    before = 0
    if name != "init" or names(root):
        ensure_sound(root)
        before = command.count(root)
    else:
        _ensure_no_store(root)
    if killed:
        _age(root)
        command.run(root)
    else:
        before -= name == "export"
    command.end(root, before)
    ensure_sound(root)
    if name != "init":
        assert only(root).model == "m"
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
