import shutil
from pathlib import Path
from typing import Any

import pytest

from mstore.domain.records import Checkpoint
from mstore.errors import UsageError
from mstore.objects.packs import Entry, check, read_index
from mstore.ops import verify as verify_module
from mstore.ops import verify_packs
from mstore.ops.add import AddOptions, add
from mstore.ops.opened import OpenCheckpoint
from mstore.store import Store
from tests.ops.making import added, blob, checkpoint, flip, floats, packs, tree


def test_a_sound_store_is_clean_and_stays_as_it_is(store: Store, tmp_path: Path) -> None:
    added(store, checkpoint(tmp_path / "ckpt-1", {"kernel": blob(1, 400_000)}))
    added(store, checkpoint(tmp_path / "ckpt-2", {"kernel": blob(2, 400_000)}))
    before = tree(store.path / "packs")
    report = store.verify()
    assert report.clean
    assert (report.packs, report.checkpoints, report.versions) == (2, 2, 0)
    assert report.objects >= 8
    assert report.bytes > 3_200_000
    assert report.to_json()["clean"] is True
    assert tree(store.path / "packs") == before


def test_a_flipped_byte_anywhere_in_a_pack_is_found(store: Store, tmp_path: Path) -> None:
    added(store, checkpoint(tmp_path / "ckpt-1", {"kernel": floats(1, 2, 3)}))
    (pack,) = packs(store)
    size = pack.stat().st_size
    for position in sorted({*range(16), *range(size - 64, size), *range(0, size, 5)}):
        for mask in (0xFF, 1 << position % 8):
            flip(pack, position, mask)
            assert not store.verify().clean
            flip(pack, position, mask)
    assert store.verify().clean


def test_damage_names_the_checkpoints_that_it_hurts(store: Store, tmp_path: Path) -> None:
    shared = blob(1, 100_000)
    added(store, checkpoint(tmp_path / "ckpt-1", {"shared": shared}))
    added(store, checkpoint(tmp_path / "ckpt-2", {"shared": shared, "own": blob(2, 100_000)}))
    added(store, checkpoint(tmp_path / "ckpt-3", {"other": blob(3, 100_000)}))
    raw = shared.raw
    assert isinstance(raw, bytes)
    (with_shared,) = [path for path in packs(store) if raw[:64] in path.read_bytes()]
    flip(with_shared, with_shared.read_bytes().index(raw[:64]) + 5)
    report = store.verify()
    assert not report.clean
    subjects = [f.subject for f in report.findings if f.kind == "checkpoint"]
    assert [subject.split()[0] for subject in subjects] == ["m/default@2", "m/default@1"]
    assert report.checkpoints == 1
    assert [finding.kind for finding in report.findings if finding.kind == "object"] == ["object"]


def test_a_lost_index_is_a_finding_and_the_objects_are_still_found_sound(
    store: Store, tmp_path: Path
) -> None:
    added(store, checkpoint(tmp_path / "ckpt-1"))
    (pack,) = packs(store)
    flip(pack, pack.stat().st_size - 1)
    report = store.verify()
    assert [finding.kind for finding in report.findings] == ["pack"]
    assert report.checkpoints == 1


def test_a_deleted_pack_is_found_with_what_was_in_it(store: Store, tmp_path: Path) -> None:
    added(store, checkpoint(tmp_path / "ckpt-1"))
    (pack,) = packs(store)
    pack.unlink()
    kinds = {finding.kind for finding in store.verify().findings}
    assert kinds == {"pack", "checkpoint"}


@pytest.mark.parametrize("size", [0, 15, 79, 200, -1])
def test_a_pack_cut_short_is_found(store: Store, tmp_path: Path, size: int) -> None:
    added(store, checkpoint(tmp_path / "ckpt-1"))
    (pack,) = packs(store)
    pack.chmod(0o644)
    pack.write_bytes(pack.read_bytes()[:size])
    assert not store.verify().clean


def test_a_pack_that_grew_is_found(store: Store, tmp_path: Path) -> None:
    added(store, checkpoint(tmp_path / "ckpt-1"))
    (pack,) = packs(store)
    pack.chmod(0o644)
    pack.write_bytes(pack.read_bytes() + b"more")
    assert not store.verify().clean


def test_a_pack_in_the_place_of_another_is_found(store: Store, tmp_path: Path) -> None:
    added(store, checkpoint(tmp_path / "ckpt-1"))
    added(store, checkpoint(tmp_path / "ckpt-2", {"other": floats(9.0)}))
    first, second = packs(store)
    first.unlink()
    shutil.copy(second, first)
    assert not store.verify().clean


def test_a_stray_pack_is_only_a_note(store: Store, tmp_path: Path) -> None:
    with Store.init(tmp_path / "elsewhere") as other:
        added(other, checkpoint(tmp_path / "ckpt-1", {"kernel": blob(4, 100)}))
        (stray,) = packs(other)
    added(store, checkpoint(tmp_path / "ckpt-2"))
    target = store.path / "packs" / stray.stem[:2] / stray.name
    target.parent.mkdir(exist_ok=True)
    shutil.copy(stray, target)
    report = store.verify()
    assert report.clean
    assert [note.subject for note in report.notes] == [stray.stem]


def needing(store: Store) -> set[str]:
    """Return the ids of all that needs something damaged."""
    return {name for item in store.verify().damaged for name in (*item.checkpoints, *item.versions)}


def test_any_flipped_byte_is_named_with_its_users_and_healed_by_adding_again(
    store: Store, tmp_path: Path
) -> None:
    prefix = checkpoint(tmp_path / "ckpt-1", {"kernel": floats(1, 2, 3), "large": blob(1, 16_400)})
    found = added(store, prefix, tags=["good"], metrics={"loss": 0.5})
    (pack,) = packs(store)
    pristine = tmp_path / "pristine"
    shutil.copytree(store.path, pristine)
    size = pack.stat().st_size
    places = {0, 15, 16, size - 1, size - 20, size - 50, size - 63}
    places |= {entry.offset + 1 for entry in read_index(pack)}
    places |= set(range(size - 64 - 64 * len(read_index(pack)), size - 64, 37))
    for position in sorted(places):
        flip(pack, position)
        report = store.verify()
        (item,) = report.damaged
        assert item.checkpoints == (found.id,), position
        assert item.kind in {"chunk", "manifest", "record", "pack"}
        assert report.advice
        again = added(store, prefix)
        assert (again.new, again.id, again.tags) == (False, found.id, found.tags)
        report = store.verify()
        assert report.clean, (position, report.findings)
        assert not report.damaged
        store.checkout("m@1", tmp_path / "out" / str(position))
        assert len(store.log()) == 1
        store.close()
        shutil.rmtree(store.path)
        shutil.copytree(pristine, store.path)
        store._context.engine.dispose()
        store.__init__(store.path)  # type: ignore[misc]


def test_other_content_with_a_damaged_chunk_heals_it(store: Store, tmp_path: Path) -> None:
    shared = blob(1, 100_000)
    added(store, checkpoint(tmp_path / "ckpt-1", {"shared": shared}))
    (pack,) = packs(store)
    raw = shared.raw
    assert isinstance(raw, bytes)
    flip(pack, pack.read_bytes().index(raw[:64]))
    assert len(store.verify().damaged) == 1
    added(store, checkpoint(tmp_path / "ckpt-2", {"shared": shared, "own": floats(1)}))
    report = store.verify()
    assert report.clean
    assert [note.kind for note in report.notes] == ["unused-object"]


def test_a_lost_pack_is_healed_too(store: Store, tmp_path: Path) -> None:
    prefix = checkpoint(tmp_path / "ckpt-1")
    added(store, prefix)
    packs(store)[0].unlink()
    assert not store.verify().clean
    added(store, prefix)
    assert store.verify().clean
    store.checkout("m@1", tmp_path / "out")


def test_parts_cover_every_pack_once(store: Store, tmp_path: Path) -> None:
    for step in range(6):
        added(store, checkpoint(tmp_path / f"ckpt-{step}", {"kernel": floats(step)}))
    parts = [store.verify(subset=(part, 3)) for part in (1, 2, 3)]
    assert sum(report.packs for report in parts) == 6
    assert all(report.checkpoints == 6 and report.clean for report in parts)
    flip(packs(store)[0], 20)
    assert [store.verify(subset=(part, 3)).clean for part in (1, 2, 3)].count(False) >= 1
    # What one part found is not forgotten by the next.
    assert not any(store.verify(subset=(part, 3)).clean for part in (1, 2, 3))
    with pytest.raises(UsageError):
        store.verify(subset=(4, 3))


def test_a_verification_that_was_stopped_goes_on(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in range(4):
        added(store, checkpoint(tmp_path / f"ckpt-{step}", {"kernel": floats(step)}))
    flip(packs(store)[0], 20)
    check = verify_packs.check_objects
    seen: list[str] = []

    def stopping(packs: Path, name: str, *others: Any) -> Any:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(name)
        return check(packs, name, *others)

    monkeypatch.setattr(verify_module, "check_objects", stopping)
    with pytest.raises(KeyboardInterrupt):
        store.verify()
    monkeypatch.undo()
    report = store.verify(resume=True)
    assert (report.packs, len(report.damaged)) == (4, 1)
    assert report.objects == store.verify().objects
    assert not (store.path / "verify.json").exists()


def test_what_reads_right_the_second_time_is_no_damage(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added(store, checkpoint(tmp_path / "ckpt-1"))
    failed: set[bytes] = set()

    def once(entry: Entry, stored: bytes) -> None:
        if entry.id not in failed:
            failed.add(entry.id)
            check(entry, b"x" + stored[1:])
        check(entry, stored)

    monkeypatch.setattr(verify_packs, "check", once)
    assert store.verify().clean
    assert failed


def test_damage_that_was_mended_from_outside_is_forgotten(store: Store, tmp_path: Path) -> None:
    added(store, checkpoint(tmp_path / "ckpt-1"))
    flip(packs(store)[0], 20)
    assert not store.verify().clean
    flip(packs(store)[0], 20)
    assert store.verify().clean


def test_what_is_added_while_others_verify_is_not_missing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added(store, checkpoint(tmp_path / "ckpt-1"))
    read = verify_module._Verification._read

    def adding(self: Any, *others: Any, **options: Any) -> None:
        read(self, *others, **options)
        added(store, checkpoint(tmp_path / "ckpt-2", {"new": floats(2)}))

    monkeypatch.setattr(verify_module._Verification, "_read", adding)
    report = store.verify()
    assert report.clean, report.findings
    assert report.checkpoints == 2


def test_a_damaged_example_is_needed_by_its_checkpoint(store: Store, tmp_path: Path) -> None:
    prefix = checkpoint(tmp_path / "ckpt-1")

    def add_with_example() -> Checkpoint:
        options = AddOptions(model="m", example=b"an example of its own")
        with OpenCheckpoint(prefix) as opened:
            return add(store._context, opened, options)

    found = add_with_example()
    pack = packs(store)[0]
    flip(pack, pack.read_bytes().index(b"an example of its own"))
    (item,) = store.verify().damaged
    assert item.checkpoints == (found.id,)
    assert store.repair(dry_run=True).lost
    add_with_example()
    assert store.verify().clean
