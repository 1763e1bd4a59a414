"""Exports a name-based checkpoint by the graph in its ``.meta``, in a process of its own."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mstore.convert.meta_request import MetaGraphRequest
from mstore.convert.process import require_tensorflow, run_worker
from mstore.convert.request import TraceResult
from mstore.convert.samples import read_samples
from mstore.errors import InputError
from mstore.formats.meta_graph import META, MetaGraphInfo, read_meta_graph


def trace_meta_graph(
    request: MetaGraphRequest,
    *,
    timeout: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> TraceResult:
    """Cut the signatures out of the trained graph, restore the checkpoint and write a SavedModel.

    The result is a claim; ``mstore.convert.proof.prove`` checks it against the bytes, and
    ``mstore.convert.restore_plan.refuse_unrestored`` that the graph reads what is restored. On any
    error the output directory may hold an unfinished SavedModel, which is the caller's to remove.

    Args:
        request: what to export, and how.
        timeout: seconds after which the process is killed; None waits for ever.
        progress: called with a word for each stage: ``starting``, ``building``, ``restoring``,
            ``checking``, ``saving``.

    Raises:
        InputError: a tensor is not in the graph, an input is missing, or the graph cannot be used.
        DamagedFileError: the ``.meta`` is damaged.
        ProofError: a variable of the signatures is not in the checkpoint.
        WorkerTimeoutError: if it takes longer than ``timeout``.
        WorkerError: if the process crashes or is killed.
        MissingExtraError: if TensorFlow is not installed.
    """
    meta = Path(f"{request.checkpoint}{META}")
    info = read_meta_graph(meta)
    _require_outputs(request, info, meta)
    if request.output.exists() and (not request.output.is_dir() or any(request.output.iterdir())):
        raise InputError(f"the output directory {request.output} is not empty")
    require_tensorflow()
    with tempfile.TemporaryDirectory(prefix="mstore-trace-") as scratch:
        file = Path(scratch, "samples.npz")
        body = {**request.to_json(), "samples": str(file)}
        answer = run_worker("meta-graph", body, timeout=timeout, progress=progress)
        result = TraceResult.from_json(answer["result"])
        return replace(result, samples=read_samples(file))


def _require_outputs(request: MetaGraphRequest, info: MetaGraphInfo, meta: Path) -> None:
    if request.outputs or (info.signatures and not request.inputs):
        return
    inputs = [name for name in info.placeholders if not name.startswith("save")]
    shown = " ".join(f"--input NAME={name}" for name in inputs[:3]) or "--input NAME=OP:0"
    raise InputError(
        f"{meta.name} has no signatures, so it does not say what goes in and what comes out"
        if not info.signatures
        else "inputs are given, but no outputs",
        hint=f"name tensors of its graph: {shown} --output NAME=OP:0",
    )
