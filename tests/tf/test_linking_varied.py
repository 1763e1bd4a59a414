"""A linked version is, byte for byte, what tracing makes of the same checkpoint."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import keras
import pytest
import tensorflow as tf

from mstore.convert.check import check
from mstore.formats.saved_model import read_saved_model
from tests.tf.exporting import LIMIT, TOLERANCE, largest_difference, model_of, train
from tests.tf.linked import Program, contents, learned, traced
from tests.tf.test_export_varied import CASES, VARIED, Feed

FOLDED = {"normalized", "normalized_functional"}
# A hash table is saved in an order that depends on more than what is in it.
UNORDERED = {"own_functions"}


@dataclass(frozen=True)
class Trained:
    """Two checkpoints of one training run, and the live model's outputs at the second."""

    first: Path
    second: Path
    feed: Feed
    live: Feed


@dataclass(frozen=True)
class Outcome:
    """The program learned from the first checkpoint, and the traced export of the second."""

    program: Program
    second: Path


def trained(name: str, directory: Path) -> Trained:
    feed, reference = CASES[name]
    model = model_of(getattr(VARIED, name)())
    norm = None
    if name in FOLDED:
        norm = model.layers[0 if name == "normalized" else 1]
        norm.adapt(feed["x"] * 3 + 1)
    optimizer = train(model, lambda: reference(model, feed))
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, step=tf.Variable(7))
    first = Path(checkpoint.save(str(directory / "ckpt")))
    for index, variable in enumerate(model.variables):
        if "seed" not in variable.name and tf.as_dtype(variable.dtype).is_floating:
            variable.assign(variable * 0.9 + 0.002 * (index + 1))
    if norm is not None:
        norm.finalize_state()
    second = Path(checkpoint.save(str(directory / "ckpt")))
    return Trained(first, second, feed, reference(model, feed))


def exported(made: Trained, directory: Path, builder: str) -> Outcome:
    program = learned(made.first, directory, builder)
    return Outcome(program, traced(made.second, directory / "second", builder).request.output)


Pending = dict[str, tuple[Trained, "Future[Outcome]"]]


@pytest.fixture(scope="module")
def pending(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pending]:
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    names = {call.params["kind"] for call in calls if call is not None and "kind" in call.params}
    with ThreadPoolExecutor(2) as pool:
        jobs: Pending = {}
        for name in CASES:
            if name in names:
                directory = tmp_path_factory.mktemp(name)
                made = trained(name, directory)
                job = pool.submit(exported, made, directory, f"varied.py:{name}")
                jobs[name] = (made, job)
                keras.utils.clear_session()
        yield jobs


@pytest.mark.parametrize("kind", [name for name in CASES if name not in FOLDED | UNORDERED])
def test_linking_gives_the_very_files_that_tracing_gives(kind: str, pending: Pending) -> None:
    made, job = pending[kind]
    outcome = job.result()
    assert outcome.program.reason is None
    expected = contents(outcome.second)
    linked = outcome.program.link(made.second)
    assert sorted(linked) == sorted(expected)
    assert [name for name in linked if linked[name] != expected[name]] == []
    assert (
        linked["variables/variables.index"]
        != contents(outcome.program.path)["variables/variables.index"]
    )
    signatures = read_saved_model(outcome.second).signatures
    chosen = {"serving_default": signatures["serving_default"]}
    got = check(outcome.second, chosen, feeds={"serving_default": made.feed}, timeout=LIMIT)
    assert largest_difference(got["serving_default"], made.live) <= TOLERANCE


@pytest.mark.parametrize("kind", sorted(FOLDED))
def test_statistics_that_are_folded_into_the_graph_are_never_linked(
    kind: str, pending: Pending
) -> None:
    _, job = pending[kind]
    reason = job.result().program.reason
    assert reason is not None
    assert "is read while the graph is made" in reason


@pytest.mark.parametrize("kind", sorted(UNORDERED))
def test_a_table_whose_entries_have_no_order_of_the_checkpoint_is_never_linked(
    kind: str, pending: Pending
) -> None:
    _, job = pending[kind]
    reason = job.result().program.reason
    assert reason is not None
    assert "is written in an order of its own" in reason
