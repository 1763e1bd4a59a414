"""What no rule keeps and nothing needs is pruned; its history stays, and it can come back."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mstore.catalog import checkpoints, liveness
from mstore.catalog.engine import writing
from mstore.domain.upkeep import PruneReport
from mstore.errors import ConflictError, UnknownReferenceError, UsageError
from mstore.ops import prune as prune_module
from mstore.ops.add import AddOptions, add
from mstore.ops.opened import OpenCheckpoint
from mstore.store import Store
from tests.crash import conversion
from tests.ops.catalogs import answers, lose, rows
from tests.ops.making import added, checkpoint, flip, packs, weights
from tests.ops.pruning import export, grow, places

PROJECT = "project"


@pytest.fixture
def runs(store: Store, tmp_path: Path) -> Iterator[Store]:
    """Steps 1 to 5 of the run a, then steps 1 to 4 of the run b."""
    with conversion.installed():
        grow(store, tmp_path / "ckpts", "a", range(1, 6))
        grow(store, tmp_path / "ckpts", "b", range(1, 5))
        yield store


def went(report: PruneReport) -> list[str]:
    items = (item.checkpoint for item in report.decisions)
    return [f"{item.run}@{item.step}" for item in items if item.id in report.pruned]


def why(report: PruneReport, place: str) -> tuple[str, ...]:
    (found,) = [
        (*item.rules, *item.needs)
        for item in report.decisions
        if f"{item.checkpoint.run}@{item.checkpoint.step}" == place
    ]
    return found


def test_rules_add_up_and_the_rest_goes(runs: Store) -> None:
    report = runs.prune("m", keep_last=2, keep_best="1:loss", keep_every=3)
    assert places(runs.list("m")) == ["b@4", "b@3", "b@1", "a@5", "a@4", "a@3", "a@1"]
    assert went(report) == ["b@2", "a@2"]
    assert why(report, "a@1") == ("--keep-every 3",)
    assert why(report, "b@1") == ("--keep-every 3", "--keep-best 1:loss")
    assert why(report, "b@3") == ("--keep-last 2", "--keep-every 3")
    assert report.bytes == sum(i.checkpoint.bytes for i in report.decisions if not i.stays)
    assert not runs.prune("m", keep_last=2, keep_best="1:loss", keep_every=3).pruned


def test_a_dry_run_says_the_same_and_changes_nothing(runs: Store, tmp_path: Path) -> None:
    before, files = rows(tmp_path / PROJECT), packs(runs)
    would = runs.prune("m", keep_last=1, dry_run=True)
    assert rows(tmp_path / PROJECT) == before
    assert packs(runs) == files
    assert would.event is None
    done = runs.prune("m", keep_last=1)
    assert (done.pruned, done.decisions) == (would.pruned, would.decisions)


def test_only_one_run_is_looked_at(runs: Store) -> None:
    runs.prune("m", run="a", keep_last=1)
    runs.prune("m/b", keep_last=3)
    assert places(runs.list("m")) == ["b@4", "b@3", "b@2", "a@5"]


def test_no_reference_names_what_was_pruned(runs: Store) -> None:
    old = runs.show("m/b@4").to_json()
    runs.prune("m/a", keep_best="2:loss")
    runs.prune("m/b", keep_tagged=True)
    assert places(runs.list()) == ["a@2", "a@1"]
    # The run that began last is b.
    assert runs.show("m@best:+loss") == runs.show("m@latest") == runs.show("m/a@2")
    for reference in ("m/b@4", f"m@{str(old['id'])[:12]}", str(old["id"])[:12], str(old["id"])):
        shown = runs.show(reference).to_json()
        assert shown.pop("pruned_at") is not None
        assert old.items() >= shown.items()
        with pytest.raises(UnknownReferenceError, match="was pruned at 2") as error:
            runs.checkout(reference, "out")
        assert "mstore add " in error.value.hint
        with pytest.raises(UnknownReferenceError, match="was pruned"):
            runs.tag(reference, "late")
    with pytest.raises(UnknownReferenceError, match="names no checkpoint"):
        runs.show("m/b@latest")
    with pytest.raises(UnknownReferenceError, match="names no checkpoint"):
        runs.show("m/b@best:loss")
    assert len(runs.list(pruned=True)) == len(runs.list(superseded=True, pruned=True)) == 9


def test_a_step_that_was_pruned_is_free(runs: Store, tmp_path: Path) -> None:
    runs.prune("m", keep_last=1)
    new = added(runs, checkpoint(tmp_path / "new" / "ckpt-1", weights(9)), run="a")
    assert runs.show("m/a@1") == runs.show(new.id)
    # What was there before is replaced and needed by nobody.
    runs.prune("m", run="a", keep_last=9)
    with pytest.raises(ConflictError, match="another checkpoint"):
        added(runs, tmp_path / "ckpts" / "a" / "ckpt-1", run="a")
    added(runs, tmp_path / "ckpts" / "a" / "ckpt-1", run="a", replace=True)
    assert runs.show("m/a@1") != runs.show(new.id)


def test_what_versions_targets_and_tags_need_stays(runs: Store, tmp_path: Path) -> None:
    export(runs, "m/a@2")
    export(runs, "m/a@3")
    runs.add_target("prod", tmp_path / "prod", models=["m"])
    runs.promote("m:1", "prod")
    runs.promote("m:2", "prod")
    runs.retire("prod", 1)
    runs.promote("m:2", tmp_path / "other")
    runs.tag("m/b@1", "first")
    report = runs.prune("m", keep_last=1)
    assert places(runs.list()) == ["b@4", "b@1", "a@5", "a@3", "a@2"]
    assert why(report, "a@2") == ("m:1",)
    assert why(report, "a@3") == (f"m:2 in prod, {tmp_path / 'other'}",)
    assert why(report, "b@1") == ("tag first",)
    assert runs.audits("prod")[0].proven
    runs.tag("m/b@4", "first")  # a tag that moved on needs the other one no more
    assert went(runs.prune("m", keep_last=1)) == ["b@1"]


def test_keep_tagged_alone_keeps_nothing_else(runs: Store) -> None:
    runs.tag("m/a@2", "good")
    runs.prune("m", keep_tagged=True)
    assert places(runs.list()) == ["a@2"]
    assert runs.show("m@latest") == runs.show("m@good")


def test_what_was_superseded_goes_unless_something_needs_it(runs: Store, tmp_path: Path) -> None:
    old = [runs.show(f"m/a@{step}").to_json()["id"] for step in (4, 5)]
    runs.tag("m/a@4", "before")
    for step in (4, 5):
        prefix = checkpoint(tmp_path / "new" / f"ckpt-{step}", weights(step))
        added(runs, prefix, run="a", replace=True)
    report = runs.prune("m", keep_last=9)
    assert report.pruned == {old[1]}
    assert runs.show("m@before").to_json()["id"] == old[0]


def test_one_event_tells_who_went_and_why(runs: Store) -> None:
    report = runs.prune("m", keep_last=3, message="the disk is full")
    event = runs.log("m", limit=1)[0]
    assert (event.id, event.event, event.model) == (report.event, "pruned", "m")
    assert event.message == "the disk is full (--keep-last 3)"
    assert set(event.pruned) == report.pruned
    assert event.by
    assert (event.checkpoint, event.run, event.step) == (None, None, None)
    assert [item.event for item in runs.log("m/a@2")] == ["pruned", "added"]
    assert [item.event for item in runs.log("m/a@4")] == ["added"]
    assert len(runs.log()) == 10
    assert runs.show("m/a@2").to_json()["pruned_at"] == event.at


def test_the_same_files_bring_it_back_as_it_was(runs: Store, tmp_path: Path) -> None:
    before = runs.show("m/a@2")
    runs.prune("m", keep_last=1)
    with pytest.raises(ConflictError, match="before it was pruned, with other metrics"):
        added(runs, tmp_path / "ckpts" / "a" / "ckpt-2", run="a", metrics={"loss": 7})
    assert added(runs, tmp_path / "ckpts" / "a" / "ckpt-2", run="a", tags=["back"]).new
    assert runs.show("m@back") == runs.show("m/a@2")
    assert runs.show("m/a@2").to_json() == {**before.to_json(), "tags": ["back"]}
    assert not added(runs, tmp_path / "ckpts" / "a" / "ckpt-2", run="a").new
    assert [item.event for item in runs.log("m/a@2")] == ["added", "pruned", "added"]
    # It is found by its content again.
    export(runs, "m/a@2", tmp_path / "base")
    assert runs.audit(tmp_path / "base").proven
    assert runs.verify().checkpoints == len(runs.list(superseded=True)) == 3


def test_content_that_was_pruned_is_not_found(runs: Store, tmp_path: Path) -> None:
    export(runs, "m/a@2", tmp_path / "base")
    shutil.copytree(tmp_path / "ckpts", tmp_path / "other" / "ckpts")
    with Store.init(tmp_path / "other") as other:
        added(other, tmp_path / "other" / "ckpts" / "a" / "ckpt-2", run="a")
        added(other, tmp_path / "other" / "ckpts" / "a" / "ckpt-3", run="a")
        assert other.audit(tmp_path / "base").versions[0].checkpoint is not None
        other.prune("m", keep_last=1)
        found = other.audit(tmp_path / "base").versions[0]
        assert (found.verdict, found.checkpoint) == ("unknown", None)


def test_an_example_comes_back_with_it(store: Store, tmp_path: Path) -> None:
    def add_it(example: bytes | None) -> None:
        with OpenCheckpoint(tmp_path / "ckpt-1") as opened:
            add(store._context, opened, AddOptions(model="m", example=example))

    checkpoint(tmp_path / "ckpt-1")
    added(store, checkpoint(tmp_path / "ckpt-2", weights(2)))
    add_it(b"an example of its own")
    first = store.show("m@1").to_json()["example"]
    store.prune("m", keep_last=1)
    add_it(None)
    assert store.show("m@1").to_json()["example"] == first
    store.prune("m", keep_last=1)
    add_it(b"another example")
    assert store.show("m@1").to_json()["example"] not in {first, None}
    assert store.verify().clean


def test_the_catalog_made_again_is_the_same(runs: Store, tmp_path: Path) -> None:
    root = tmp_path / PROJECT
    export(runs, "m/a@2")
    runs.prune("m", keep_last=2)
    added(runs, tmp_path / "ckpts" / "a" / "ckpt-3", run="a")
    runs.prune("m/b", keep_last=1, message="once more")
    before, told = rows(root), {**answers(runs), "all": runs.list(superseded=True, pruned=True)}
    runs.close()
    lose(root)
    assert Store.rebuild(root).complete
    assert rows(root) == before
    lose(root)
    (root / ".mstore" / "ledger").unlink()
    assert Store.rebuild(root).complete
    with Store.open(root, exact=True) as again:
        everything = again.list(superseded=True, pruned=True)
        assert {**answers(again), "all": everything} == told
        assert again.verify().clean


def test_a_version_or_tag_made_meanwhile_keeps_a_checkpoint(
    runs: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = prune_module._fingerprints

    def busy(*arguments: Any) -> Any:
        with Store.open(tmp_path / PROJECT, exact=True) as other:
            other.tag("m/a@1", "rescued")
            export(other, "m/b@1")
            added(other, conversion.make_checkpoint(tmp_path / "ckpt-9", 9), run="a")
        return look(*arguments)

    monkeypatch.setattr(prune_module, "_fingerprints", busy)
    report = runs.prune("m", keep_last=2)
    assert went(report) == ["b@2", "a@3", "a@2"]
    # a@4 is not among the last two any more, and was not to go when people were asked.
    assert places(runs.list()) == ["a@9", "b@4", "b@3", "b@1", "a@5", "a@4", "a@1"]
    assert set(runs.log(limit=1)[0].pruned) == report.pruned
    assert runs.verify().clean


def test_only_those_that_people_saw_go(runs: Store) -> None:
    seen = runs.prune("m", keep_last=2, dry_run=True).pruned
    assert runs.prune("m", keep_last=1, only=seen).pruned == seen
    assert runs.prune("m", keep_last=1, only=()).event is None


def test_what_is_needed_cannot_be_marked_by_mistake(runs: Store) -> None:
    runs.tag("m/a@2", "good")
    with writing(runs._context.engine) as connection:
        row = checkpoints.at_step(connection, "m", "a", 2)[0]
        with pytest.raises(ConflictError, match="is needed now"):
            liveness.prune(connection, 1, {row.seq: None}, "2026-01-01")


@pytest.mark.parametrize("what", ["tag", "export"])
def test_what_was_pruned_meanwhile_is_not_tagged_or_exported(
    runs: Store, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = liveness.ensure_live

    def late(connection: Any, seq: int) -> None:
        query = "UPDATE checkpoints SET superseded = 1, pruned_at = '2026' WHERE seq = ?"
        connection.exec_driver_sql(query, (seq,))
        check(connection, seq)

    monkeypatch.setattr(liveness, "ensure_live", late)
    with pytest.raises(ConflictError, match="was pruned while this command ran"):
        runs.tag("m/a@2", "good") if what == "tag" else export(runs, "m/a@2")
    assert runs.versions() == ()
    assert runs.show("m/a@2").to_json()["tags"] == []


def test_a_damaged_checkpoint_can_be_pruned(runs: Store, tmp_path: Path) -> None:
    for pack in packs(runs):
        data = pack.read_bytes()
        if b'"trunk' in data or b"manifest" in data:
            flip(pack, data.rindex(b'{"') + 2)
    added(runs, checkpoint(tmp_path / "sound" / "ckpt-9", weights(9)), run="a")
    runs.prune("m", run="a", keep_last=1)
    assert places(runs.list("m/a")) == ["a@9"]
    tensors = rows(tmp_path / PROJECT)["tensors"]
    keys = {row[1] for row in tensors}
    assert len(keys) == 5  # four of b, one of a


def test_slips_of_the_hand_are_told(runs: Store, tmp_path: Path) -> None:
    added(runs, checkpoint(tmp_path / "ckpt-9"), metrics={"val_accuracy": 0.9, "loss": 1})
    report = runs.prune("m", keep_best=["1:val_accuracy", "1:+loss"], dry_run=True)
    assert len(report.warnings) == 1
    assert "--keep-best 1:+val_accuracy" in report.warnings[0]
    assert not runs.prune("m", keep_best="1:+val_accuracy", dry_run=True).warnings
    with pytest.raises(UsageError, match="no rule"):
        runs.prune("m")
    with pytest.raises(UsageError, match="keeps nothing"):
        runs.prune("m", keep_last=0)
    with pytest.raises(UsageError, match="none of these"):
        runs.prune("m", keep_best="1:f1")
    with pytest.raises(UnknownReferenceError, match="no model 'n'"):
        runs.prune("n", keep_last=1)
    with pytest.raises(UnknownReferenceError, match="no run 'c' of m"):
        runs.prune("m/c", keep_last=1)
    assert len(runs.list()) == 10
