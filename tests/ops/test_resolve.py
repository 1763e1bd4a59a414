from pathlib import Path

import pytest

from mstore.domain.records import Checkpoint
from mstore.errors import AmbiguousReferenceError, UnknownReferenceError, UsageError
from mstore.ops import resolve
from mstore.store import Store
from tests.ops.making import added, checkpoint, weights


@pytest.fixture
def filled(store: Store, tmp_path: Path) -> Store:
    """Two runs of one model; step 10 is in both."""
    plan = [
        ("lr1", 10, {"val_loss": 0.9, "accuracy": 0.1}),
        ("lr1", 30, {"val_loss": 0.2, "accuracy": 0.7}),
        ("lr2", 10, {"val_loss": 0.5, "accuracy": 0.9}),
        ("lr2", 20, {"val_loss": 0.2, "accuracy": 0.3}),
    ]
    for run, step, metrics in plan:
        prefix = checkpoint(tmp_path / run / f"ckpt-{step}", weights(step))
        tags = ["baseline"] if (run, step) == ("lr1", 30) else []
        added(store, prefix, run=run, metrics=metrics, tags=tags)
    return store


def place(store: Store, reference: str) -> tuple[str, int]:
    found = store.show(reference)
    assert isinstance(found, Checkpoint)
    return found.run, found.step


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("m", ("lr2", 20)),
        ("m@latest", ("lr2", 20)),
        ("m/lr1", ("lr1", 30)),
        ("m/lr1@latest", ("lr1", 30)),
        ("m@30", ("lr1", 30)),
        ("m@0030", ("lr1", 30)),
        ("m@" + "0" * 30 + "30", ("lr1", 30)),
        ("m/lr2@10", ("lr2", 10)),
        ("m@baseline", ("lr1", 30)),
        ("m/lr1@baseline", ("lr1", 30)),
        ("m/lr1@best", ("lr1", 30)),
        ("m@best:val_loss", ("lr1", 30)),  # of equals the later step
        ("m@best:+val_loss", ("lr1", 10)),
        ("m@best:-accuracy", ("lr1", 10)),
        ("m@best:+accuracy", ("lr2", 10)),
        ("m/lr2@best:-accuracy", ("lr2", 20)),
        ("m@best", ("lr1", 30)),
    ],
)
def test_every_form_of_reference_finds_its_checkpoint(
    filled: Store, reference: str, expected: tuple[str, int]
) -> None:
    assert place(filled, reference) == expected


def test_an_id_and_its_beginnings_find_a_checkpoint(filled: Store) -> None:
    ids = [item.id for item in filled.list()]
    for one in ids:
        length = 4
        while sum(other.startswith(one[:length]) for other in ids) > 1:
            length += 1
        for text in (one, one[:length], one[: length + 1]):
            assert filled.show(text) == filled.show(one)
        if not one[: length + 2].isdigit():
            assert filled.show(f"m@{one[: length + 2]}") == filled.show(one)


def test_a_beginning_that_two_ids_share_is_ambiguous(store: Store, tmp_path: Path) -> None:
    prefix = checkpoint(tmp_path / "ckpt-1")
    seen: dict[str, int] = {}
    shared = None
    for step in range(700):  # 16 bits: a pair among 700 ids is all but certain, and it is fixed
        short = added(store, prefix, step=step).id[:4]
        if short in seen:
            shared = short
            break
        seen[short] = step
    assert shared is not None
    with pytest.raises(AmbiguousReferenceError) as caught:
        store.show(shared)
    assert len(caught.value.candidates) == 2
    assert all(text.startswith("m/default@") for text in caught.value.candidates)
    assert caught.value.exit_status == 12


def test_a_step_of_two_runs_is_ambiguous_and_both_are_named(filled: Store) -> None:
    with pytest.raises(AmbiguousReferenceError) as caught:
        filled.show("m@10")
    assert [text.split()[0] for text in caught.value.candidates] == ["m/lr1@10", "m/lr2@10"]
    assert caught.value.reference == "m@10"


def test_a_model_named_like_the_beginning_of_an_id_is_ambiguous(
    filled: Store, tmp_path: Path
) -> None:
    word = filled.list()[0].id[:4]
    added(filled, checkpoint(tmp_path / "ckpt-1"), model=word)
    with pytest.raises(AmbiguousReferenceError) as caught:
        filled.show(word)
    assert caught.value.candidates[0] == f"{word}@latest"
    assert place(filled, f"{word}@latest") == ("default", 1)


@pytest.mark.parametrize(
    ("reference", "candidate"),
    [
        ("x", "m"),
        ("x@latest", "m"),
        ("x:1", "m"),
        ("abcdef0123456789", "m"),
        ("m@77", "m/lr2@20"),
        ("m@99999999999999999999999", "m/lr2@20"),
        ("m@" + "1" * 400, "m/lr2@20"),
        ("m/none", "m/lr2@20"),
        ("m@nothing", "m/lr2@20"),
        ("m/lr2@baseline", "m/lr2@20"),
        ("m@best:f1", "m@best:val_loss"),
    ],
)
def test_what_names_nothing_says_what_there_is(
    filled: Store, reference: str, candidate: str
) -> None:
    with pytest.raises(UnknownReferenceError) as caught:
        filled.show(reference)
    assert candidate in caught.value.candidates
    assert caught.value.hint
    body = caught.value.to_json()["error"]
    assert isinstance(body, dict)
    assert candidate in body["candidates"]


def test_an_id_of_another_run_is_not_found_in_this_one(filled: Store) -> None:
    found = filled.show("m@baseline")
    assert isinstance(found, Checkpoint)
    text = found.id[:20]
    assert filled.show(f"m/lr1@{text}") == found
    with pytest.raises(UnknownReferenceError):
        filled.show(f"m/lr2@{text}")


@pytest.mark.parametrize("reference", ["m:1", "m:latest", "m:stable", "m:" + "9" * 30])
def test_versions_that_do_not_exist_are_unknown(filled: Store, reference: str) -> None:
    with pytest.raises(UnknownReferenceError, match="names no version") as caught:
        filled.show(reference)
    assert "mstore export m" in caught.value.hint


def test_in_an_empty_store_the_next_step_is_named(store: Store) -> None:
    with pytest.raises(UnknownReferenceError) as caught:
        store.show("m")
    assert "mstore add" in caught.value.hint


@pytest.mark.parametrize(
    "reference", ["", "@", "m@", "m/@1", "/r@1", "m@best:", "m@best:+", "m:", "é"]
)
def test_what_is_no_reference_is_refused_with_words(filled: Store, reference: str) -> None:
    with pytest.raises(UsageError) as caught:
        filled.show(reference)
    assert caught.value.hint


def test_the_only_metric_is_the_main_one(store: Store, tmp_path: Path) -> None:
    for step, value in ((1, 0.3), (2, 0.8), (3, 0.5)):
        prefix = checkpoint(tmp_path / f"ckpt-{step}")
        added(store, prefix, metrics={"top_accuracy": value})
    assert place(store, "m@best") == ("default", 2)  # its name says that higher is better
    assert place(store, "m@best:-top_accuracy") == ("default", 1)


def test_several_metrics_and_no_loss_leave_it_open(store: Store, tmp_path: Path) -> None:
    added(store, checkpoint(tmp_path / "ckpt-1"), metrics={"a": 1.0, "b": 2.0})
    with pytest.raises(UnknownReferenceError, match="which metric") as caught:
        store.show("m@best")
    assert caught.value.candidates == ("m@best:a", "m@best:b")


def test_a_model_and_a_run_are_told_from_references() -> None:
    assert resolve.model_of("m") == ("m", None)
    assert resolve.model_of("m/r") == ("m", "r")
    for text in ("m@latest", "m/r@latest", "m:1"):
        with pytest.raises(UsageError):
            resolve.model_of(text)
