"""Prunes of random histories: nothing that is needed goes, and the rules are replayed plainly."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mstore.errors import UsageError
from mstore.store import Store
from tests.crash import conversion
from tests.crash.children import scratch
from tests.ops.catalogs import answers, lose, rows
from tests.ops.making import added
from tests.ops.pruning import export

Name = tuple[str, int, int]
"""Run, step and the value that the weights are filled with."""


@dataclass
class History:
    """What a store holds after a history, as plain values."""

    order: list[Name] = field(default_factory=list)
    current: dict[tuple[str, int], Name] = field(default_factory=dict)
    replaced: set[Name] = field(default_factory=set)
    tags: dict[str, Name] = field(default_factory=dict)
    versions: list[Name] = field(default_factory=list)

    @property
    def there(self) -> set[Name]:
        return {*self.current.values(), *self.replaced}

    def add(self, name: Name) -> None:
        place = name[:2]
        self.replaced |= {self.current[place]} if place in self.current else set()
        self.replaced -= {name}
        self.current[place] = name
        if name not in self.order:
            self.order.append(name)

    def prune(self, runs: Sequence[str], rules: dict[str, Any]) -> None:
        """Replay the rules, one checkpoint after the other."""
        looked_at = {name for name in self.there if name[0] in runs}
        keep = {*self.versions, *self.tags.values()}
        for run in runs:
            steps = sorted(step for r, step in self.current if r == run)
            seen: set[int] = set()
            for at, step in enumerate(steps):
                last = len(steps) - at <= rules.get("keep_last", 0)
                every = "keep_every" in rules and step // rules["keep_every"] not in seen
                seen |= {step // rules.get("keep_every", 1)}
                if last or every:
                    keep |= {self.current[run, step]}
        if "keep_best" in rules:
            left = [name for name in self.current.values() if name[0] in runs]
            for _ in range(int(rules["keep_best"].split(":")[0])):
                if left:
                    best = min(left, key=lambda n: (loss(n), -n[1], -self.order.index(n)))
                    left.remove(best)
                    keep |= {best}
        gone = looked_at - keep
        self.replaced -= gone
        self.current = {k: name for k, name in self.current.items() if name not in gone}


def loss(name: Name) -> float:
    return (name[1] * name[2]) % 3


RUNS = ("a", "b")
names = st.tuples(st.sampled_from(RUNS), st.integers(0, 7), st.integers(1, 2))
rules = st.fixed_dictionaries(
    {},
    optional={
        "keep_last": st.integers(1, 3),
        "keep_every": st.integers(2, 4),
        "keep_best": st.integers(1, 3).map("{}:loss".format),
        "keep_tagged": st.just(True),
    },
).filter(bool)
actions = st.one_of(
    st.tuples(st.just("add"), st.lists(names, min_size=1, max_size=6)),
    st.tuples(st.just("tag"), st.integers(0, 9), st.sampled_from("xy")),
    st.tuples(st.just("export"), st.integers(0, 9)),
    st.tuples(st.just("prune"), st.sampled_from([("a",), ("b",), RUNS]), rules),
)


def add(store: Store, root: Path, name: Name) -> None:
    run, step, value = name
    prefix = root / "ckpts" / f"{run}{value}" / f"ckpt-{step}"
    if not prefix.with_suffix(".index").exists():
        conversion.make_checkpoint(prefix, step, value * 100 + step + ord(run))
    added(store, prefix, run=run, replace=True, metrics={"loss": loss(name)})


def act(store: Store, root: Path, history: History, action: tuple[Any, ...]) -> None:
    kind, *what = action
    chosen = sorted(history.current)
    if kind == "add":
        for name in what[0]:
            add(store, root, name)
            history.add(name)
    elif kind == "prune" and any(place[0] in what[0] for place in chosen):
        model = "m" if what[0] == RUNS else f"m/{what[0][0]}"
        would = store.prune(model, **what[1], dry_run=True)
        assert store.prune(model, **what[1]).pruned == would.pruned
        history.prune(what[0], what[1])
    elif kind in {"tag", "export"} and chosen:
        run, step = chosen[what[0] % len(chosen)]
        if kind == "tag":
            store.tag(f"m/{run}@{step}", what[1])
            history.tags[what[1]] = history.current[run, step]
        else:
            export(store, f"m/{run}@{step}", root / "base")
            history.versions.append(history.current[run, step])


def name_of(item: Any) -> Name:
    return item.run, item.step, int(Path(item.source).parent.name[1:])


def ensure_equal(store: Store, history: History) -> None:
    every = store.list(superseded=True)
    assert {name_of(item) for item in every} == history.there
    assert {name_of(i) for i in every if not i.superseded} == set(history.current.values())
    by_id = {item.id: name_of(item) for item in every}
    assert [by_id[v.checkpoint] for v in reversed(store.versions())] == history.versions
    assert {tag: name_of(item) for item in every for tag in item.tags} == history.tags


def ensure_whole(store: Store, root: Path) -> None:
    """Check that all that is there comes back, and that what is served is proven."""
    report = store.verify()
    assert report.clean, report.findings
    assert report.checkpoints == len(store.list(superseded=True))
    for item in store.list(superseded=True):
        store.checkout(item.id, root / "out" / item.id)
        for file in (root / "out" / item.id).iterdir():
            assert file.read_bytes() == Path(item.source).with_name(file.name).read_bytes()
    if (root / "base").exists():
        assert store.audit(root / "base").proven


@given(st.lists(actions, min_size=3, max_size=12))
@settings(max_examples=10, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
def test_random_histories_are_pruned_as_a_plain_replay_says(history: list[Any]) -> None:
    with scratch() as directory, conversion.installed():
        root, plain = Path(directory), History()
        with Store.init(root) as store:
            for action in history:
                try:
                    act(store, root, plain, action)
                except UsageError as error:  # the run has no checkpoint with the metric any more
                    assert "none of these" in error.message  # noqa: PT017 - nothing else
                ensure_equal(store, plain)
            ensure_whole(store, root)
            before, told = rows(root), {**answers(store), "all": store.list(pruned=True)}
        lose(root)
        assert Store.rebuild(root).complete
        assert rows(root) == before
        lose(root)
        (root / ".mstore" / "ledger").unlink(missing_ok=True)
        assert Store.rebuild(root).complete
        with Store.open(root) as store:
            assert {**answers(store), "all": store.list(pruned=True)} == told
            ensure_equal(store, plain)
            ensure_whole(store, root)
