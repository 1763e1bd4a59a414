"""From a checkpoint and a builder to a SavedModel: the order of the steps."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from mstore.convert.request import TraceRequest, TraceResult
from mstore.convert.worker.binding import bind_unreached
from mstore.convert.worker.loading import call_builder, load_builder
from mstore.convert.worker.locating import listed, locate, name_of
from mstore.convert.worker.matching import Bound
from mstore.convert.worker.naming import refuse_contradictions
from mstore.convert.worker.preparing import Prepared, prepare
from mstore.convert.worker.restoring import refresh_derived, restore
from mstore.convert.worker.saving import captured_resources, captured_weights, save, versions
from mstore.convert.worker.tracing import trace_entry
from mstore.convert.worker.trained import Trained
from mstore.errors import ProofError


def run_trace(body: Mapping[str, Any], stage: Callable[[str], None]) -> dict[str, Any]:
    """Serve one request to convert; see `mstore.convert.trace`."""
    request = TraceRequest.from_json(body)
    trained = Trained(request.checkpoint)
    stage("building")
    builder = load_builder(request)
    prepared = prepare(functools.partial(call_builder, builder, request), request)
    stage("restoring")
    bindings, root = _restore(prepared, trained, request)
    stage("tracing")
    functions = {entry.name: trace_entry(entry, request) for entry in prepared.entries}
    weights = captured_weights(prepared.model, list(functions.values()))
    _require_bound([w for w in weights if w.key not in bindings], request)
    resources = captured_resources(prepared.model, list(functions.values()))
    stage("saving")
    saved = save(request.output, functions, weights, resources)
    sources = {
        key.encode(): bindings[weight.key].leaf.key.encode() if weight.key in bindings else None
        for key, weight in saved.items()
    }
    result = TraceResult(
        sources=sources,
        names={key.encode(): weight.name for key, weight in saved.items()},
        root=name_of(trained, root),
        environment=versions(),
        dims=prepared.dims,
    )
    return result.to_json()


def _restore(
    prepared: Prepared, trained: Trained, request: TraceRequest
) -> tuple[dict[int, Bound], int]:
    found = locate(prepared.model, trained, request.root)
    bindings = bind_unreached(prepared.model, trained, found)
    refuse_contradictions(bindings.values())
    path = trained.paths[found.node]
    restore(prepared.model, request.checkpoint, path, trained, bindings.values())
    refresh_derived(prepared.model)
    return bindings, found.node


def _require_bound(unbound: list[Any], request: TraceRequest) -> None:
    unbound = [weight for weight in unbound if weight.name not in request.allow_unrestored]
    if not unbound:
        return
    raise ProofError(
        "the checkpoint does not hold these variables that the signatures use:"
        + listed([f"{w.name} {w.dtype}{list(w.shape or ())}" for w in unbound]),
        subjects=[weight.name for weight in unbound],
        hint="training has to save them: make each layer an attribute of its own, not an entry of "
        "a list or dict; or let them be with --allow-unrestored NAME",
    )
