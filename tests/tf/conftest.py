"""Keeps TensorFlow on the processor and quiet, as training code on a build server would."""

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mstore.convert import process
from tests.tf.zygote import Zygotes

if TYPE_CHECKING:
    from tests.tf.exporting import Exported
    from tests.tf.forking import Forks
    from tests.tf.kinds import Made

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Give the weights of each test the same initial values in every run."""
    if "keras" in sys.modules:
        from tests.tf.forking import SEED  # noqa: PLC0415 - imports TensorFlow

        sys.modules["keras"].utils.set_random_seed(SEED)


@pytest.fixture(scope="session", autouse=True)
def zygotes() -> Iterator[Callable[..., Any]]:
    """Fork the workers of all tests; give the function that starts one as users do."""
    started = process._start
    made = Zygotes()
    process._start = made.start  # type: ignore[assignment]
    yield started
    process._start = started
    made.close()


@pytest.fixture
def started(zygotes: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the workers of this test as users do."""
    monkeypatch.setattr(process, "_start", zygotes)


@pytest.fixture(scope="session")
def forks() -> "Iterator[Forks]":
    """Processes that have imported TensorFlow."""
    from tests.tf.forking import Forks  # noqa: PLC0415 - imports TensorFlow

    with Forks() as pool:
        yield pool


@pytest.fixture(scope="session")
def kinds(
    request: pytest.FixtureRequest, forks: "Forks", tmp_path_factory: pytest.TempPathFactory
) -> "Iterator[dict[str, Future[tuple[Made, Exported]]]]":
    """Train and export the kinds that the chosen tests name, two at a time."""
    from tests.tf.exporting import Exported, export  # noqa: PLC0415 - imports TensorFlow
    from tests.tf.kinds import KINDS, Made  # noqa: PLC0415 - imports TensorFlow

    def run(name: str, directory: Path) -> tuple[Made, Exported]:
        made = forks.run(KINDS[name], directory)
        output = directory / "out"
        return made, export(
            made.prefix, output, made.builder, trace=forks.trace, checked=False, **made.options
        )

    calls = [getattr(item, "callspec", None) for item in request.session.items]
    names = {call.params.get("kind") for call in calls if call is not None}
    with ThreadPoolExecutor(2) as threads:
        yield {
            name: threads.submit(run, name, tmp_path_factory.mktemp(name))
            for name in KINDS
            if name in names
        }
