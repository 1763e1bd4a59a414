import struct
from pathlib import Path

import pytest

from mstore.errors import ConflictError, DamagedStoreError, InputError, UsageError
from mstore.store import Store
from tests.formats.bundle_writer import INT32, Value
from tests.ops.making import added, blob, checkpoint, flip, floats, packs, tree, weights


def test_a_comparison_names_what_happened_to_each_tensor(store: Store, tmp_path: Path) -> None:
    same = floats(5.0)
    before = {"same": same, "changed": floats(1.0), "gone": floats(1.0, 2.0), "wider": floats(1.0)}
    before["retyped"] = floats(1.0)
    after = {"same": same, "changed": floats(2.0), "new": floats(3.0), "wider": floats(1.0, 1.0)}
    after["retyped"] = Value(INT32, (1,), struct.pack("<i", 1))
    added(store, checkpoint(tmp_path / "ckpt-1", before))
    added(store, checkpoint(tmp_path / "ckpt-2", after))
    diff = store.diff("m@1", "m@2")
    kinds = {change.name: change.kind for change in diff.changes}
    assert kinds == {
        "program/same": "unchanged",
        "program/changed": "changed",
        "program/gone": "removed",
        "program/new": "added",
        "program/wider": "reshaped",
        "program/retyped": "reshaped",
    }
    by_name = {change.name: change for change in diff.changes}
    assert by_name["program/new"].before is None
    assert by_name["program/gone"].after is None
    assert by_name["program/gone"].bytes == 8
    assert by_name["program/wider"].before == ("float32", (1,))
    assert by_name["program/wider"].after == ("float32", (2,))
    assert diff.count("reshaped") == 2
    summary = diff.to_json()["summary"]
    assert summary == {"added": 1, "removed": 1, "reshaped": 2, "changed": 1, "unchanged": 1}
    back = store.diff("m@2", "m@1")
    assert (back.count("added"), back.count("removed")) == (1, 1)


def test_the_tensor_table_has_the_names_of_the_program(store: Store, tmp_path: Path) -> None:
    added(store, checkpoint(tmp_path / "ckpt-1"))
    names = [tensor.full_name for tensor in store.tensors("m").values]
    assert names == ["program/bias", "program/kernel"]


def test_lists_are_bounded_and_filtered(store: Store, tmp_path: Path) -> None:
    prefix = checkpoint(tmp_path / "ckpt")
    for step in range(6):
        added(store, prefix, step=step, run=f"r{step % 2}", model="m" if step < 4 else "n")
    assert [item.step for item in store.list()] == [5, 4, 3, 2, 1, 0]
    assert [item.step for item in store.list(limit=2)] == [5, 4]
    assert [item.step for item in store.list("m")] == [3, 2, 1, 0]
    assert [item.step for item in store.list("m/r0")] == [2, 0]
    assert [item.step for item in store.list("m", run="r1")] == [3, 1]
    assert store.list("unknown") == ()
    with pytest.raises(UsageError, match="no model"):
        store.list("m@1")


def test_a_checkout_gives_the_files_bit_for_bit(store: Store, tmp_path: Path) -> None:
    values = {"kernel": blob(1, 700_000), "bias": floats(1.0), "empty": floats()}
    prefix = checkpoint(tmp_path / "run" / "ckpt-5", values, step=5)
    (tmp_path / "run" / "ckpt-5.meta").write_bytes(b"graph")
    added(store, prefix)
    result = store.checkout("m", tmp_path / "deep" / "out")
    written = sorted((tmp_path / "deep" / "out").iterdir())
    assert [path.name for path in written] == sorted(f.path for f in result.files)
    assert len(written) == 3
    for path in written:
        assert path.read_bytes() == (tmp_path / "run" / path.name).read_bytes()
    assert result.prefix == str(tmp_path / "deep" / "out" / "ckpt-5")
    assert result.to_json()["checkpoint"] == store.list()[0].id


def test_a_checkout_leaves_equal_files_alone_and_refuses_others(
    store: Store, tmp_path: Path
) -> None:
    added(store, checkpoint(tmp_path / "a" / "ckpt-5", weights(1)))
    added(store, checkpoint(tmp_path / "b" / "ckpt-5", weights(2)), run="other")
    store.checkout("m/default", tmp_path / "out")
    before = tree(tmp_path / "out")
    store.checkout("m/default", tmp_path / "out")
    assert {k: v[1:] for k, v in tree(tmp_path / "out").items() if k != str(tmp_path / "out")} == {
        k: v[1:] for k, v in before.items() if k != str(tmp_path / "out")
    }
    with pytest.raises(ConflictError, match="other content"):
        store.checkout("m/other", tmp_path / "out")
    (tmp_path / "out" / "ckpt-5.index").unlink()
    with pytest.raises(ConflictError, match="other content"):
        store.checkout("m/other", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["ckpt-5.data-00000-of-00001"]
    store.checkout("m/default", tmp_path / "out")
    assert {k: v[2] for k, v in tree(tmp_path / "out").items()} == {
        k: v[2] for k, v in before.items()
    }


def test_a_checkout_into_a_file_is_refused(store: Store, tmp_path: Path) -> None:
    added(store, checkpoint(tmp_path / "ckpt-5"))
    with pytest.raises(InputError, match="not a directory"):
        store.checkout("m", tmp_path / "ckpt-5.index")


def test_a_checkout_from_a_damaged_store_writes_no_checkpoint(store: Store, tmp_path: Path) -> None:
    added(store, checkpoint(tmp_path / "ckpt-5", {"kernel": blob(1, 50_000)}))
    flip(packs(store)[0], 100_000)
    with pytest.raises(DamagedStoreError):
        store.checkout("m", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_tag_moves_from_one_checkpoint_to_another(store: Store, tmp_path: Path) -> None:
    prefix = checkpoint(tmp_path / "ckpt")
    first, second = added(store, prefix, step=1), added(store, prefix, step=2)
    assert store.tag("m@1", "good").tags == ("good",)
    assert store.show("m@good") == store.show(first.id)
    assert store.tag(second.id, "good").tags == ("good",)
    assert [item.tags for item in store.list()] == [("good",), ()]
    assert [event.message for event in store.log(limit=2)] == ["good", "good"]
    for name in ("latest", "Best", "12", "beef", "a b", ""):
        with pytest.raises(UsageError):
            store.tag("m@1", name)
    assert store.verify().clean


def test_a_tag_belongs_to_its_model(store: Store, tmp_path: Path) -> None:
    prefix = checkpoint(tmp_path / "ckpt")
    added(store, prefix, step=1, tags=["good"])
    other = added(store, prefix, step=2, model="n", tags=["good"])
    assert store.show("n@good") == store.show(other.id)
    assert store.show("m@good") == store.show("m@1")


def test_the_log_has_everything_once_the_last_first(store: Store, tmp_path: Path) -> None:
    prefix = checkpoint(tmp_path / "ckpt")
    added(store, prefix, step=1, note="because")
    added(store, prefix, step=2)
    added(store, prefix, step=1, model="n")
    store.tag("m@1", "good")
    events = [(event.event, event.model, event.step) for event in store.log()]
    assert events == [("tagged", "m", 1), ("added", "n", 1), ("added", "m", 2), ("added", "m", 1)]
    assert [event.step for event in store.log("m")] == [1, 2, 1]
    assert [event.event for event in store.log("m@1")] == ["tagged", "added"]
    assert [event.event for event in store.log("m@1", limit=1)] == ["tagged"]
    last = store.log("m@1")[-1]
    assert last.message == "because"
    assert last.path == str(prefix)
    assert "@" in last.by
    assert last.at.endswith("Z")
