"""A catalog that is lost is made again from ledger and packs, equal to what it was."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from mstore import disk
from mstore.catalog import tables
from mstore.catalog.engine import reading, writing
from mstore.catalog.ledger_file import read_history, read_lines
from mstore.errors import ConflictError, DamagedStoreError, StoreLockedError, StoreVersionError
from mstore.store import Store
from tests.crash.children import scratch
from tests.ops.catalogs import answers, lose, rows
from tests.ops.making import added, blob, checkpoint, flip, floats, packs
from tests.ops.test_linking import Training, training

__all__ = ["training"]

PROJECT = "project"


@pytest.fixture
def rich(training: Training, tmp_path: Path) -> Store:
    """A store with something of everything."""
    store, base = training.store, tmp_path / "base"
    training.add(7, metrics={"loss": 1 / 3, "accuracy": 0.1 + 0.2}, tags=["good", "seven"])  # type: ignore[arg-type]
    training.add(8, run="other", note="ä note", meta={"who": "me"})  # type: ignore[arg-type]
    again = checkpoint(tmp_path / "again" / "ckpt-5", {"kernel": blob(3, 100)})
    with pytest.raises(ConflictError):
        added(store, again)
    added(store, again, replace=True)
    added(store, checkpoint(tmp_path / "b" / "ckpt-1"), model="b")
    store.tag("m@6", "good")
    version = store.export("m@6", builder=training.builder(), to=base)
    store.export("m@7", message="second")
    store.promote(f"m:{version.version + 1}", base, message="live")
    store.export("m/other@8")
    store.alias("m:2", "champion")
    return store


def ensure_rebuilt(store: Store, root: Path) -> None:
    """Lose the catalog and compare what is made again."""
    before, told = rows(root), answers(store)
    store.close()
    lose(root)
    report = Store.rebuild(root)
    assert report.complete, report.findings
    assert rows(root) == before
    with Store.open(root, exact=True) as again:
        assert answers(again) == told
        assert again.verify().clean


def test_everything_comes_back(rich: Store, tmp_path: Path) -> None:
    audited = rich.audit(tmp_path / "base").to_json()
    ensure_rebuilt(rich, tmp_path / PROJECT)
    with Store.open(tmp_path / PROJECT) as store:
        assert store.audit(tmp_path / "base").to_json() == audited
        assert store.show("m@good") == store.show("m@6")
        assert store.show("m@best:loss") == store.show("m@7")
        assert store.export("m@6").version == 4
        added(store, checkpoint(tmp_path / "more" / "ckpt-9", {"kernel": blob(9, 100)}))
        ensure_rebuilt(store, tmp_path / PROJECT)


def test_a_catalog_that_can_be_read_is_made_again_in_its_place(rich: Store, tmp_path: Path) -> None:
    root = tmp_path / PROJECT
    before, told = rows(root), answers(rich)
    inode = (rich.path / "catalog.db").stat().st_ino
    with writing(rich._context.engine, journaled=False) as connection:
        connection.execute(sa.delete(tables.tensors))
    assert rows(root) != before
    report = Store.rebuild(root)
    assert (report.complete, report.kept) == (True, None)
    assert rows(root) == before
    assert (rich.path / "catalog.db").stat().st_ino == inode
    assert answers(rich) == told  # the store that is open goes on
    rich.tag("m@7", "still")
    ensure_rebuilt(rich, root)


def test_targets_and_what_was_done_with_them_come_back(rich: Store, tmp_path: Path) -> None:
    rich.add_target("prod", tmp_path / "prod", models=["m"])
    for number in (1, 2):
        rich.promote(f"m:{number}", "prod", message="live")
    rich.rollback("prod", message="worse")
    prod = rich.target("prod")
    ensure_rebuilt(rich, tmp_path / PROJECT)
    with Store.open(tmp_path / PROJECT) as store:
        assert store.target("prod") == prod


def test_numbers_that_were_used_up_are_never_given_again(rich: Store, tmp_path: Path) -> None:
    with writing(rich._context.engine) as connection:
        connection.execute(sa.update(tables.models).values(next_version=40))
    ensure_rebuilt(rich, tmp_path / PROJECT)
    with Store.open(tmp_path / PROJECT) as store:
        assert store.export("m@6").version == 40


def test_rows_that_were_deleted_stay_deleted(rich: Store, tmp_path: Path) -> None:
    with writing(rich._context.engine) as connection:
        connection.execute(sa.delete(tables.deployments))
        connection.execute(sa.delete(tables.tags).where(tables.tags.c.name == "seven"))
        connection.execute(
            sa.update(tables.metrics).values(name="renamed-" + tables.metrics.c.name)
        )
    ensure_rebuilt(rich, tmp_path / PROJECT)


def test_without_a_ledger_the_packs_tell_all_they_know(rich: Store, tmp_path: Path) -> None:
    root = tmp_path / PROJECT
    told = answers(rich)
    rich.close()
    lose(root)
    (rich.path / "ledger").unlink()
    report = Store.rebuild(root)
    assert report.complete, report.findings
    assert len(report.adopted) == len(told["log"])
    with Store.open(root, exact=True) as again:
        assert answers(again) == told
        assert again.verify().clean
        ensure_rebuilt(again, root)


def test_an_add_whose_entry_was_lost_with_the_power_is_found_in_its_pack(
    store: Store, tmp_path: Path
) -> None:
    root = tmp_path / PROJECT
    added(store, checkpoint(tmp_path / "ckpt-1"))
    size = (store.path / "ledger").stat().st_size
    found = added(store, checkpoint(tmp_path / "ckpt-2"), metrics={"loss": 0.5}, tags=["a"])
    told = answers(store)
    store.close()
    with (store.path / "ledger").open("r+b") as file:
        file.truncate(size + 100)
    lose(root)
    report = Store.rebuild(root)
    assert len(report.adopted) == 1
    with Store.open(root) as again:
        assert again.show("m@a") == replace(found, new=False)
        assert answers(again) == told


def test_a_ledger_that_lost_its_end_is_written_again_by_the_next_change(
    store: Store, tmp_path: Path
) -> None:
    for step in (1, 2):
        added(store, checkpoint(tmp_path / f"ckpt-{step}"))
    with (store.path / "ledger").open("r+b") as file:
        file.truncate((store.path / "ledger").stat().st_size - 10)
    store.tag("m@2", "two")
    assert read_history(store.path / "ledger").marks[0].base
    ensure_rebuilt(store, tmp_path / PROJECT)


@contextmanager
def dying(action: str, ending: str) -> Iterator[None]:
    """Stop what is done here before a step, as a kill does; the store stays as it is then."""

    class Death(BaseException):
        pass

    def observe(found: str, path: str) -> None:
        if found == action and path.endswith(ending):
            raise Death

    before, disk.observer = disk.observer, observe
    try:
        with pytest.raises(Death):
            yield
    finally:
        disk.observer = before


def test_what_was_never_committed_is_not_in_a_catalog_made_again(
    store: Store, tmp_path: Path
) -> None:
    added(store, checkpoint(tmp_path / "ckpt-1"))
    with dying("commit", "catalog.db"):
        store.tag("m@1", "never")
    assert len(list(read_lines(store.path / "ledger"))) == 2
    added(store, checkpoint(tmp_path / "ckpt-2"))
    ensure_rebuilt(store, tmp_path / PROJECT)
    with Store.open(tmp_path / PROJECT) as again:
        assert [event.event for event in again.log()] == ["added", "added"]
        with dying("commit", "catalog.db"):
            again.tag("m@1", "never")
        # The catalog that is there says that it was not committed.
        Store.rebuild(tmp_path / PROJECT)
        assert [event.event for event in again.log()] == ["added", "added"]


def test_the_last_change_is_complete_even_where_its_commit_was_not_seen(
    store: Store, tmp_path: Path
) -> None:
    added(store, checkpoint(tmp_path / "ckpt-1"))
    with dying("commit", "catalog.db"):
        store.tag("m@1", "almost")
    store.close()
    lose(tmp_path / PROJECT)
    assert Store.rebuild(tmp_path / PROJECT).complete
    with Store.open(tmp_path / PROJECT) as again:
        assert again.list()[0].tags == ("almost",)
        assert again.verify().clean


def test_a_catalog_put_back_from_a_copy_is_refused_until_it_is_made_again(
    store: Store, tmp_path: Path
) -> None:
    root = tmp_path / PROJECT
    added(store, checkpoint(tmp_path / "ckpt-1"))
    store.close()
    shutil.copy(store.path / "catalog.db", tmp_path / "copy")
    with Store.open(root) as later:
        for step in (2, 3):
            added(later, checkpoint(tmp_path / f"ckpt-{step}"))
        told = answers(later)
    lose(root)
    shutil.copy(tmp_path / "copy", store.path / "catalog.db")
    with Store.open(root) as old, pytest.raises(DamagedStoreError, match="put back") as caught:
        added(old, checkpoint(tmp_path / "ckpt-4"))
    assert "fsck --rebuild" in caught.value.hint
    report = Store.rebuild(root)
    assert report.kept
    with Store.open(root) as again:
        assert answers(again) == told


def test_a_damaged_catalog_is_kept_and_made_again(rich: Store, tmp_path: Path) -> None:
    root = tmp_path / PROJECT
    before = rows(root)
    rich.close()
    for file in (root / ".mstore").glob("catalog.db?*"):
        file.unlink()
    (rich.path / "catalog.db").write_bytes(b"no database" * 1000)
    report = Store.rebuild(root)
    assert report.kept
    assert (Path(report.kept) / "catalog.db").read_bytes().startswith(b"no database")
    assert rows(root) == before


def test_a_damaged_entry_is_said_and_what_packs_know_comes_back(
    store: Store, tmp_path: Path
) -> None:
    root = tmp_path / PROJECT
    for step in (1, 2, 3):
        added(store, checkpoint(tmp_path / f"ckpt-{step}"), metrics={"loss": step / 7})
    told = answers(store)
    store.close()
    lose(root)
    lines = list(read_lines(store.path / "ledger"))
    flip(store.path / "ledger", lines[1].start + 200)
    report = Store.rebuild(root)
    assert [finding.kind for finding in report.findings] == ["ledger"]
    with Store.open(root) as again:
        assert {c.id: c.metrics for c in again.list()} == {
            item["id"]: item["metrics"] for item in told["list"]
        }
        assert len(again.log()) == 3
        assert again.verify().clean
        ensure_rebuilt(again, root)


def test_a_damaged_ledger_is_found_and_begun_anew(store: Store, tmp_path: Path) -> None:
    for step in (1, 2, 3):
        added(store, checkpoint(tmp_path / f"ckpt-{step}"))
    path = store.path / "ledger"
    whole = path.read_bytes()
    for line in read_lines(path):
        for place in (line.start, line.start + 64, line.end - 30, line.end - 1):
            flip(path, place)
            assert [finding.kind for finding in store.verify().findings] == ["ledger"]
            path.write_bytes(whole)
    flip(path, list(read_lines(path))[1].start)
    assert Store.rebuild(tmp_path / PROJECT).complete  # the catalog knows what the ledger lost
    assert store.verify().clean
    ensure_rebuilt(store, tmp_path / PROJECT)


def test_a_damaged_pack_is_said(store: Store, tmp_path: Path) -> None:
    added(store, checkpoint(tmp_path / "ckpt-1"))
    added(store, checkpoint(tmp_path / "ckpt-2", {"other": floats(3.0)}))
    store.close()
    pack = max(packs(store), key=lambda path: path.stat().st_mtime_ns)
    flip(pack, pack.stat().st_size - 1)
    lose(tmp_path / PROJECT)
    report = Store.rebuild(tmp_path / PROJECT)
    assert {finding.kind for finding in report.findings} == {"pack", "checkpoint"}
    with Store.open(tmp_path / PROJECT) as again:
        assert [item.step for item in again.list()] == [2, 1]


def test_a_lost_catalog_is_said_with_the_next_command(store: Store, tmp_path: Path) -> None:
    store.close()
    lose(tmp_path / PROJECT)
    with pytest.raises(DamagedStoreError, match="lost its catalog") as caught:
        Store.open(tmp_path / PROJECT)
    assert "mstore fsck --rebuild" in caught.value.hint


def test_a_ledger_of_a_newer_program_is_refused(store: Store, tmp_path: Path) -> None:
    added(store, checkpoint(tmp_path / "ckpt-1"))
    with writing(store._context.engine, journaled=False) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with writing(store._context.engine) as connection:
        connection.execute(sa.update(tables.models).values(next_version=9))
    store.close()
    lose(tmp_path / PROJECT)
    with pytest.raises(StoreVersionError):
        Store.rebuild(tmp_path / PROJECT)


def test_a_store_that_is_open_while_its_catalog_is_replaced_writes_nothing(
    store: Store, tmp_path: Path
) -> None:
    added(store, checkpoint(tmp_path / "ckpt-1"))
    (store.path / "catalog.db").rename(tmp_path / "moved")
    Store.rebuild(tmp_path / PROJECT)
    with pytest.raises(StoreLockedError, match="made again"):
        store.tag("m@1", "lost")
    with Store.open(tmp_path / PROJECT) as again:
        assert [item.step for item in again.list()] == [1]


def test_a_large_transaction_is_written_in_parts_that_count_together(
    store: Store, tmp_path: Path
) -> None:
    added(store, checkpoint(tmp_path / "ckpt-1"))
    many = [{"name": f"model-{at}", "next_version": 1} for at in range(2500)]
    with writing(store._context.engine) as connection:
        connection.execute(sa.insert(tables.models), many)
    path = store.path / "ledger"
    lines = list(read_lines(path))
    assert [line.entry.last for line in lines if line.entry] == [True, False, False, True]
    assert len(read_history(path).marks) == 4
    whole = path.read_bytes()
    path.write_bytes(whole[: lines[-1].start])  # the last part did not reach the disk
    assert len(read_history(path).marks) == 1
    path.write_bytes(whole)
    ensure_rebuilt(store, tmp_path / PROJECT)


def test_every_table_is_derived_or_in_the_ledger(rich: Store) -> None:
    """A new table needs no more than to be used; this says what a rebuild relies on."""
    told = {
        change.table
        for line in read_lines(rich.path / "ledger")
        if line.entry
        for change in line.entry.changes
    }
    with reading(rich._context.engine) as connection:
        filled = {
            table.name
            for table in tables.metadata.sorted_tables
            if connection.execute(sa.select(table).limit(1)).first()
        }
    assert filled - told == {"objects", "tensors", "ledger"}


ADD = st.tuples(
    st.just("add"),
    st.sampled_from(["m", "n"]),
    st.integers(1, 3),
    st.integers(1, 3),
    st.booleans(),
)
TAG = st.tuples(st.just("tag"), st.sampled_from(["m", "n"]), st.sampled_from(["a", "b"]))
DIE = st.tuples(st.just("die"), st.sampled_from(["commit", "append", "replace"]))
SQL = st.tuples(st.just("sql"), st.integers(0, 3))


def play(store: Store, directory: Path, steps: list[tuple[object, ...]]) -> None:
    """Do what Hypothesis chose; what the store refuses is refused."""
    for at, (verb, *what) in enumerate(steps):
        if verb == "add":
            model, step, seed, instead = what
            values = {"kernel": floats(float(str(seed)))}
            prefix = checkpoint(directory / str(at) / f"ckpt-{step}", values)
            try:
                added(store, prefix, model=model, replace=instead, metrics={"loss": 1 / (at + 1)})
            except ConflictError:
                continue
        elif verb == "tag" and store.list(str(what[0])):
            store.tag(f"{what[0]}@latest", str(what[1]))
        elif verb == "sql":
            with writing(store._context.engine) as connection:
                connection.execute(_statements(what[0]))
        elif verb == "die" and store.list():
            with dying(str(what[0]), ""):
                store.tag(store.list()[0].id, "gone")


def _statements(number: object) -> sa.Executable:
    choices: list[Callable[[], sa.Executable]] = [
        lambda: sa.delete(tables.tags),
        lambda: sa.update(tables.models).values(next_version=tables.models.c.next_version + 1),
        lambda: sa.delete(tables.metrics).where(tables.metrics.c.value > 0.4),
        lambda: sa.update(tables.runs).values(name=tables.runs.c.name + "x"),
    ]
    return choices[int(str(number))]()


@settings(max_examples=12, deadline=None)
@given(st.lists(ADD | TAG | DIE | SQL, min_size=1, max_size=8))
def test_whatever_was_done_comes_back(steps: list[tuple[object, ...]]) -> None:
    with scratch() as name:
        root = Path(name)
        with Store.init(root) as store:
            play(store, root, steps)
            # What stands behind the last commit is complete; this makes it not the last.
            added(store, checkpoint(root / "end" / "ckpt-9"), model="end")
            ensure_rebuilt(store, root)


def test_the_ledger_is_json_with_a_checksum_a_line(store: Store, tmp_path: Path) -> None:
    added(store, checkpoint(tmp_path / "ckpt-1"))
    (line,) = (store.path / "ledger").read_text(encoding="utf-8").splitlines()
    body = json.loads(line[65:])
    assert (body["number"], body["base"], body["last"]) == (1, True, True)
    assert {table for table, _, _ in body["changes"]} >= {"checkpoints", "events", "packs"}
    assert sqlite3.sqlite_version_info > (3, 24)
