"""What is damaged comes back from wherever its bytes still are."""

import shutil
from pathlib import Path

import pytest

from mstore.errors import InputError
from mstore.objects.packs import MANIFEST, RECORD, read_index
from mstore.store import Store
from tests.ops.catalogs import answers
from tests.ops.making import added, blob, checkpoint, flip, floats, packs
from tests.ops.test_linking import Training, training
from tests.ops.test_rebuild import ensure_rebuilt

__all__ = ["training"]


def hurt(pack: Path, kind: int, number: int = 0) -> None:
    """Flip a byte of the pack's n-th object of a kind."""
    entries = [entry for entry in read_index(pack) if entry.kind == kind]
    flip(pack, entries[number].offset + 2)


def ensure_mended(store: Store, told: object) -> None:
    report = store.verify()
    assert report.clean, report.findings
    assert not report.notes
    assert answers(store) == told
    assert list((store.path / "quarantine").iterdir())
    ensure_rebuilt(store, store.path.parent)


@pytest.fixture
def two(store: Store, tmp_path: Path) -> Store:
    shared = blob(1, 20_000)
    for step in (1, 2):
        prefix = checkpoint(tmp_path / "ckpts" / f"ckpt-{step}", {"a": shared, "b": floats(step)})
        added(store, prefix, metrics={"loss": step / 3}, tags=[f"tag-{step}"])
    return store


def test_any_byte_of_any_pack_is_mended_from_the_original_files(two: Store) -> None:
    told = answers(two)
    for pack in packs(two):
        for entry in read_index(pack):
            flip(pack, entry.offset)
    flip(packs(two)[0], packs(two)[0].stat().st_size - 3)
    (two.path / "packs" / packs(two)[1].parent.name / packs(two)[1].name).unlink()
    report = two.repair(dry_run=True)
    assert report.dry_run
    assert not two.verify().clean
    assert two.repair().clean
    ensure_mended(two, told)


def test_without_the_files_another_store_has_them(two: Store, tmp_path: Path) -> None:
    told = answers(two)
    two.close()
    shutil.copytree(two.path, tmp_path / "backup" / ".mstore")
    shutil.rmtree(tmp_path / "ckpts")
    for pack in packs(two):
        pack.unlink()
    with Store.open(two.path) as store:
        lost = store.repair(dry_run=True)
        assert lost.lost
        assert "--from" in lost.advice[0]
        report = store.repair(sources=[tmp_path / "backup"])
        assert report.clean
        assert {item.origin for item in report.mended} == {str(tmp_path / "backup" / ".mstore")}
        assert store.verify().clean
        assert answers(store) == told
        store.checkout("m@1", tmp_path / "out")


def test_files_that_were_moved_are_found_where_from_says(two: Store, tmp_path: Path) -> None:
    (tmp_path / "ckpts").rename(tmp_path / "moved")
    hurt(packs(two)[0], 1)
    assert two.repair().lost
    assert two.repair(sources=[tmp_path / "moved"]).clean
    assert two.verify().clean


def test_what_nobody_has_is_said_and_comes_back_when_somebody_does(
    two: Store, tmp_path: Path
) -> None:
    told = answers(two)
    (tmp_path / "ckpts").rename(tmp_path / "gone")
    for pack in packs(two):
        hurt(pack, 1)
        hurt(pack, MANIFEST)
    first = two.repair()
    assert not first.clean
    assert {name for item in first.lost for name in item.checkpoints} == {
        item.id for item in two.list()
    }
    report = two.verify()
    assert not report.clean
    assert {item.detail for item in report.damaged} == {"it is in no pack"}
    assert two.repair(sources=[tmp_path / "gone"]).clean
    assert two.verify().clean
    assert answers(two) == told


def test_a_version_comes_back_from_where_it_is_served(training: Training, tmp_path: Path) -> None:
    store, base = training.store, tmp_path / "base"
    store.export("m@5", builder=training.builder(), to=base)
    store.export("m@6", to=base)
    told = answers(store)
    for step in (5, 6):
        shutil.rmtree(tmp_path / f"run-{step}")
    for pack in packs(store):
        entries = read_index(pack)
        large = [entry for entry in entries if entry.kind == 1 and entry.raw > 65_536]
        graphs = [entry for entry in entries if entry.kind == 1 and entry.raw < 2000]
        records = [entry for entry in entries if entry.kind == RECORD]
        chosen = large[:1] or [*graphs[:1], *records[-1:]]
        for entry in chosen:
            flip(pack, entry.offset)
    report = store.repair()
    mended = {item.id for item in report.mended}
    assert report.clean, report.lost
    assert any(str(base) in item.origin for item in report.mended)
    assert mended
    ensure_mended(store, told)


def test_a_lost_program_is_recorded_again_by_the_next_export(
    training: Training,
) -> None:
    store = training.store
    store.export("m@5", builder=training.builder())
    (program,) = store.programs()
    for pack in packs(store):
        for entry in read_index(pack):
            data = pack.read_bytes()[entry.offset : entry.offset + entry.stored]
            if entry.kind == RECORD and b"mstore/program/1" in data:
                flip(pack, entry.offset)
    report = store.repair()
    assert report.dropped == (program.id,)
    assert store.verify().clean
    assert store.programs() == ()
    assert store.export("m@6", builder=training.builder()).method == "trace"
    assert store.programs()[0].id == program.id


def test_a_sound_store_is_left_alone(two: Store, tmp_path: Path) -> None:
    before = [path.name for path in packs(two)]
    report = two.repair()
    assert (report.clean, report.mended, report.quarantined) == (True, (), ())
    assert [path.name for path in packs(two)] == before
    assert not (two.path / "quarantine").exists()
    with pytest.raises(InputError):
        two.repair(sources=[tmp_path / "absent"])


def test_a_damaged_ledger_is_begun_anew(two: Store) -> None:
    flip(two.path / "ledger", 100)
    assert not two.verify().clean
    assert two.repair().ledger
    assert two.verify().clean
    ensure_rebuilt(two, two.path.parent)
