"""Stores of every earlier format are opened, read, verified and gone on with."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from mstore.catalog import schema
from mstore.objects.packs import DELTA, PLANES, RAW, read_index
from mstore.store import Store
from tests.frozen_stores import ARCHIVES, thaw
from tests.ops.catalogs import answers, lose
from tests.ops.making import added, checkpoint

every_store = pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name)


def ensure_told(now: Any, then: Any, place: str = "") -> None:
    """Check that all that was said then is said now; there may be more."""
    if isinstance(then, dict):
        for key, value in then.items():
            ensure_told(now[key], value, f"{place}.{key}")
    elif isinstance(then, list):
        assert len(now) == len(then), place
        for at, value in enumerate(then):
            ensure_told(now[at], value, f"{place}[{at}]")
    else:
        assert now == then, place


def ensure_readable(store: Store, root: Path, told: dict[str, Any]) -> None:
    said = answers(store)
    ensure_told(said, {key: told[key] for key in said if key in told})
    report = store.verify()
    assert report.clean, report.findings
    assert (report.checkpoints, report.versions) == (2, 2)
    for step in (10, 20):
        store.checkout(f"m@{step}", root / "out")
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (root / "out").iterdir()
    }
    assert found == told["files"]
    assert store.audit(root / "base").proven


def test_each_revision_up_to_the_ledger_is_frozen() -> None:
    assert [path.name[:4] for path in ARCHIVES[:4]] == ["0001", "0002", "0003", "0004"]
    assert {path.name[:4] for path in ARCHIVES} <= schema.KNOWN


def test_a_store_with_differences_is_frozen(tmp_path: Path) -> None:
    (archive,) = [path for path in ARCHIVES if path.name.startswith("0009")]
    thaw(archive, tmp_path)
    found = [read_index(pack) for pack in (tmp_path / ".mstore" / "packs").glob("*/*.pack")]
    assert {entry.codec for entries in found for entry in entries} == {RAW, PLANES, DELTA}


@every_store
def test_a_store_of_an_earlier_format_is_read_and_gone_on_with(
    archive: Path, tmp_path: Path
) -> None:
    told = thaw(archive, tmp_path)
    with Store.open(tmp_path, exact=True) as store:
        ensure_readable(store, tmp_path, told)
        assert store.promote("m:2", tmp_path / "base").version == 2
        added(store, checkpoint(tmp_path / "new" / "ckpt-30"), model="m")
        assert store.show("m").to_json()["step"] == 30
        before = answers(store)
    lose(tmp_path)
    assert Store.rebuild(tmp_path, exact=True).complete
    with Store.open(tmp_path, exact=True) as store:
        assert answers(store) == before


@every_store
def test_the_catalog_of_an_earlier_format_is_made_again(archive: Path, tmp_path: Path) -> None:
    told = thaw(archive, tmp_path)
    lose(tmp_path)
    report = Store.rebuild(tmp_path, exact=True)
    assert report.complete, report.findings
    with Store.open(tmp_path, exact=True) as store:
        ensure_readable(store, tmp_path, told)
