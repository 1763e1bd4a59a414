"""Each kind of model of the README's table, linked by the store, is what tracing makes of it."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import keras
import pytest
import tensorflow as tf

from mstore.convert.check import check
from mstore.domain.records import Version
from mstore.store import Store
from tests.ops.making import added
from tests.tf.exporting import BUILDERS, LIMIT, largest_difference
from tests.tf.test_matrix import FEEDS, TOLERANCES, Feed, Trained, call, trained

NOT_LINKABLE = {
    # Keras computes with the statistics while the graph is made.
    "adapted_normalization": "is read while the graph is made",
}
"""Kinds whose graph depends on the checkpoint, and words of the reason."""


@dataclass(frozen=True)
class Outcome:
    """The second checkpoint of a run, exported in two ways after the first was traced.

    Attributes:
        reason: why the program of the first checkpoint is not linkable, or None.
        second: exported as the store sees fit, and served.
        traced: exported with ``trace=True``.
        got: what the C++ loader gives for ``second``.
    """

    reason: str | None
    first: Version
    second: Version
    traced: Version
    got: Feed


def two_steps(made: Trained, place: Path) -> Feed:
    """Write two checkpoints of the model, with other weights; return its outputs at the second."""
    checkpoint = tf.train.Checkpoint(model=made.model, optimizer=made.optimizer)
    checkpoint.write(str(place / "ckpt-3"))
    for index, variable in enumerate(made.model.variables):
        if "seed" not in variable.name and tf.as_dtype(variable.dtype).is_floating:
            variable.assign(variable * 0.9 + 0.002 * (index + 1))
    for layer in getattr(made.model, "layers", ()):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    checkpoint.write(str(place / "ckpt-4"))
    return call(made.model, made.feed)


def exported(name: str, feed: Feed, place: Path) -> Outcome:
    builder = f"{BUILDERS}/kinds.py:{name}"
    with Store.init(place) as store:
        for step in (3, 4):
            added(store, place / f"ckpt-{step}", model="m", step=step)
        first = store.export("m@3", builder=builder, timeout=LIMIT)
        (program,) = store.programs("m")
        second = store.export("m@4", builder=builder, to=place / "serving", timeout=LIMIT)
        traced = store.export("m@4", builder=builder, trace=True, timeout=LIMIT)
        (found,) = store.audit(place / "serving").versions
    assert found.verdict == "proven"
    assert found.checkpoint is not None
    assert found.checkpoint["step"] == 4
    served = place / "serving" / str(second.version)
    chosen = {"serving_default": second.signatures["serving_default"]}
    got = check(served, chosen, feeds={"serving_default": feed}, timeout=LIMIT)
    return Outcome(program.reason, first, second, traced, got["serving_default"])


Pending = dict[str, tuple[Feed, "Future[Outcome]"]]


@pytest.fixture(scope="module")
def pending(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pending]:
    """Train here, convert in two processes at a time."""
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    names = {found.params.get("kind") for found in calls if found is not None}
    with ThreadPoolExecutor(2) as pool:
        jobs: Pending = {}
        for name in (name for name in FEEDS if name in names):
            place = tmp_path_factory.mktemp(name)
            made = trained(name)
            live = two_steps(made, place)
            jobs[name] = (live, pool.submit(exported, name, made.feed, place))
        yield jobs


def files(version: Version) -> dict[str, tuple[int, str]]:
    return {file.path: (file.size, file.sha256) for file in version.files}


@pytest.mark.parametrize("kind", FEEDS)
def test_the_next_checkpoint_is_linked_to_the_files_that_tracing_gives(
    kind: str, pending: Pending
) -> None:
    live, job = pending[kind]
    outcome = job.result()
    words = NOT_LINKABLE.get(kind)
    if words is None:
        assert outcome.reason is None
        assert outcome.second.method == "link"
    else:
        assert outcome.reason is not None
        assert words in outcome.reason
        assert outcome.second.method == "trace"
    assert outcome.traced.method == "trace"
    assert files(outcome.second) == files(outcome.traced)
    assert files(outcome.second) != files(outcome.first)
    assert largest_difference(outcome.got, live) <= TOLERANCES.get(kind, 1e-6)
