import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mstore.domain.records import Checkpoint
from mstore.domain.retention import (
    Decision,
    KeepBest,
    KeepEvery,
    KeepLast,
    KeepTagged,
    Rule,
    check_count,
    decide,
    parse_keep_best,
)
from mstore.errors import UsageError

COUNTS = st.integers(1, 6)
VALUES = st.one_of(st.sampled_from([0.0, 1.0, math.inf, -math.inf, math.nan]), st.floats())
NAMES = st.sampled_from(["loss", "+odd", "-odd", "acc"])
RULES: st.SearchStrategy[Rule] = st.one_of(
    st.builds(KeepLast, COUNTS),
    st.builds(KeepEvery, st.integers(1, 8)),
    st.builds(KeepBest, COUNTS, NAMES, st.booleans()),
    st.just(KeepTagged()),
)


def checkpoint(run: str, step: int, **changes: object) -> Checkpoint:
    fields: dict[str, object] = {
        "id": f"{run}-{step}",
        "model": "mnist",
        "run": run,
        "step": step,
        "step_source": "name",
        "step_variable": None,
        "format": "tensor-bundle",
        "bytes": 10,
        "stored_bytes": 10,
        "tensors": 1,
        "content": "c",
        "metrics": {},
        "tags": (),
        "meta": {},
        "note": None,
        "builder": None,
        "added_at": "2026-01-01T00:00:00.000000+00:00",
        "source": "ckpt",
    }
    return Checkpoint(**{**fields, **changes})  # type: ignore[arg-type]  # the fields above


@st.composite
def histories(draw: st.DrawFn) -> list[Checkpoint]:
    """Checkpoints of a model: each step of a run once, and replaced ones beside them."""
    places = st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 15))
    items = []
    for run, step in draw(st.lists(places, unique=True, max_size=25)):
        metrics = draw(st.dictionaries(NAMES, VALUES, max_size=3))
        tags = ("good",) if draw(st.integers(0, 5)) == 0 else ()
        items.append(checkpoint(run, step, metrics=metrics, tags=tags))
        if draw(st.integers(0, 4)) == 0:
            items.append(replace(items[-1], id=f"{run}-{step}-old", superseded=True))
    return draw(st.permutations(items))


def stays(decisions: Sequence[Decision]) -> set[str]:
    return {item.checkpoint.id for item in decisions if item.stays}


def ids_kept(items: Sequence[Checkpoint], *rules: Rule) -> set[str]:
    """What stays if nothing needs anything; a history without the metric is left out."""
    try:
        return stays(decide(items, rules, {}))
    except UsageError:
        assume(condition=False)
        raise


@given(histories(), st.lists(RULES, min_size=1, max_size=4))
def test_rules_together_keep_what_each_keeps_alone(
    items: list[Checkpoint], rules: list[Rule]
) -> None:
    alone = [ids_kept(items, rule) for rule in rules]
    assert ids_kept(items, *rules) == set().union(*alone)
    for decision in decide(items, rules, {}):
        expected = [str(r) for r, ids in zip(rules, alone, strict=True) if _id(decision) in ids]
        assert decision.rules == tuple(dict.fromkeys(expected))


@given(histories(), st.lists(RULES, min_size=1, max_size=3), st.data())
def test_what_is_needed_never_goes_and_a_second_pass_takes_nothing(
    items: list[Checkpoint], rules: list[Rule], data: st.DataObject
) -> None:
    ids = [item.id for item in items]
    needed = data.draw(st.sets(st.sampled_from(ids))) if ids else set()
    needs = {id_: ["version mnist:1"] for id_ in needed}
    ids_kept(items, *rules)
    first = decide(items, rules, needs)
    assert [decision.checkpoint for decision in first] == items
    assert needed <= stays(first)
    assert all(bool(d.needs) == (_id(d) in needed) for d in first)
    rest = [decision.checkpoint for decision in first if decision.stays]
    try:
        second = decide(rest, rules, needs)
    except UsageError as error:
        # Everything measured was kept, so only a history without the metric ends here.
        pytest.fail(f"the second pass fails: {error}")
    assert stays(second) == {item.id for item in rest}


@given(histories(), COUNTS)
def test_the_last_of_each_run_stay(items: list[Checkpoint], count: int) -> None:
    kept = ids_kept(items, KeepLast(count))
    for run in "abc":
        current = [item for item in items if item.run == run and not item.superseded]
        steps = sorted((item.step for item in current), reverse=True)[:count]
        assert {item.step for item in current if item.id in kept} == set(steps)
    assert not any(item.superseded for item in items if item.id in kept)


@given(histories(), st.integers(1, 8))
def test_each_interval_keeps_its_first_step_and_so_each_multiple(
    items: list[Checkpoint], steps: int
) -> None:
    kept = ids_kept(items, KeepEvery(steps))
    current = [item for item in items if not item.superseded]
    assert kept >= {item.id for item in current if item.step % steps == 0}
    for item in current:
        interval = [
            other
            for other in current
            if other.run == item.run and other.step // steps == item.step // steps
        ]
        assert (item.id in kept) == (item.step == min(other.step for other in interval))


@given(histories(), COUNTS, NAMES, st.booleans())
def test_none_that_goes_is_better_than_one_that_stays(
    items: list[Checkpoint], count: int, metric: str, highest: bool
) -> None:
    kept = ids_kept(items, KeepBest(count, metric, highest))
    values = {item.id: item.metrics.get(metric, math.nan) for item in items if not item.superseded}
    measured = {id_ for id_, value in values.items() if not math.isnan(value)}
    assert kept <= measured
    assert len(kept) == min(count, len(measured))
    sign = -1 if highest else 1
    worst = max((sign * values[id_] for id_ in kept), default=-math.inf)
    assert all(sign * values[id_] >= worst for id_ in measured - kept)


@given(histories())
def test_what_is_tagged_stays_even_where_it_was_replaced(items: list[Checkpoint]) -> None:
    assert ids_kept(items, KeepTagged()) == {item.id for item in items if item.tags}


def test_of_equally_good_ones_the_later_step_stays() -> None:
    items = [checkpoint("a", step, metrics={"acc": 0.5}) for step in (1, 3, 2)]
    assert ids_kept(items, KeepBest(2, "acc", highest=True)) == {"a-3", "a-2"}


def test_steps_that_miss_the_multiples_leave_one_in_each_interval() -> None:
    items = [checkpoint("a", 469 * epoch) for epoch in range(1, 8)]
    kept = ids_kept(items, KeepEvery(1000))
    assert kept == {"a-469", "a-1407", "a-2345", "a-3283"}


def test_an_interval_begins_at_its_multiple_and_ends_before_the_next() -> None:
    items = [checkpoint("a", step) for step in (0, 1, 999, 1000, 1001, 1999, 2000)]
    assert ids_kept(items, KeepEvery(1000)) == {"a-0", "a-1000", "a-2000"}


def test_without_a_rule_nothing_is_decided() -> None:
    with pytest.raises(UsageError, match="no rule") as failure:
        decide([checkpoint("a", 1)], [], {})
    assert "--keep-last" in failure.value.hint


def test_a_misspelt_metric_is_refused_and_does_not_empty_the_model() -> None:
    items = [checkpoint("a", 1, metrics={"val_loss": 0.1})]
    with pytest.raises(UsageError, match="val_los'") as failure:
        decide(items, [KeepLast(1), KeepBest(3, "val_los", highest=False)], {})
    assert "val_loss" in failure.value.hint
    assert decide([], [KeepBest(3, "val_los", highest=False)], {}) == ()


@given(st.builds(KeepBest, st.integers(1, 10**18 - 1), NAMES, st.booleans()))
def test_a_rule_as_text_is_read_back(rule: KeepBest) -> None:
    option, _, value = str(rule).partition(" ")
    assert option == "--keep-best"
    assert parse_keep_best(value) == rule


@pytest.mark.parametrize(
    "text",
    ["", "3", "3:", ":loss", "0:loss", "-1:loss", "x:loss", "3:+", "³:loss", f"{10**18}:a"],
)
def test_what_is_no_count_and_metric_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as failure:
        parse_keep_best(text)
    assert failure.value.hint


@given(st.integers(-3, 3))
def test_a_rule_that_keeps_nothing_is_a_slip(count: int) -> None:
    if count >= 1:
        assert check_count("--keep-last", count) == count
        return
    with pytest.raises(UsageError, match="keeps nothing"):
        check_count("--keep-last", count)


def _id(decision: Decision) -> str:
    return decision.checkpoint.id
