"""Random histories of targets, watched at every step by what a model server would see.

Each command runs in a process of its own that stops at each of its changes to the disk until the
oracle has looked, and may be killed there by a signal. Two commands may run at once.
"""

import os
import selectors
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from mstore import disk
from mstore.errors import Error
from mstore.store import Store
from tests.crash import conversion, planted
from tests.crash.children import Child, call, scratch
from tests.crash.state import opened
from tests.serving.oracle import Files, Oracle

VERSIONS = 5
ALIASES = ("stable", "canary")
CONFIG = "models.config"
OTHERS = """# somebody else's
model_config_list { config { name: "x" base_path: "/x" model_platform: "tensorflow" } }
"""
_LONG_AGO = 1_000_000_000
_MOST_STEPS = 60


@dataclass
class Counts:
    """How much was tried: histories, commands, how they ended, and moments looked at."""

    histories: int = 0
    commands: int = 0
    done: int = 0
    refused: int = 0
    killed: int = 0
    together: int = 0
    restarts: int = 0
    looks: int = 0
    switches: int = 0


COUNTS = Counts()


class Watched:
    """A child that stops at each of its steps until it is told to go on."""

    def __init__(self, action: Callable[[], Any], death: int) -> None:
        """Start it; it is killed at the step number ``death``, or not at all for 0."""
        self.steps, write = os.pipe()
        read, self._go = os.pipe()
        self.left = death
        self.was_killed = False

        def run() -> Any:
            os.close(self.steps)
            os.close(self._go)

            def stop(step: str, path: str) -> None:
                os.write(write, f"{step} {Path(path).name}\n".encode())
                os.read(read, 1)

            disk.observer = stop
            try:
                return action()
            finally:
                disk.observer = lambda *_: None

        self._child = Child(run)
        os.close(write)
        os.close(read)

    def step(self) -> str | None:
        """Return what it is about to do, None at its end."""
        said = os.read(self.steps, 1 << 12)
        return said.decode().strip() if said else None

    def go_on(self) -> None:
        """Let it go on, or kill it if it is time."""
        self.left -= 1
        if not self.left:
            self.was_killed = True
            os.kill(self._child.pid, signal.SIGKILL)
            return
        os.write(self._go, b".")

    def end(self) -> str:
        """Return how it ended, in a word."""
        os.close(self.steps)
        os.close(self._go)
        end = self._child.wait()
        if self.was_killed:
            assert end.status == -signal.SIGKILL, end
            return "killed"
        assert end.status == 0, end.said
        return str(end.said)


def watch(oracles: Sequence[Oracle], *children: Watched) -> list[str]:
    """Show the oracles each step of each child; return how they ended."""
    selector = selectors.DefaultSelector()
    for child in children:
        selector.register(child.steps, selectors.EVENT_READ, child)
    while selector.get_map():
        for key, _ in selector.select():
            ready: Watched = key.data
            step = ready.step()
            for oracle in oracles:
                oracle.look(step or "end")
            if step is None:
                selector.unregister(ready.steps)
            else:
                ready.go_on()
    return [child.end() for child in children]


def template(root: Path) -> bool:
    """Make a store with versions, and two targets that have nothing yet."""
    conversion.install()
    with Store.init(root) as store:
        for step in range(1, VERSIONS + 1):
            store.add(conversion.make_checkpoint(root / "ckpts" / f"ckpt-{step}", step), model="m")
            store.export(f"m@{step}", builder="b.py:build")
        store.add_target("prod", root / "base", models=["m"])
        (root / CONFIG).write_text(OTHERS, encoding="utf-8")
        store.add_target(
            "conf", root / "other", models=["m"], policy="specific", config=root / CONFIG
        )
    return True


def files(root: Path, number: int) -> dict[str, str] | None:
    with opened(root) as store:
        found = {v.version: {f.path: f.sha256 for f in v.files} for v in store.versions("m")}
    return found.get(number)


def _command(root: Path, plant: str, run: Callable[[Store], object]) -> str:
    if plant:
        planted.MISTAKES[plant]()
    conversion.install()
    with opened(root) as store:
        try:
            run(store)
        except Error as error:
            return f"refused: {error.message}"
    return "done"


def oracles(root: Path, seed: int) -> list[Oracle]:
    """Return who watches the two targets."""

    def record(number: int) -> Files | None:
        found: Files | None = call(partial(files, root, number))
        return found

    return [
        Oracle(root / "base", record, seed),
        Oracle(root / "other", record, seed, root / CONFIG),
    ]


deaths = st.one_of(st.just(0), st.integers(1, 12), st.integers(1, _MOST_STEPS))
numbers = st.integers(1, VERSIONS)
places = st.sampled_from(("prod", "conf"))


class Machine(RuleBasedStateMachine):
    """A target and who watches it."""

    source = Path()

    def __init__(self) -> None:
        """Begin with a copy of the template."""
        super().__init__()
        self._directory = scratch()
        self.oracles: list[Oracle] = []
        # The path is the one that the target was made with.
        self.root = self.source.parent / "root"
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.source, self.root)
        COUNTS.histories += 1

    def teardown(self) -> None:
        """Count what was seen."""
        for oracle in self.oracles:
            COUNTS.looks += oracle.looks
            COUNTS.switches += len(oracle.served)
        self._directory.cleanup()

    @initialize(seed=st.integers(0, 1 << 16))
    def begin(self, seed: int) -> None:
        """Set the oracles to watch."""
        self.oracles += oracles(self.root, seed)

    def _run(self, *runs: tuple[Callable[[Store], object], int]) -> None:
        children = [Watched(partial(_command, self.root, "", run), death) for run, death in runs]
        for end in watch(self.oracles, *children):
            COUNTS.commands += 1
            COUNTS.killed += end == "killed"
            COUNTS.done += end == "done"
            COUNTS.refused += end.startswith("refused")
        for path in self.root.rglob(f"{disk.STAGING_PREFIX}*"):
            os.utime(path, (_LONG_AGO, _LONG_AGO))

    @rule(number=numbers, alias=st.sampled_from(("", *ALIASES)), insist=st.booleans(), death=deaths)
    def promote(self, number: int, alias: str, insist: bool, death: int) -> None:
        """Promote a version, against what speaks against it or not."""
        self._run((_promote(number, alias, insist=insist), death))

    @rule(number=numbers, label=st.sampled_from(("", *ALIASES)), death=deaths)
    def name(self, number: int, label: str, death: int) -> None:
        """Promote a version to the target with a config file, perhaps with a label."""
        labels = [label] if label else []
        self._run((lambda store: store.promote(f"m:{number}", "conf", labels=labels), death))

    @rule(where=places, to=st.one_of(st.none(), numbers), death=deaths)
    def rollback(self, where: str, to: int | None, death: int) -> None:
        """Roll back, to the version before or to any."""
        self._run((lambda store: store.rollback(where, to=to), death))

    @rule(where=places, number=numbers, death=deaths)
    def retire(self, where: str, number: int, death: int) -> None:
        """Take a version out."""
        self._run((lambda store: store.retire(where, number), death))

    @rule(number=numbers, name=st.sampled_from(ALIASES), death=deaths)
    def alias(self, number: int, name: str, death: int) -> None:
        """Give a name to a version."""
        self._run((lambda store: store.alias(f"m:{number}", name), death))

    @rule(death=deaths)
    def collect(self, death: int) -> None:
        """Collect what nobody needs."""
        self._run((lambda store: store.gc(), death))

    @rule(step=numbers, death=deaths)
    def export(self, step: int, death: int) -> None:
        """Export a checkpoint once more, straight into the target."""
        base = self.root / "base"
        self._run((lambda s: s.export(f"m@{step}", builder="b.py:build", to=base), death))

    @rule(first=numbers, second=numbers, deaths=st.tuples(deaths, deaths))
    def at_once(self, first: int, second: int, deaths: tuple[int, int]) -> None:
        """Promote one version and roll back to another at the same time."""
        COUNTS.together += 1
        self._run(
            (_promote(first, "", insist=True), deaths[0]),
            (lambda store: store.rollback("prod", to=second), deaths[1]),
        )

    @rule(first=numbers, second=numbers, label=st.sampled_from(ALIASES), death=deaths)
    def named_at_once(self, first: int, second: int, label: str, death: int) -> None:
        """Promote and go back at the target with a config file at the same time."""
        COUNTS.together += 1
        self._run(
            (lambda store: store.promote(f"m:{first}", "conf", labels=[label]), death),
            (lambda store: store.rollback("conf", to=second), 0),
        )

    @rule()
    def restart(self) -> None:
        """Start the servers anew."""
        COUNTS.restarts += 1
        for oracle in self.oracles:
            oracle.restart()

    @invariant()
    def nothing_was_seen(self) -> None:
        """No server has seen what none may see."""
        for oracle in self.oracles:
            assert not oracle.violations, f"{oracle.base.name}: {oracle.violations[0]}"


def _promote(number: int, alias: str, *, insist: bool) -> Callable[[Store], object]:
    def run(store: Store) -> None:
        allow = ("not-live", "rolled-back", "checks") if insist else ()
        store.promote(f"m:{number}", "prod", alias=alias or None, allow=allow)

    return run


SCRIPT: tuple[Callable[[Store], object], ...] = (
    lambda store: store.promote("m:1", "prod"),
    lambda store: store.promote("m:2", "prod"),
    lambda store: store.rollback("prod"),
    lambda store: store.promote("m:3", "prod"),
    lambda store: store.retire("prod", 1),
    lambda store: store.rollback("prod", to=1),
    lambda store: store.retire("prod", 1),
    lambda store: store.promote("m:1", "conf"),
    lambda store: store.promote("m:1", "conf", labels=["stable"]),
    lambda store: store.promote("m:2", "conf", labels=["stable"]),
    lambda store: store.promote("m:2", "conf", labels=["stable"]),
    lambda store: store.rollback("conf"),
    lambda store: store.rollback("conf", to=1),
)
"""A history in which each mistake of `planted` about targets shows; some of it is refused."""


def scripted(plant: str = "") -> list[str]:
    """Run the script, with a mistake or without; return what the oracles have seen."""
    with scratch() as directory:
        root = Path(directory) / "root"
        call(partial(template, root))
        watching = oracles(root, 0)
        for run in SCRIPT:
            watch(watching, Watched(partial(_command, root, plant, run), 0))
        assert plant or [oracle.served for oracle in watching] == [[1, 2, 1, 3, 1], [1, 2, 1]]
        return [text for oracle in watching for text in oracle.violations]


def hunt(histories: str, steps: str, seed: str = "") -> dict[str, Any]:
    """Run random histories of at most so many steps; return what was tried.

    Args:
        histories: how many.
        steps: how long each is at most.
        seed: not empty for other histories at each call.

    Raises:
        AssertionError: a server saw what none may see; the history is in the notes.
    """
    with scratch() as directory:
        root = Path(directory) / "root"
        call(partial(template, root))
        Machine.source = root.rename(Path(directory) / "template")
        chosen = settings(
            max_examples=int(histories),
            stateful_step_count=int(steps),
            derandomize=not seed,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        run_state_machine_as_test(Machine, settings=chosen)
    return asdict(COUNTS)
