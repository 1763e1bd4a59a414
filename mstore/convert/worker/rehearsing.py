"""Compares the traced graph with the live model, on made-up batches of 1 and 3.

A trace can differ from the model: with open dimensions some layers take another path in a graph
(Keras 3.15's ``TimeDistributed`` then loops over the batch instead of the time steps).
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from mstore.convert.worker.calling import LENGTHS, concrete, made_up
from mstore.convert.worker.entries import Entry
from mstore.convert.worker.tracing import named_outputs
from mstore.errors import ProofError

BATCHES = (1, 3)
_TOLERANCE = 1e-4
_REPEATABLE = 1e-5
# A graph may keep intermediate results of these types in float32, which eager calls round.
_LOW_PRECISION = 0.1


def rehearse(entry: Entry, function: Any, dims: Mapping[str, tuple[int, ...]]) -> str:
    """Run the entry eagerly and as a graph, with the restored weights.

    Returns:
        A warning if they could not be compared, else the empty string.

    Raises:
        ProofError: if the outputs differ.
    """
    for batch in BATCHES:
        for shapes in _shapes(entry, dims, batch):
            tensors = [made_up(entry.specs[key], shape) for key, shape in shapes.items()]
            live = _eager(entry, tensors)
            if live is None:
                continue
            again = _eager(entry, tensors)
            if again is None or _difference(live, again, _REPEATABLE):
                return f"the signature {entry.name!r} gives other outputs at each call"
            _compare(entry, function, tensors, live)
            break
        else:
            return f"the signature {entry.name!r} could not be run on made-up inputs"
    return ""


def _shapes(
    entry: Entry, dims: Mapping[str, tuple[int, ...]], batch: int
) -> Iterator[dict[str, tuple[int, ...]]]:
    if any(spec.shape.rank is None for spec in entry.specs.values()):
        return
    if all(key in dims for key in entry.specs):
        yield {
            key: concrete(spec.shape[:1].concatenate(dims[key][1:]), 1, batch)
            for key, spec in entry.specs.items()
        }
        return
    for length in LENGTHS:
        yield {key: concrete(spec.shape, length, batch) for key, spec in entry.specs.items()}


def _eager(entry: Entry, tensors: list[Any]) -> dict[str, Any] | None:
    with _functions_run_eagerly():
        try:
            outputs = named_outputs(entry, entry.function(*tensors))
            return {key: tf.convert_to_tensor(value).numpy() for key, value in outputs.items()}
        except Exception:  # noqa: BLE001 - the model may refuse what we made up in any way
            return None


@contextlib.contextmanager
def _functions_run_eagerly() -> Iterator[None]:
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def _compare(entry: Entry, function: Any, tensors: list[Any], live: Mapping[str, Any]) -> None:
    try:
        graph = {key: value.numpy() for key, value in function(*tensors).items()}
    except tf.errors.OpError as exc:
        raise _differs(entry, f"the graph fails ({exc.message.splitlines()[0]})") from exc
    difference = _difference(live, graph, _tolerance(function))
    if difference:
        raise _differs(entry, difference)


def _tolerance(function: Any) -> float:
    text = {dtype for op in function.graph.get_operations() for dtype in _types(op)}
    return _LOW_PRECISION if text & {tf.float16, tf.bfloat16} else _TOLERANCE


def _types(operation: Any) -> Iterator[Any]:
    for output in operation.outputs:
        yield output.dtype


def _difference(live: Mapping[str, Any], graph: Mapping[str, Any], tolerance: float) -> str:
    for key, value in live.items():
        other = graph[key]
        if value.shape != other.shape:
            return f"its output {key!r} has the shape {list(other.shape)}, not {list(value.shape)}"
        if value.dtype.kind not in "fc" and value.dtype.name != "bfloat16":
            if not np.array_equal(value, other):
                return f"its output {key!r} has other values"
            continue
        first, second = value.astype(np.complex128), other.astype(np.complex128)
        scale = max(1.0, float(np.abs(first[np.isfinite(first)]).max(initial=0.0)))
        if not np.allclose(second, first, rtol=0, atol=tolerance * scale, equal_nan=True):
            worst = float(np.abs(second - first).max(initial=0.0))
            return f"its output {key!r} differs by up to {worst:.3g}"
    return ""


def _differs(entry: Entry, how: str) -> ProofError:
    open_inputs = [key for key, spec in entry.specs.items() if None in spec.shape.as_list()[1:]]
    hint = "some layers do other work in a graph than when they are called"
    if open_inputs:
        key = open_inputs[0]
        spec = entry.specs[key]
        dims = ",".join(
            "?" if d is None and i == 0 else str(d or 8) for i, d in enumerate(spec.shape.as_list())
        )
        hint += f"; with fixed dimensions they may not: --input '{key}={spec.dtype.name}[{dims}]'"
    return ProofError(
        f"the graph of the signature {entry.name!r} does not compute what the model does: {how}",
        subjects=[entry.name],
        hint=hint,
    )
