"""gc drops what nothing live is made of, and nothing else, whatever else is going on."""

import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from mstore.catalog import liveness
from mstore.catalog.engine import reading
from mstore.errors import DamagedStoreError, StoreLockedError
from mstore.objects.manifest import Manifest, ManifestFile, Piece
from mstore.objects.packs import CHUNK, Entry, read_index
from mstore.objects.reader import ObjectReader
from mstore.ops import add as add_module
from mstore.ops import gc as gc_module
from mstore.ops import reclaim
from mstore.ops.reliance import ensure_there
from mstore.store import Store
from tests.crash import conversion
from tests.crash.children import scratch
from tests.ops.catalogs import answers, lose, rows
from tests.ops.making import added, blob, checkpoint, flip, floats, pack_bytes, packs
from tests.ops.pruning import export, grow, hash_of, places
from tests.ops.test_linking import Training, training
from tests.ops.test_prune_histories import (
    RUNS,
    History,
    act,
    actions,
    ensure_equal,
    ensure_whole,
)

__all__ = ["training"]

PROJECT = "project"


@pytest.fixture
def runs(store: Store, tmp_path: Path) -> Iterator[Store]:
    """Steps 1 to 5 of the run a; 256 kB of each are its own, and all share as much again."""
    with conversion.installed():
        grow(store, tmp_path / "ckpts", "a", range(1, 6))
        yield store


def ensure_sound(store: Store, place: Path) -> None:
    report = store.verify()
    assert report.clean, report.findings
    assert report.checkpoints == len(store.list(superseded=True))
    for item in store.list(superseded=True):
        store.checkout(item.id, place / item.id)
        for file in (place / item.id).iterdir():
            assert file.read_bytes() == Path(item.source).with_name(file.name).read_bytes()


def test_the_bytes_of_what_was_pruned_go_and_shared_ones_stay(runs: Store, tmp_path: Path) -> None:
    before = pack_bytes(runs)
    runs.prune("m", keep_last=2)
    assert pack_bytes(runs) > before
    would = runs.gc(dry_run=True, grace=0)
    assert pack_bytes(runs) > before
    done = runs.gc(grace=0)
    assert (done.dropped, done.freed) == (would.dropped, would.freed)
    assert done.freed >= 3 * conversion.LARGE
    assert len(done.reclaimed) == 3
    assert before - pack_bytes(runs) > 3 * conversion.LARGE - 4096
    ensure_sound(runs, tmp_path / "out")
    again = runs.gc(grace=0)
    assert (again.removed, again.reclaimed, again.rewritten) == ((), (), 0)
    assert len(runs.log()) == 6
    assert runs.show("m@1").to_json()["pruned_at"] is not None


def test_what_was_pruned_lately_keeps_its_bytes(
    runs: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.prune("m", keep_last=2)
    report = runs.gc()
    assert (report.freed, report.lately) == (0, 3)
    later = time.time() + 2 * gc_module.GRACE
    monkeypatch.setattr(time, "time", lambda: later)
    report = runs.gc()
    assert report.freed > 0
    assert report.lately == 0
    ensure_sound(runs, tmp_path / "out")


def test_what_is_gone_can_be_added_again(runs: Store, tmp_path: Path) -> None:
    before = runs.show("m@2").to_json()
    runs.prune("m", keep_last=1)
    runs.gc(grace=0)
    assert added(runs, tmp_path / "ckpts" / "a" / "ckpt-2", run="a").new
    assert {**runs.show("m@2").to_json(), "stored_bytes": before["stored_bytes"]} == before
    ensure_sound(runs, tmp_path / "out")
    export(runs, "m@2", tmp_path / "base")
    assert runs.audit(tmp_path / "base").proven


def test_versions_and_programs_keep_what_they_are_made_of(
    training: Training, tmp_path: Path
) -> None:
    store = training.store
    store.export("m@5", builder=training.builder(), to=tmp_path / "base")
    for step in (6, 7, 8):
        training.add(step)
    store.prune("m", keep_last=1)
    assert store.gc(grace=0).freed > 0
    assert [item.step for item in store.list()] == [8, 5]
    version = store.export("m@8", to=tmp_path / "base")
    assert version.method == "link"
    assert store.audit(tmp_path / "base").proven
    assert store.promote("m:1", tmp_path / "again").new
    assert store.verify().clean


def test_packs_of_which_little_would_go_stay(store: Store, tmp_path: Path) -> None:
    added(
        store,
        checkpoint(tmp_path / "a" / "ckpt-1", {"small": blob(1, 100), "big": blob(2, 99_999)}),
    )
    added(
        store,
        checkpoint(tmp_path / "a" / "ckpt-2", {"small": blob(3, 100), "big": blob(2, 99_999)}),
    )
    store.prune("m", keep_last=1)
    left = packs(store)
    report = store.gc(grace=0)
    assert report.reclaimed == ()
    assert len(packs(store)) == len(left)


def test_an_add_that_relied_on_what_went_stores_it_again(
    runs: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.prune("m", keep_last=1)
    commit = add_module._Adding.commit
    times: list[int] = []

    def late(adding: Any, *arguments: Any) -> Any:
        if not times:
            with Store.open(tmp_path / PROJECT, exact=True) as other:
                times.append(other.gc(grace=0).freed)
        return commit(adding, *arguments)

    monkeypatch.setattr(add_module._Adding, "commit", late)
    # Another run, the same weights: all chunks are there until gc takes them.
    added(runs, tmp_path / "ckpts" / "a" / "ckpt-2", run="b")
    assert times[0] > 0
    assert places(runs.list()) == ["b@2", "a@5"]
    ensure_sound(runs, tmp_path / "out")


def test_what_becomes_live_while_gc_works_stays(
    runs: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.prune("m", keep_last=1)
    copy = reclaim._Reclaiming._copy
    tried: list[int] = []

    def busy(work: Any, *arguments: Any) -> Any:
        if not tried:
            with Store.open(tmp_path / PROJECT, exact=True) as other:
                added(other, tmp_path / "ckpts" / "a" / "ckpt-2", run="a")
                other.tag("m@2", "good")
        tried.append(1)
        return copy(work, *arguments)

    monkeypatch.setattr(reclaim._Reclaiming, "_copy", busy)
    assert runs.gc(grace=0).freed >= 3 * conversion.LARGE
    assert places(runs.list()) == ["a@5", "a@2"]
    ensure_sound(runs, tmp_path / "out")


def test_a_reader_finds_what_has_moved_to_another_pack(runs: Store) -> None:
    context = runs._context
    with reading(context.engine) as connection:
        found = connection.exec_driver_sql("SELECT id FROM objects WHERE kind = 3")
        keys = list(found.scalars())
    stale = dict(context.locate(keys))
    runs.prune("m", keep_last=1)
    runs.gc(grace=0)
    asked: list[bytes] = []

    def locate(wanted: Sequence[bytes]) -> Mapping[bytes, tuple[str, Entry]]:
        first = not set(wanted) & set(asked)
        asked.extend(wanted)
        return {key: stale[key] for key in wanted} if first else context.locate(wanted)

    with ObjectReader(context.packs, locate) as reader:
        assert all(reader.read(key) for key in keys)
    asked.clear()
    with ObjectReader(context.packs, locate) as reader:
        pieces = [Piece(key, 0, 10) for key in keys]
        assert len(list(reader.stream(pieces))) == len(keys)
    lost = ObjectReader(context.packs, lambda wanted: {key: stale[key] for key in wanted})
    with lost, pytest.raises(DamagedStoreError, match="is missing"):
        list(map(lost.read, keys))


def test_a_command_that_relied_on_what_went_is_told(runs: Store) -> None:
    file = ManifestFile("f", 1, "0" * 64, (Piece(b"x" * 32, 0, 1),))
    manifest = Manifest((file,))
    with reading(runs._context.engine) as connection:
        ensure_there(connection, manifest, {b"x" * 32})
        with pytest.raises(StoreLockedError, match="relied on while it ran"):
            ensure_there(connection, manifest, ())


def test_nothing_goes_where_nobody_knows_what_is_needed(runs: Store, tmp_path: Path) -> None:
    runs.prune("m", keep_last=1)
    for pack in packs(runs):
        data = pack.read_bytes()
        if b'"files":[' in data:
            flip(pack, data.index(b'"files":[') + 2)
    left = rows(tmp_path / PROJECT)["objects"]
    report = runs.gc(grace=0)
    assert "nothing is dropped" in report.blocked
    assert (report.reclaimed, report.freed) == ((), 0)
    assert len(rows(tmp_path / PROJECT)["objects"]) == len(left)


def test_damage_in_what_goes_goes_with_it(runs: Store, tmp_path: Path) -> None:
    (pack,) = {p for p in packs(runs) if head(1) in p.read_bytes()}
    flip(pack, pack.read_bytes().index(head(1)) + 5)
    assert len(runs.verify().damaged) == 1
    runs.prune("m", keep_last=1)
    assert runs.gc(grace=0).freed > 0
    ensure_sound(runs, tmp_path / "out")
    assert rows(tmp_path / PROJECT)["damaged"] == []


def head(step: int) -> bytes:
    """Return the beginning of the tensor that only this step of the run a has."""
    return struct.pack("<f", hash_of("a", step)) * 1000


def test_a_base_stays_as_long_as_what_is_a_difference_to_it(store: Store, tmp_path: Path) -> None:
    def step(number: int) -> Path:
        values = [float(at + number / 1000) for at in range(60_000)]
        return checkpoint(tmp_path / "near" / f"ckpt-{number}", {"near": floats(*values)})

    for number in range(1, 7):
        added(store, step(number))
    assert store.gc(grace=0).deltas >= 5
    store.tag("m@2", "good")
    store.tag("m@4", "better")
    store.prune("m", keep_last=1)
    assert store.gc(grace=0).dropped > 0
    assert [item.step for item in store.list()] == [6, 4, 2]
    ensure_sound(store, tmp_path / "out")
    assert store.gc(grace=0).dropped == 0
    assert chunks_there(store, tmp_path) == chunks_needed(store)
    store.tag("m@6", "good")
    store.tag("m@6", "better")
    store.prune("m", keep_last=1)
    store.gc(grace=0)
    assert chunks_there(store, tmp_path) == chunks_needed(store)
    ensure_sound(store, tmp_path / "out")


def chunks_there(store: Store, place: Path) -> set[bytes]:
    found = {row[0] for row in rows(place / PROJECT)["objects"] if row[2] == CHUNK}
    assert found == {e.id for pack in packs(store) for e in read_index(pack) if e.kind == CHUNK}
    return found


def chunks_needed(store: Store) -> set[bytes]:
    with reading(store._context.engine) as connection:
        found = liveness.roots(connection, pruned_after="9")
    return {key for root in found for key in store._context.manifest(root.manifest).chunks()}


def test_the_catalog_made_again_after_gc_is_the_same(runs: Store, tmp_path: Path) -> None:
    root = tmp_path / PROJECT
    export(runs, "m@1")
    runs.tag("m@2", "good")
    runs.prune("m", keep_last=1)
    assert runs.gc(grace=0).freed > 0
    before, told = rows(root), said(runs)
    runs.close()
    lose(root)
    assert Store.rebuild(root).complete
    assert rows(root) == before
    lose(root)
    (root / ".mstore" / "ledger").unlink()
    assert Store.rebuild(root).complete
    with Store.open(root, exact=True) as again:
        assert said(again) == told
        ensure_sound(again, tmp_path / "out")


def said(store: Store) -> dict[str, Any]:
    """Return what a store says of itself, but for what adds wrote, which only the ledger knows."""
    every = store.list(superseded=True, pruned=True)
    return {**answers(store), "list": [replace(item, stored_bytes=0) for item in every]}


REBASED: list[tuple[Any, ...]] = [
    ("gc",),
    ("add", [("b", 4, 1), ("a", 6, 1), ("b", 2, 2), ("a", 4, 2), ("a", 2, 1)]),
    ("prune", ("b",), {"keep_last": 1, "keep_tagged": True}),
    ("export", 5),
    ("gc",),
    ("add", [("b", 7, 2), ("a", 7, 1), ("a", 7, 2)]),
    ("tag", 0, "x"),
    ("export", 4),
    ("add", [("a", 6, 1), ("b", 6, 2)]),
    ("gc",),
    ("export", 7),
]
"""A difference gets another base at last, and takes the very same space as before."""


@example(history=REBASED)
@given(st.lists(st.one_of(actions, st.just(("gc",))), min_size=4, max_size=12))
@settings(max_examples=10, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
def test_random_histories_lose_nothing_to_gc(history: list[Any]) -> None:
    with scratch() as directory, conversion.installed():
        root, plain = Path(directory), History()
        with Store.init(root) as store:
            for action in [*history, ("prune", RUNS, {"keep_last": 2}), ("gc",)]:
                if action == ("gc",):
                    store.gc(grace=0)
                elif action[0] != "prune" or "keep_best" not in action[2]:
                    act(store, root, plain, action)
                ensure_equal(store, plain)
            ensure_whole(store, root)
            before, told = rows(root), said(store)
        lose(root)
        assert Store.rebuild(root).complete
        assert rows(root)["checkpoints"] == before["checkpoints"]
        lose(root)
        (root / ".mstore" / "ledger").unlink(missing_ok=True)
        assert Store.rebuild(root).complete
        with Store.open(root) as store:
            assert said(store) == told
            ensure_equal(store, plain)
            ensure_whole(store, root)
