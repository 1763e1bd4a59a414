"""Older steps are stored as differences to newer ones, and come back bit for bit."""

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from mstore.catalog import objects
from mstore.catalog.engine import reading, writing
from mstore.catalog.tables import objects as table
from mstore.errors import DamagedStoreError
from mstore.objects.packs import DELTA, PLANES, Entry, pack_path, read_index
from mstore.ops import gc as gc_module
from mstore.ops.context import Context
from mstore.ops.gc_pack import PackRewriter
from mstore.ops.gc_plan import LONGEST, Wish, plan
from mstore.store import Store
from tests.formats.bundle_writer import FLOAT32, Value
from tests.ops.catalogs import answers
from tests.ops.making import added, checkpoint, flip, floats, pack_bytes, packs
from tests.ops.test_rebuild import ensure_rebuilt

SIZE = 40_000


def trained(step: int, *, seed: int = 1, size: int = SIZE) -> dict[str, Value]:
    """Return weights that moved a little with each step, and some that are frozen."""
    random = np.random.default_rng(seed)
    kernel = random.normal(size=size).astype("<f4")
    frozen = random.normal(size=size).astype("<f4")
    for at in range(step):
        kernel *= (1 + 1e-4 * np.random.default_rng(at).normal(size=size)).astype("<f4")
    return {
        "frozen": Value(FLOAT32, (size,), frozen.tobytes()),
        "kernel": Value(FLOAT32, (size,), kernel.tobytes()),
        "bias": floats(step, 2.0, 3.0),
    }


def train(store: Store, root: Path, steps: range, run: str = "r") -> None:
    for step in steps:
        added(store, checkpoint(root / run / f"ckpt-{step}", trained(step)), run=run, step=step)


def ensure_same_files(store: Store, root: Path) -> None:
    """Check that each checkpoint gives the files that were added."""
    for one in store.list(superseded=True):
        target = root / "back" / one.id
        store.checkout(one.id, target)
        source = Path(one.source)
        files = sorted(source.parent.glob(f"{source.name}.*"))
        assert [path.name for path in files] == sorted(p.name for p in target.iterdir())
        for file in files:
            assert file.read_bytes() == (target / file.name).read_bytes()
        shutil.rmtree(target)


def every(store: Store) -> dict[bytes, Entry]:
    return {entry.id: entry for pack in packs(store) for entry in read_index(pack)}


def depth(entries: dict[bytes, Entry], key: bytes) -> int:
    base = entries[key].base
    return 0 if base is None else 1 + depth(entries, base)


def deepest(store: Store) -> int:
    entries = every(store)
    return max(depth(entries, key) for key in entries)


@pytest.fixture
def five(store: Store, tmp_path: Path) -> Store:
    train(store, tmp_path, range(1, 6))
    return store


def test_older_steps_become_differences_and_come_back(five: Store, tmp_path: Path) -> None:
    told, before = answers(five), pack_bytes(five)
    would = five.gc(dry_run=True)
    assert pack_bytes(five) == before
    report = five.gc()
    assert report.deltas >= 4
    assert report.rewritten == 4
    saved = report.before - report.after
    assert before - pack_bytes(five) == saved > 0.2 * before
    assert would.deltas >= 4
    assert would.before > would.after
    ensure_same_files(five, tmp_path)
    verified = five.verify()
    assert verified.clean, verified.findings
    assert not verified.notes
    for entry in every(five).values():
        assert entry.kind == 1 or entry.codec == 0
    strip = {"stored_bytes"}
    assert without(answers(five), strip) == without(told, strip)
    again = five.gc()
    assert (again.rewritten, again.deltas, again.before) == (0, 0, 0)


def without(found: object, names: set[str]) -> object:
    if isinstance(found, dict):
        return {k: without(v, names) for k, v in found.items() if k not in names}
    if isinstance(found, (list, tuple)):
        return [without(item, names) for item in found]
    return found


def test_the_newest_step_is_read_as_it_is(five: Store) -> None:
    five.gc()
    newest = five.list()[0]
    assert newest.step == 5
    (pack,) = [p for p in packs(five) if newest.stored_bytes == p.stat().st_size]
    assert not [entry for entry in read_index(pack) if entry.codec == DELTA]


def test_chains_are_bounded_with_one_collection_and_with_many(tmp_path: Path, store: Store) -> None:
    count = 2 * LONGEST + 5
    train(store, tmp_path, range(1, count))
    store.gc()
    assert deepest(store) == LONGEST
    with Store.init(tmp_path / "other") as other:
        for step in range(1, count):
            train(other, tmp_path / "o", range(step, step + 1))
            other.gc()
        assert deepest(other) == LONGEST
        ensure_same_files(other, tmp_path)
        assert other.verify().clean
    ensure_same_files(store, tmp_path)


def test_weights_that_come_back_make_no_circle(store: Store, tmp_path: Path) -> None:
    """What is older in one run is newer in the next one."""
    for at, run in enumerate(("a", "b", "c")):
        order = (1, 2) if at % 2 == 0 else (2, 1)
        for step, value in enumerate(order, 1):
            prefix = checkpoint(tmp_path / run / f"ckpt-{step}", trained(value))
            added(store, prefix, run=run, step=step)
        store.gc()
        assert not plan(store._context)
        assert store.verify().clean
        ensure_same_files(store, tmp_path)
    assert deepest(store) >= 1


def test_differences_let_go_of_steps_that_were_pruned(five: Store, tmp_path: Path) -> None:
    """Else nothing would become free: what is left would need what was pruned."""
    five.gc()
    entries = every(five)
    five.tag("m@1", "first")
    five.prune("m", keep_last=1)
    assert [one.step for one in five.list()] == [5, 1]
    assert five.gc().deltas == 3  # the large chunk, a small one, and the index
    now = every(five)
    large = [key for key in now if now[key].raw == 4 * SIZE and depth(entries, key) == 4]
    assert [depth(now, key) for key in large] == [1]
    ensure_same_files(five, tmp_path)
    assert five.verify().clean
    assert five.gc().rewritten == 0


def test_a_step_that_was_replaced_is_the_difference_to_what_replaced_it(
    store: Store, tmp_path: Path
) -> None:
    for value in (1, 2):
        prefix = checkpoint(tmp_path / f"v{value}" / "ckpt-7", trained(value))
        added(store, prefix, replace=True)
    assert store.gc().deltas
    ensure_same_files(store, tmp_path)


def test_slots_of_zeros_are_small_in_the_newest_step_too(store: Store, tmp_path: Path) -> None:
    zeros = Value(FLOAT32, (SIZE,), bytes(4 * SIZE))
    added(store, checkpoint(tmp_path / "ckpt-1", {**trained(1), "slot": zeros}))
    assert store.gc().rewritten == 1
    assert [e.codec for e in every(store).values() if e.raw == 4 * SIZE].count(PLANES) == 1
    ensure_same_files(store, tmp_path)


def test_what_does_not_pay_is_not_tried_twice(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(1)
    for step in (1, 2):
        raw = random.bytes(4 * SIZE)
        added(store, checkpoint(tmp_path / f"ckpt-{step}", {"a": Value(FLOAT32, (SIZE,), raw)}))
    before = pack_bytes(store)
    assert store.gc().rewritten == 0
    assert pack_bytes(store) == before
    monkeypatch.setattr(PackRewriter, "rewrite", lambda *_: pytest.fail("it was tried again"))
    store.gc()


@pytest.mark.parametrize("dtype", ["<f2", "<f8", "<i8", "<i2", "|u1"])
def test_every_type_comes_back(store: Store, tmp_path: Path, dtype: str) -> None:
    numbers = {"<f2": 19, "<f8": 2, "<i8": 9, "<i2": 5, "|u1": 4}
    base = np.arange(70_001) * (1.5 if "f" in dtype else 1)
    for step in (1, 2, 3):
        raw = ((base + step) % 1000).astype(dtype).tobytes()
        value = Value(numbers[dtype], (70_001,), raw)
        added(store, checkpoint(tmp_path / f"ckpt-{step}", {"a": value, "b": floats(step)}))
    assert store.gc().deltas
    assert store.verify().clean
    ensure_same_files(store, tmp_path)


def test_a_lost_catalog_is_made_again_with_the_bases(five: Store, tmp_path: Path) -> None:
    five.gc()
    ensure_rebuilt(five, five.path.parent)
    with Store.open(five.path.parent) as store:
        ensure_same_files(store, tmp_path)
        assert store.verify().clean


def test_without_ledger_and_with_old_packs_beside_the_new_ones_nothing_is_lost(
    five: Store, tmp_path: Path
) -> None:
    """A process died after its last transaction, and then catalog and ledger were lost."""
    kept = {path: path.read_bytes() for path in packs(five)}
    five.gc()
    five.close()
    for path, data in kept.items():
        path.write_bytes(data)
    for name in ("catalog.db", "catalog.db-wal", "catalog.db-shm", "ledger"):
        (five.path / name).unlink(missing_ok=True)
    report = Store.rebuild(five.path.parent)
    assert report.complete, report.findings
    with Store.open(five.path.parent) as store:
        ensure_same_files(store, tmp_path)
        assert store.verify().clean
        assert len(store.list()) == 5
        assert len(store.log()) == 5


def delta(store: Store, *, base: bool) -> tuple[Path, Entry]:
    """Return the pack and the place of the deepest difference, or of the base of all."""
    entries = every(store)
    large = {key for key in entries if entries[key].raw == 4 * SIZE}
    found = max(large, key=lambda key: depth(entries, key))
    while base and entries[found].base is not None:
        key = entries[found].base
        assert key is not None
        found = key
    for pack in packs(store):
        for entry in read_index(pack):
            if entry.id == found:
                return pack, entry
    raise AssertionError


def test_damage_of_a_base_names_all_that_depends_on_it(five: Store) -> None:
    five.gc()
    pack, entry = delta(five, base=True)
    flip(pack, entry.offset + 100)
    report = five.verify()
    hurt = [f.subject for f in report.findings if f.kind == "checkpoint"]
    assert {subject.split()[0] for subject in hurt} == {f"m/r@{step}" for step in range(1, 6)}
    (root,) = [item for item in report.damaged if item.base is None]
    assert root.id == entry.id.hex()
    others = [item for item in report.damaged if item.base is not None]
    assert len(others) == 4
    assert {item.base for item in others} == {entry.id.hex()}
    ids = {one.step: one.id for one in five.list()}
    assert {id_ for item in others for id_ in item.checkpoints} == {ids[s] for s in (1, 2, 3, 4)}
    # Seen once, it is known to those who read another part of the store.
    part = next(n for n in (1, 2) if int(pack.stem[:8], 16) % 2 != n - 1)
    assert len(five.verify(subset=(part, 2)).damaged) == 5
    flip(pack, entry.offset + 100)
    assert five.verify().clean


def test_damage_of_a_difference_hurts_what_is_older(five: Store) -> None:
    five.gc()
    entries = every(five)
    (third,) = [e for e in entries.values() if e.raw == 4 * SIZE and depth(entries, e.id) == 2]
    (pack,) = [p for p in packs(five) if third in read_index(p)]
    for at in (0, 40, 64, 66, third.stored - 1):
        flip(pack, third.offset + at)
        report = five.verify()
        hurt = {f.subject.split()[0] for f in report.findings if f.kind == "checkpoint"}
        assert hurt == {"m/r@1", "m/r@2", "m/r@3"}, at
        flip(pack, third.offset + at)
    assert five.verify().clean


@pytest.mark.parametrize("base", [True, False])
def test_adding_the_same_files_heals_a_difference_and_a_base(
    five: Store, tmp_path: Path, base: bool
) -> None:
    five.gc()
    pack, entry = delta(five, base=base)
    flip(pack, entry.offset + 100)
    assert not five.verify().clean
    train(five, tmp_path, range(1, 6))
    report = five.verify()
    assert not [finding for finding in report.findings if finding.kind != "pack"]
    ensure_same_files(five, tmp_path)


def test_a_base_comes_back_and_with_it_all_that_depends_on_it(five: Store, tmp_path: Path) -> None:
    """Only the files of the newest step are left."""
    five.gc()
    (tmp_path / "kept").mkdir()
    for step in range(1, 5):
        for file in (tmp_path / "r").glob(f"ckpt-{step}.*"):
            file.rename(tmp_path / "kept" / file.name)
    pack, entry = delta(five, base=True)
    flip(pack, entry.offset + 100)
    report = five.repair()
    assert report.clean, report
    assert len(report.mended) == 5
    assert report.quarantined == (pack.stem,)
    assert five.verify().clean
    for file in (tmp_path / "kept").iterdir():
        file.rename(tmp_path / "r" / file.name)
    ensure_same_files(five, tmp_path)
    five.gc()
    ensure_same_files(five, tmp_path)


def test_a_damaged_pack_is_left_as_it_is(five: Store, tmp_path: Path) -> None:
    (pack,) = [p for p in packs(five) if p.stat().st_size == five.list()[-1].stored_bytes]
    entry = max(read_index(pack), key=lambda e: e.stored)
    flip(pack, entry.offset + 9)
    report = five.gc()
    assert pack.stem in report.damaged
    assert pack.exists()
    flip(pack, entry.offset + 9)
    assert five.gc().damaged == ()
    ensure_same_files(five, tmp_path)


def test_others_add_and_read_meanwhile(
    five: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PackRewriter.rewrite
    steps = iter(range(6, 20))

    def rewrite(self: PackRewriter, name: str) -> None:
        step = next(steps)
        with Store.open(five.path.parent) as other:
            train(other, tmp_path, range(step, step + 1))
            ensure_same_files(other, tmp_path)
        real(self, name)

    monkeypatch.setattr(PackRewriter, "rewrite", rewrite)
    report = five.gc()
    assert report.rewritten == 4
    ensure_same_files(five, tmp_path)
    assert five.verify().clean
    monkeypatch.undo()
    assert five.gc().rewritten
    ensure_same_files(five, tmp_path)


def test_a_reader_goes_on_while_packs_go_away(five: Store, tmp_path: Path) -> None:
    failed: list[BaseException] = []
    stop = threading.Event()

    def read() -> None:
        try:
            with Store.open(five.path.parent) as other:
                while not stop.is_set():
                    ensure_same_files(other, tmp_path / "reading")
        except BaseException as error:  # noqa: BLE001 - it is told below
            failed.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        five.gc()
    finally:
        stop.set()
        thread.join()
    assert not failed


def test_a_base_that_went_away_meanwhile_is_not_relied_on(
    five: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone_plan(context: Context) -> dict[bytes, Wish]:
        found = plan(context)
        gone = {wish.base for wish in found.values()}
        monkeypatch.setattr(objects, "known", lambda _, ids: set(ids) - gone)
        return found

    monkeypatch.setattr(gc_module, "plan", gone_plan)
    assert five.gc().deltas == 0
    monkeypatch.undo()
    ensure_same_files(five, tmp_path)
    assert five.verify().clean
    assert five.gc().deltas


def test_what_needs_a_difference_needs_its_bases(five: Store) -> None:
    five.gc()
    _, entry = delta(five, base=False)
    with reading(five._context.engine) as connection:
        one = sa.select(table.c.id).where(table.c.id == entry.id)
        found = set(connection.scalars(objects.with_bases(one)))
    entries = every(five)
    expected = {entry.id}
    while entry.base is not None:
        entry = entries[entry.base]
        expected.add(entry.id)
    assert len(expected) == 5
    assert found == expected


def test_a_circle_in_the_catalog_is_damage_and_no_hang(five: Store) -> None:
    five.gc()
    _, entry = delta(five, base=False)
    _, root = delta(five, base=True)
    with writing(five._context.engine) as connection:
        moved = table.update().where(table.c.id == root.id)
        connection.execute(moved.values(base=entry.id, codec=DELTA))
    with pytest.raises(DamagedStoreError):
        five.checkout("m@1", five.path.parent / "out")
    assert not five.verify().clean


def test_an_old_pack_is_gone_and_its_name_is_not_needed(five: Store) -> None:
    before = {path.stem for path in packs(five)}
    five.gc()
    after = {path.stem for path in packs(five)}
    with reading(five._context.engine) as connection:
        assert {name for name, _ in objects.all_packs(connection)} == after
    assert len(before - after) == 4
    for name in after:
        assert pack_path(five.path / "packs", name).stat().st_mode & 0o222 == 0
