"""Runs the conversion in forks of one process that has imported TensorFlow.

Most of the time of a conversion of a small model goes into that import. What runs is the worker's
own code; only how its process comes about differs from `mstore.convert.process`. Training runs in
forks as well, so that what a model leaves in its process (a global dtype, cached names) reaches no
other.
"""

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from mstore.convert.process import _error
from mstore.convert.request import TraceRequest, TraceResult
from mstore.convert.samples import read_samples
from mstore.errors import Error

_T = TypeVar("_T")
LIMIT = 180.0
SEED = 7
"""For initial weights, so that a run of the tests can be repeated."""

_ENVIRONMENT = {"PYTHONHASHSEED": "0", "KERAS_BACKEND": "tensorflow"}


class Forks:
    """Two processes at a time, each a fresh fork for one task."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["mstore.convert.worker.conversion", "tests.tf.exporting"])
        self._before = {name: os.environ.get(name) for name in _ENVIRONMENT}
        os.environ.update(_ENVIRONMENT)  # for the server, which starts with the first task
        self._pool = context.Pool(2, maxtasksperchild=1)

    def __enter__(self) -> "Forks":
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._pool.terminate()
        self._pool.join()
        for name, value in self._before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

    def run(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Run a function of a module in a fork, and return what it returns."""
        result: _T = self._pool.apply_async(_seeded, (function, *arguments)).get(LIMIT)
        return result

    def trace(self, request: TraceRequest, *, timeout: float | None = None) -> TraceResult:
        """Stand in for `mstore.convert.trace.trace`."""
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch, "samples.npz")
            body = {**request.to_json(), "samples": str(file), "scratch": scratch}
            answer = self._pool.apply_async(_convert, (body,)).get(timeout)
            if "error" in answer:
                raise _error(answer["error"], b"")
            return replace(TraceResult.from_json(answer), samples=read_samples(file))


def _seeded(function: Callable[..., _T], *arguments: Any) -> _T:
    import keras  # noqa: PLC0415 - in the fork alone

    keras.utils.set_random_seed(SEED)
    return function(*arguments)


def _convert(body: dict[str, Any]) -> dict[str, Any]:
    from mstore.convert.worker.conversion import run_trace  # noqa: PLC0415 - in the fork alone

    try:
        return run_trace(body, lambda _stage: None)
    except Error as exc:
        return exc.to_json()
