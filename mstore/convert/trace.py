"""Runs the conversion of a checkpoint into a SavedModel in a process of its own."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mstore.convert.builders import describe
from mstore.convert.process import require_tensorflow, run_worker
from mstore.convert.request import KERAS_FORMATS, SELF_DESCRIBING, TraceRequest, TraceResult
from mstore.convert.samples import read_samples
from mstore.errors import InputError, UsageError


def trace(
    request: TraceRequest,
    *,
    timeout: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> TraceResult:
    """Make the model, restore the checkpoint into it and write the SavedModel.

    The result is a claim; ``mstore.convert.proof.prove`` checks it against the bytes. On any error
    the output directory may hold an unfinished SavedModel, which is the caller's to remove.

    Args:
        request: what to convert, and how.
        timeout: seconds after which the process and its children are killed; None waits for ever.
        progress: called with a word for each stage: ``starting``, ``building``, ``restoring``,
            ``tracing``, ``saving``, ``checking``.

    Raises:
        UsageError: if the builder is not written as ``FILE.py:NAME`` or ``package.module:NAME``,
            or a root is given for a file that has none.
        InputError: if the builder or the checkpoint is not there, or inputs are missing.
        DamagedFileError: if the checkpoint cannot be read.
        BuilderError: if the builder raises, exits or returns something that is no model.
        ProofError: if a variable of the model is not in the checkpoint, or the other way round.
        WorkerTimeoutError: if it takes longer than ``timeout``.
        WorkerError: if the process crashes or is killed.
        MissingExtraError: if TensorFlow is not installed.
    """
    _require_builder(request)
    _require_checkpoint(request)
    if request.output.exists() and (not request.output.is_dir() or any(request.output.iterdir())):
        # tf.saved_model.save leaves what it finds there, and it would be served.
        raise InputError(f"the output directory {request.output} is not empty")
    require_tensorflow()
    # Copies of weights go where the SavedModel goes: a system's own directory may be small.
    place = request.output.parent if request.output.parent.is_dir() else None
    with tempfile.TemporaryDirectory(prefix=".mstore-trace-", dir=place) as scratch:
        file = Path(scratch, "samples.npz")
        body = {
            **request.to_json(),
            "samples": str(file.absolute()),
            "scratch": str(Path(scratch).absolute()),
        }
        answer = run_worker("trace", body, timeout=timeout, progress=progress)
        result = TraceResult.from_json(answer["result"])
        return replace(result, samples=read_samples(file))


def _require_builder(request: TraceRequest) -> None:
    named = request.format not in SELF_DESCRIBING
    if request.builder is not None:
        describe(request.builder, request.search_path, named=named)
    elif named:
        raise InputError(
            f"the checkpoint {request.checkpoint} holds weights and no architecture",
            hint="give what builds the model: --builder FILE.py:FUNCTION",
        )


def _require_checkpoint(request: TraceRequest) -> None:
    path = request.checkpoint
    if request.format in KERAS_FORMATS:
        if not path.exists():
            raise InputError(f"there is no checkpoint {path}")
        if request.root:
            raise UsageError(
                f"{path.name} holds one model, so there is no root {request.root!r}",
                hint="leave --root out",
            )
        return
    if request.format == "tf1-v1" and path.is_file():
        return
    index = path.with_name(path.name + ".index")
    if not index.is_file():
        raise InputError(f"there is no checkpoint {path} (no {index.name} beside it)")
