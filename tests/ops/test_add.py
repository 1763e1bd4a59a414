import gc
from pathlib import Path

import pytest

from mstore.errors import ConflictError, DamagedFileError, InputError, UsageError
from mstore.ops.background import PendingAdd
from mstore.store import Store
from tests.ops.making import (
    added,
    blob,
    checkpoint,
    flip,
    floats,
    pack_bytes,
    packs,
    place_of,
    tree,
    weights,
)


@pytest.mark.parametrize("suffix", ["", ".index", ".data-00000-of-00001"])
def test_a_checkpoint_is_added_by_its_prefix_or_any_of_its_files(
    store: Store, tmp_path: Path, suffix: str
) -> None:
    prefix = checkpoint(tmp_path / "ckpt-5")
    result = added(store, f"{prefix}{suffix}")
    assert result.new
    assert result.step == 5
    assert result.tensors == 2
    assert result.source == str(prefix)
    assert store.list() == (store.show(result.id),)


def test_a_directory_is_added_in_natural_order_and_one_failure_stops_nothing(
    store: Store, tmp_path: Path
) -> None:
    for step in (10, 9, 100):
        checkpoint(tmp_path / "run" / f"ckpt-{step}", weights(step))
    flip(tmp_path / "run" / "ckpt-10.index", 3)
    outcome = store.add_all([tmp_path / "run", tmp_path / "gone"], model="m")
    assert [item.step for item in outcome.checkpoints] == [9, 100]
    assert {Path(path).name for path, _ in outcome.failures} == {"ckpt-10", "gone"}


def test_a_directory_of_several_checkpoints_is_refused_where_one_is_meant(
    store: Store, tmp_path: Path
) -> None:
    for step in (1, 2):
        checkpoint(tmp_path / "run" / f"ckpt-{step}")
    with pytest.raises(UsageError, match="2 checkpoints"):
        store.add(tmp_path / "run", model="m")
    with pytest.raises(UsageError, match="2 checkpoints"):
        store.add_all([tmp_path / "run"], model="m", step=3)


def test_the_step_comes_from_the_option_then_the_variable_then_the_name(
    store: Store, tmp_path: Path
) -> None:
    prefix = checkpoint(tmp_path / "ckpt-5", step=7)
    by_option = added(store, prefix, step=9)
    by_variable = added(store, prefix)
    by_name = added(store, checkpoint(tmp_path / "other-5"))
    assert (by_option.step, by_option.step_source, by_option.step_variable) == (9, "option", None)
    assert (by_variable.step, by_variable.step_source) == (7, "variable")
    assert by_variable.step_variable == "step"
    assert (by_name.step, by_name.step_source, by_name.step_variable) == (5, "name", None)


def test_a_checkpoint_without_a_step_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="step") as caught:
        store.add(checkpoint(tmp_path / "best"), model="m")
    assert "--step" in caught.value.hint
    assert packs(store) == []


def test_what_is_said_of_a_checkpoint_is_kept(store: Store, tmp_path: Path) -> None:
    result = added(
        store,
        checkpoint(tmp_path / "ckpt-5"),
        run="lr1",
        metrics={"loss": 0.5},
        tags=["good", "candidate"],
        meta={"who": "Ada"},
        note="first",
        builder="models:build",
    )
    shown = store.list()[0]
    assert shown.metrics == {"loss": 0.5}
    assert shown.tags == ("candidate", "good")
    assert shown.meta == {"who": "Ada"}
    assert (shown.run, shown.note, shown.builder) == ("lr1", "first", "models:build")
    assert shown.to_json() == result.to_json()


@pytest.mark.parametrize(
    "options",
    [
        {"metrics": {"loss": float("nan")}},
        {"metrics": {"loss": float("inf")}},
        {"tags": ["latest"]},
        {"tags": ["abcd"]},
        {"tags": ["12"]},
        {"run": "a/b"},
        {"step": -1},
        {"step": 2**63},
        {"model": "a b"},
    ],
)
def test_what_cannot_be_used_is_refused(
    store: Store, tmp_path: Path, options: dict[str, object]
) -> None:
    with pytest.raises(UsageError):
        added(store, checkpoint(tmp_path / "ckpt-5"), **options)


def test_the_same_content_again_stores_nothing(store: Store, tmp_path: Path) -> None:
    prefix = checkpoint(tmp_path / "ckpt-5")
    first = added(store, prefix)
    before = tree(store.path / "packs")
    for options in ({}, {"replace": True}):
        again = added(store, prefix, **options)
        assert not again.new
        assert again.id == first.id
    assert tree(store.path / "packs") == before
    assert list((store.path / "tmp").iterdir()) == []
    assert len(store.log()) == 1


def test_other_content_at_the_same_step_is_a_conflict(store: Store, tmp_path: Path) -> None:
    first = added(store, checkpoint(tmp_path / "a" / "ckpt-5"))
    before = tree(store.path / "packs")
    with pytest.raises(ConflictError) as caught:
        added(store, checkpoint(tmp_path / "b" / "ckpt-5", weights(9)))
    assert first.id[:12] in caught.value.message
    assert "--replace" in caught.value.hint
    assert tree(store.path / "packs") == before
    assert added(store, tmp_path / "b" / "ckpt-5", run="other").new


def test_replacing_keeps_the_old_content_and_it_can_come_back(store: Store, tmp_path: Path) -> None:
    first = added(store, checkpoint(tmp_path / "a" / "ckpt-5"))
    second = added(store, checkpoint(tmp_path / "b" / "ckpt-5", weights(9)), replace=True)
    assert [item.id for item in store.list()] == [second.id]
    assert {item.id for item in store.list(superseded=True)} == {first.id, second.id}
    old = store.show(first.id[:16])
    assert old.to_json()["superseded"] is True
    with pytest.raises(ConflictError, match="with other metrics: loss is None"):
        added(store, tmp_path / "a" / "ckpt-5", replace=True, metrics={"loss": 0.5})
    back = added(store, tmp_path / "a" / "ckpt-5", replace=True)
    assert back.id == first.id
    assert [item.id for item in store.list()] == [first.id]
    assert [event.event for event in store.log()] == ["replaced", "replaced", "added"]
    store.checkout(second.id, tmp_path / "out")
    assert store.verify().clean


def test_a_damaged_tensor_is_named_and_nothing_is_stored(store: Store, tmp_path: Path) -> None:
    values = {"kernel": blob(1, 300_000), "bias": floats(1.5, 2.5)}
    prefix = checkpoint(tmp_path / "ckpt-5", values)
    data = tmp_path / "ckpt-5.data-00000-of-00001"
    raw = values["kernel"].raw
    assert isinstance(raw, bytes)
    flip(data, place_of(prefix, raw) + 600_000)
    with pytest.raises(DamagedFileError, match="kernel"):
        added(store, prefix)
    assert packs(store) == []
    assert store.list() == ()
    assert list((store.path / "tmp").iterdir()) == []


def test_a_checkpoint_cut_short_or_without_data_is_refused(store: Store, tmp_path: Path) -> None:
    prefix = checkpoint(tmp_path / "ckpt-5")
    data = tmp_path / "ckpt-5.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(DamagedFileError, match="cut short"):
        added(store, prefix)
    data.unlink()
    with pytest.raises(DamagedFileError, match="missing"):
        added(store, prefix)
    assert packs(store) == []


def test_equal_tensors_are_stored_once_wherever_they_stand(store: Store, tmp_path: Path) -> None:
    frozen = blob(1, 600_000)
    added(store, checkpoint(tmp_path / "ckpt-1", {"frozen": frozen, "head": floats(1.0)}))
    before = pack_bytes(store)
    moved = {"a-new-first": floats(*range(33)), "frozen": frozen, "head": floats(2.0)}
    second = added(store, checkpoint(tmp_path / "ckpt-2", moved))
    grown = pack_bytes(store) - before
    assert grown < 10_000
    assert grown == second.stored_bytes
    assert second.bytes > 2_400_000
    assert store.verify().clean


def test_equal_files_have_equal_content_under_different_names(store: Store, tmp_path: Path) -> None:
    first = added(store, checkpoint(tmp_path / "a-1"))
    second = added(store, checkpoint(tmp_path / "b-2"), model="other")
    assert first.content == second.content
    assert first.id != second.id


def test_an_add_in_the_background_survives_the_deletion_of_the_files(
    store: Store, tmp_path: Path
) -> None:
    prefix = checkpoint(tmp_path / "run" / "ckpt-5", {"kernel": blob(3, 300_000)})
    pending = store.add(prefix, model="m", background=True)
    for file in (tmp_path / "run").iterdir():
        file.unlink()
    assert isinstance(pending, PendingAdd)
    assert pending.result(30).new
    assert pending.done()
    store.checkout("m", tmp_path / "out")
    assert store.verify().clean


def test_unknown_options_are_mistakes_of_the_caller(store: Store, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="metric"):
        store.add(checkpoint(tmp_path / "ckpt-5"), model="m", metric={"loss": 1.0})
    with pytest.raises(UsageError, match="no name"):
        store.add(tmp_path / "ckpt-5", model=object())
    gc.collect()  # a file left open would be reported here


def test_adding_again_with_other_metrics_is_refused_and_tags_are_given(
    store: Store, tmp_path: Path
) -> None:
    prefix = checkpoint(tmp_path / "ckpt-1")
    added(store, prefix, metrics={"loss": 0.5})
    with pytest.raises(ConflictError, match=r"loss is 0\.5, not 0\.25"):
        store.add(prefix, model="m", metrics={"loss": 0.25})
    again = added(store, prefix, metrics={"loss": 0.5}, tags=["good"])
    assert (again.new, again.tags) == (False, ("good",))
    assert store.show("m@good").to_json() == again.to_json()
