import shutil
from pathlib import Path

import pytest

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
