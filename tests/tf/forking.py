"""Runs the conversion in forks of one process that has imported TensorFlow.

Most of the time of a conversion of a small model goes into that import. What runs is the worker's
own entry; only how its process comes about differs from `mstore.convert.process`. Training runs in
forks as well, so that what a model leaves in its process (a global dtype, cached names) reaches no
other.
"""

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from mstore.convert.process import _error
from mstore.convert.request import TraceRequest, TraceResult
from mstore.convert.samples import read_samples
from mstore.errors import Error

_ENVIRONMENT = {"PYTHONHASHSEED": "0", "KERAS_BACKEND": "tensorflow"}


@contextmanager
def forks(workers: int = 2) -> Iterator[ProcessPoolExecutor]:
    """Give a pool each of whose tasks runs in a fresh fork."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mstore.convert.worker.conversion", "tests.tf.exporting"])
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)  # for the server, which starts with the first task
    try:
        with ProcessPoolExecutor(workers, context, max_tasks_per_child=1) as pool:
            yield pool
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def trace_in(pool: ProcessPoolExecutor) -> Callable[[TraceRequest], TraceResult]:
    """Return a stand-in for `mstore.convert.trace.trace` that runs in a fork."""

    def trace(request: TraceRequest, *, timeout: float | None = None) -> TraceResult:
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch, "samples.npz")
            body = {**request.to_json(), "samples": str(file)}
            answer = pool.submit(_convert, body).result(timeout)
            if "error" in answer:
                raise _error(answer["error"], b"")
            return replace(TraceResult.from_json(answer), samples=read_samples(file))

    return trace


def _convert(body: dict[str, Any]) -> dict[str, Any]:
    from mstore.convert.worker.conversion import run_trace  # noqa: PLC0415 - in the fork alone

    try:
        return run_trace(body, lambda _stage: None)
    except Error as exc:
        return exc.to_json()
