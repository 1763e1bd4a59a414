"""Models of every kind that people train come out right: the C++ loader gives what they give."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from mstore.convert.check import check
from tests.tf.exporting import LIMIT, Exported, export, largest_difference
from tests.tf.forking import forks, trace_in
from tests.tf.kinds import KINDS, Made

Pending = dict[str, "Future[tuple[Made, Exported]]"]


@pytest.fixture(scope="module")
def pending(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pending]:
    """Train and export the chosen kinds, two at a time."""
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    names = {call.params["name"] for call in calls if call is not None and "name" in call.params}
    with forks() as pool, ThreadPoolExecutor(2) as threads:
        trace = trace_in(pool)

        def run(name: str, directory: Path) -> tuple[Made, Exported]:
            made = pool.submit(KINDS[name], directory).result()
            output = directory / "out"
            return made, export(
                made.prefix, output, made.builder, trace=trace, checked=False, **made.options
            )

        yield {
            name: threads.submit(run, name, tmp_path_factory.mktemp(name))
            for name in KINDS
            if name in names
        }


@pytest.mark.parametrize("name", KINDS)
def test_the_loader_gives_what_the_live_model_gives(name: str, pending: Pending) -> None:
    made, exported = pending[name].result()
    signatures = exported.info.signatures
    outputs = check(
        exported.path,
        signatures,
        dims=exported.result.dims,
        samples=exported.result.samples,
        feeds=made.feeds,
        timeout=LIMIT,
    )
    for signature, live in made.live.items():
        assert largest_difference(outputs[signature], live) <= made.tolerance, signature
    assert all(variable.source_key for variable in exported.proven)
