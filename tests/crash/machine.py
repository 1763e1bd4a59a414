"""Random histories of a store, held after each step against plain dictionaries.

A Hypothesis state machine runs each step in a process of its own, which may be killed at any of
its changes to the disk, or beside another one that does something else. What the store then holds
must be what the dictionaries say; after a kill, what they said before or after the step.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mstore import disk
from mstore.errors import ConflictError
from mstore.store import Store
from tests.crash import conversion, planted
from tests.crash.children import KILLED, Child, call, scratch, together
from tests.crash.state import ensure_sound, opened

RUNS, STEPS, VALUES, TAGS = ("a", "b"), (1, 2), (1, 2), ("x", "y")
_LONG_AGO = 1_000_000_000
_MOST_STEPS = 70
"""Kills at a later step than a command has let it end by itself."""


@dataclass
class State:
    """What a store holds, as plain values.

    Attributes:
        current: ``RUN@STEP`` to the value that its weights are filled with.
        replaced: ``RUN@STEP=VALUE`` of each checkpoint that another one has taken the place of.
        tags: name to ``RUN@STEP=VALUE``.
        versions: number to ``RUN@STEP=VALUE``.
        base: numbers in the serving directory.
        deployed: how many deployments are recorded.
    """

    current: dict[str, int] = field(default_factory=dict)
    replaced: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    base: list[int] = field(default_factory=list)
    deployed: int = 0

    def copy(self) -> "State":
        """Return another one with the same content."""
        return State(**json.loads(json.dumps(asdict(self))))

    def name(self, place: str) -> str:
        """Return ``RUN@STEP=VALUE`` of the checkpoint that is at ``RUN@STEP``."""
        return f"{place}={self.current[place]}"

    def after_add(self, place: str, value: int, tag: str, *, replace: bool) -> list["State"]:
        """Return the states that an add goes through, or none if it is refused."""
        there = self.current.get(place)
        if there not in {None, value} and not replace:
            return []
        new = self.copy()
        new.current[place] = value
        if there not in {None, value}:
            new.replaced = sorted({*new.replaced, self.name(place)} - {new.name(place)})
        tagged = new.copy()
        if tag:
            tagged.tags[tag] = new.name(place)
        # A checkpoint that is new gets its tags with it; one that is there gets them after.
        return [tagged] if there != value else [new, tagged]

    def after_prune(self, keep: int) -> list["State"]:
        """Return the state after a prune that keeps the last steps of each run."""
        needed = {*self.versions.values(), *self.tags.values()}
        new = self.copy()
        for place in self.current:
            later = [other for other in self.current if other > place and other[0] == place[0]]
            if len(later) >= keep and self.name(place) not in needed:
                del new.current[place]
        new.replaced = [name for name in self.replaced if name in needed]
        return [new]

    def after_tag(self, place: str, tag: str) -> list["State"]:
        """Return the state after giving a tag."""
        new = self.copy()
        new.tags[tag] = self.name(place)
        return [new]

    def after_export(self, place: str, *, publish: bool) -> list["State"]:
        """Return the states that an export goes through."""
        new = self.copy()
        number = len(self.versions) + 1
        new.versions[str(number)] = self.name(place)
        return [new, *new.after_promote(number)] if publish else [new]

    def after_promote(self, number: int) -> list["State"]:
        """Return the states that a promotion goes through: files first, then the record."""
        placed = self.copy()
        placed.base = sorted({*self.base, number})
        recorded = placed.copy()
        recorded.deployed += number not in self.base
        return [placed, recorded]


def seen(root: Path) -> dict[str, Any]:
    """Return what the store in ``root`` holds."""
    ensure_sound(root)
    with opened(root) as store:
        every = store.list(superseded=True)
        names = {c.id: Path(c.source).parent.name for c in every}
        found = State(
            current={f"{c.run}@{c.step}": _value(c.source) for c in every if not c.superseded},
            replaced=sorted(names[c.id] for c in every if c.superseded),
            tags={tag: names[c.id] for c in every for tag in c.tags},
            versions={str(v.version): names[v.checkpoint] for v in store.versions()},
            base=sorted(int(path.name) for path in (root / "base").glob("[0-9]*")),
            deployed=len(store.deployments()),
        )
    return asdict(found)


def _value(source: str) -> int:
    return int(Path(source).parent.name.partition("=")[2])


def _prefix(root: Path, place: str, value: int) -> Path:
    return root / "ckpts" / f"{place}={value}" / f"ckpt-{place.partition('@')[2]}"


def _add(root: Path, place: str, value: int, tag: str, replace: bool) -> str:
    run, _, step = place.partition("@")
    prefix = _prefix(root, place, value)
    if not prefix.parent.exists():
        conversion.make_checkpoint(prefix, int(step), value)
    with opened(root) as store:
        try:
            store.add(
                prefix,
                model="m",
                run=run,
                tags=[tag] if tag else [],
                metrics={"loss": value / 2},
                replace=replace,
            )
        except ConflictError:
            return "refused"
    return "done"


def _tag(root: Path, place: str, tag: str) -> str:
    with opened(root) as store:
        store.tag(f"m/{place}", tag)
    return "done"


def _export(root: Path, place: str, publish: bool) -> str:
    conversion.install()
    with opened(root) as store:
        store.export(f"m/{place}", builder="b.py:build", to=root / "base" if publish else None)
    return "done"


def _prune(root: Path, keep: int) -> str:
    with opened(root) as store:
        store.prune("m", keep_last=keep)
    return "done"


def _promote(root: Path, number: int) -> str:
    with opened(root) as store:
        store.promote(f"m:{number}", root / "base")
    return "done"


def _gc(root: Path) -> str:
    with opened(root) as store:
        assert not store.gc(grace=0).damaged
    return "done"


@dataclass
class _Death:
    left: int

    def __call__(self, action: str, path: str) -> None:
        del action, path
        self.left -= 1
        if not self.left:
            os._exit(KILLED)


def _until(death: int, plant: str, action: Callable[[], Any]) -> Any:
    if plant:
        planted.MISTAKES[plant]()
    if death:
        disk.observer = _Death(death)
    return action()


@dataclass
class Counts:
    """How much was tried: steps of histories, and how many processes died or ran together."""

    histories: int = 0
    steps: int = 0
    killed: int = 0
    together: int = 0
    refused: int = 0


COUNTS = Counts()

places = st.builds("{}@{}".format, st.sampled_from(RUNS), st.sampled_from(STEPS))
deaths = st.one_of(st.just(0), st.integers(1, 16), st.integers(1, _MOST_STEPS))


class Machine(RuleBasedStateMachine):
    """A store, its base path, and what must be in them."""

    plant = ""

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()
        self._directory = scratch()
        self.root = Path(self._directory.name)
        self.state = State()
        COUNTS.histories += 1

    def teardown(self) -> None:
        """Remove the store."""
        self._directory.cleanup()

    @initialize()
    def begin(self) -> None:
        """Make the store."""
        call(partial(_init, self.root))

    def _step(self, action: Callable[[], Any], after: Sequence[State], death: int) -> None:
        COUNTS.steps += 1
        end = Child(partial(_until, death, self.plant, action)).wait()
        if end.status == KILLED:
            COUNTS.killed += 1
            self._settle(after)
            return
        assert end.status == 0, end.said
        COUNTS.refused += end.said == "refused"
        assert end.said == ("done" if after else "refused")
        self.state = after[-1] if after else self.state

    def _settle(self, after: Sequence[State]) -> None:
        """Take as true what is there after a kill, if it is one of the states that may be."""
        there = State(**call(partial(seen, self.root)))
        assert there in [self.state, *after], f"after a kill there is {there}"
        self.state = there

    def _settle_one(self, outcomes: Sequence[State]) -> None:
        """Take as true what is there after several ran at once, if it is one of the outcomes."""
        there = State(**call(partial(seen, self.root)))
        assert there in outcomes, f"after several at once there is {there}"
        self.state = there

    @rule(
        place=places,
        value=st.sampled_from(VALUES),
        tag=st.sampled_from(("", *TAGS)),
        replace=st.booleans(),
        death=deaths,
    )
    def add(self, place: str, value: int, tag: str, replace: bool, death: int) -> None:
        """Add a checkpoint: a new one, the same again, or another content for its step."""
        after = self.state.after_add(place, value, tag, replace=replace)
        self._step(partial(_add, self.root, place, value, tag, replace), after, death)

    @precondition(lambda self: self.state.current)
    @rule(data=st.data(), tag=st.sampled_from(TAGS), death=deaths)
    def tag(self, data: st.DataObject, tag: str, death: int) -> None:
        """Give a tag."""
        place = data.draw(st.sampled_from(sorted(self.state.current)))
        self._step(partial(_tag, self.root, place, tag), self.state.after_tag(place, tag), death)

    @precondition(lambda self: self.state.current)
    @rule(data=st.data(), publish=st.booleans(), death=deaths)
    def export(self, data: st.DataObject, publish: bool, death: int) -> None:
        """Export a checkpoint, in half of the cases into the base path."""
        place = data.draw(st.sampled_from(sorted(self.state.current)))
        after = self.state.after_export(place, publish=publish)
        self._step(partial(_export, self.root, place, publish), after, death)

    @precondition(lambda self: self.state.versions)
    @rule(data=st.data(), death=deaths)
    def promote(self, data: st.DataObject, death: int) -> None:
        """Promote a version, perhaps again."""
        number = data.draw(st.sampled_from(sorted(map(int, self.state.versions))))
        after = self.state.after_promote(number)
        self._step(partial(_promote, self.root, number), after, death)

    @precondition(lambda self: self.state.current)
    @rule(death=deaths)
    def gc(self, death: int) -> None:
        """Collect garbage and store older steps as differences; nothing else changes."""
        self._step(partial(_gc, self.root), [self.state], death)

    @precondition(lambda self: self.state.current)
    @rule(data=st.data(), place=places, value=st.sampled_from(VALUES))
    def gc_at_once(self, data: st.DataObject, place: str, value: int) -> None:
        """Add, export and collect in three processes at once."""
        COUNTS.steps += 1
        COUNTS.together += 1
        exported = data.draw(st.sampled_from(sorted(set(self.state.current) - {place}) or [""]))
        actions = [partial(_gc, self.root), partial(_add, self.root, place, value, "", True)]
        self.state = self.state.after_add(place, value, "", replace=True)[-1]
        if exported:
            actions.append(partial(_export, self.root, exported, True))
            self.state = self.state.after_export(exported, publish=True)[-1]
        for end in together(*actions):
            assert end.status == 0, end.said

    @precondition(lambda self: self.state.current)
    @rule(keep=st.sampled_from((1, 2)), death=deaths)
    def prune(self, keep: int, death: int) -> None:
        """Prune by a rule."""
        self._step(partial(_prune, self.root, keep), self.state.after_prune(keep), death)

    @precondition(lambda self: self.state.current)
    @rule(place=places, value=st.sampled_from(VALUES), tag=st.sampled_from(("", *TAGS)))
    def add_while_others_take_away(self, place: str, value: int, tag: str) -> None:
        """Add, prune and collect in three processes at once; the add is lost in none."""
        COUNTS.steps += 1
        COUNTS.together += 1
        add = partial(_add, self.root, place, value, tag, True)
        for end in together(add, partial(_prune, self.root, 1), partial(_gc, self.root)):
            assert end.status == 0, end.said
        before, after = self.state.after_prune(1)[-1], self.state
        outcomes = before.after_add(place, value, tag, replace=True)[-1:]
        # An add that finds its checkpoint there gives the tag after it, and so after the prune.
        for added in after.after_add(place, value, tag, replace=True):
            pruned = added.after_prune(1)[-1]
            outcomes.append(pruned)
            if tag and place in pruned.current:
                outcomes += pruned.after_tag(place, tag)
        self._settle_one(outcomes)

    @precondition(lambda self: self.state.current)
    @rule(data=st.data(), place=places, value=st.sampled_from(VALUES))
    def at_once(self, data: st.DataObject, place: str, value: int) -> None:
        """Add and export in two processes at once; the outcome is that of one after the other."""
        COUNTS.steps += 1
        COUNTS.together += 1
        exported = data.draw(st.sampled_from(sorted(set(self.state.current) - {place}) or [""]))
        actions = [partial(_add, self.root, place, value, "", True)]
        self.state = self.state.after_add(place, value, "", replace=True)[-1]
        if exported:
            actions.append(partial(_export, self.root, exported, True))
            self.state = self.state.after_export(exported, publish=True)[-1]
        for end in together(*actions):
            assert end.status == 0, end.said

    @invariant()
    def is_as_it_must_be(self) -> None:
        """Compare the store with the dictionaries, and its files with each other."""
        if (self.root / ".mstore").exists():
            self._settle([])
            self._age()

    def _age(self) -> None:
        """Make what dead processes left look old, so that the next command clears it away."""
        for path in self.root.rglob(f"{disk.STAGING_PREFIX}*"):
            os.utime(path, (_LONG_AGO, _LONG_AGO))


def _init(root: Path) -> bool:
    with Store.init(root) as store:
        return store.created


def hunt(histories: str, steps: str, seed: str = "", plant: str = "") -> dict[str, Any]:
    """Run random histories of so many steps each; return what was tried.

    Args:
        histories: how many.
        steps: how long each is at most.
        seed: not empty for other histories at each call.
        plant: a mistake of `planted` that each command makes, to test this test.

    Raises:
        AssertionError: the store held something else than it must; the history is in the notes.
    """
    Machine.plant = plant
    chosen = settings(
        max_examples=int(histories),
        stateful_step_count=int(steps),
        derandomize=not seed,
        database=None,
        deadline=None,
        phases=(Phase.generate,) if plant else (Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Machine, settings=chosen)
    return asdict(COUNTS)
