"""Compares the traced graph with the live model, on made-up batches of 1 and 3.

A trace can differ from the model: with open dimensions some layers take another path in a graph
(Keras 3.15's ``TimeDistributed`` then loops over the batch instead of the time steps).
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from mstore.convert.arrays import difference
from mstore.convert.madeup import BATCHES
from mstore.convert.request import Sample
from mstore.convert.worker.calling import concrete, made_up, tries
from mstore.convert.worker.entries import Entry
from mstore.convert.worker.tracing import named_outputs
from mstore.errors import ProofError

_TOLERANCE = 1e-4
_REPEATABLE = 1e-5
# A graph may keep intermediate results of these types in float32, which eager calls round.
_LOW_PRECISION = 0.1


def rehearse(
    entry: Entry, function: Any, dims: Mapping[str, tuple[int, ...]]
) -> tuple[Sample | None, str]:
    """Run the entry eagerly and as a graph, with the restored weights.

    Returns:
        The largest batch with the live outputs, for the load check, or None and a warning why
        they could not be compared.

    Raises:
        ProofError: if the outputs differ.
    """
    sample: Sample | None = None
    for batch in BATCHES:
        for tensors in _batches(entry, dims, batch):
            live = _eager(entry, tensors)
            if live is None:
                continue
            again = _eager(entry, tensors)
            if again is None or difference(live, again, _REPEATABLE):
                return None, f"the signature {entry.name!r} gives other outputs at each call"
            _compare(entry, function, tensors, live)
            feeds = {key: t.numpy() for key, t in zip(entry.specs, tensors, strict=True)}
            sample = Sample(feeds, live, _tolerance(function))
            break
        else:
            return None, f"the signature {entry.name!r} could not be run on made-up inputs"
    return sample, ""


def _batches(entry: Entry, dims: Mapping[str, tuple[int, ...]], batch: int) -> Iterator[list[Any]]:
    if any(spec.shape.rank is None for spec in entry.specs.values()):
        return
    for length, text in tries(entry.specs):
        shapes = [concrete(spec.shape, length, batch) for spec in entry.specs.values()]
        if all(key in dims for key in entry.specs):
            shapes = [
                concrete(spec.shape[:1].concatenate(dims[key][1:]), length, batch)
                for key, spec in entry.specs.items()
            ]
        yield [
            made_up(spec, shape, text)
            for spec, shape in zip(entry.specs.values(), shapes, strict=True)
        ]


def _eager(entry: Entry, tensors: list[Any]) -> dict[str, Any] | None:
    with _functions_run_eagerly():
        try:
            outputs = named_outputs(entry, entry.function(*tensors))
            return {key: _array(value) for key, value in outputs.items()}
        except Exception:  # noqa: BLE001 - the model may refuse what we made up in any way
            return None


def _array(value: Any) -> Any:
    tensor = tf.convert_to_tensor(value)
    return (tf.cast(tensor, tf.float32) if tensor.dtype == tf.bfloat16 else tensor).numpy()


@contextlib.contextmanager
def _functions_run_eagerly() -> Iterator[None]:
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def _compare(entry: Entry, function: Any, tensors: list[Any], live: Mapping[str, Any]) -> None:
    try:
        graph = {key: _array(value) for key, value in function(*tensors).items()}
    except tf.errors.OpError as exc:
        raise _differs(entry, f"the graph fails ({exc.message.splitlines()[0]})") from exc
    how = difference(live, graph, _tolerance(function))
    if how:
        raise _differs(entry, how)


def _tolerance(function: Any) -> float:
    text = {dtype for op in function.graph.get_operations() for dtype in _types(op)}
    return _LOW_PRECISION if text & {tf.float16, tf.bfloat16} else _TOLERANCE


def _types(operation: Any) -> Iterator[Any]:
    for output in operation.outputs:
        yield output.dtype


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
