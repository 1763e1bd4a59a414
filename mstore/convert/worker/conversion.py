"""From a checkpoint and a builder to a SavedModel: the order of the steps."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mstore.convert.request import Sample, TraceRequest, TraceResult
from mstore.convert.samples import write_samples
from mstore.convert.worker.binding import bind_unreached
from mstore.convert.worker.constants import Constant, Snapshot, constants
from mstore.convert.worker.files_read import FilesRead
from mstore.convert.worker.live import Weight, all_weights
from mstore.convert.worker.loading import (
    call_builder,
    load_builder,
    users_code,
)
from mstore.convert.worker.locating import listed, locate, name_of
from mstore.convert.worker.matching import Bound, Match
from mstore.convert.worker.naming import refuse_contradictions, refuse_unconfirmed
from mstore.convert.worker.preparing import Prepared, prepare
from mstore.convert.worker.reads import Reads
from mstore.convert.worker.rebuilding import unstable_constants
from mstore.convert.worker.rehearsing import rehearse
from mstore.convert.worker.restoring import assign, refresh_derived, restore
from mstore.convert.worker.saving import (
    captured_resources,
    captured_weights,
    is_mutable,
    resource_key,
    save,
    versions,
    weight_key,
)
from mstore.convert.worker.tracing import cautions, trace_entry
from mstore.convert.worker.trained import Trained
from mstore.errors import ProofError

_PARTS = ("", "-keys", "-values")
_SHOWN_UNUSED = 3


@dataclass
class _Conversion:
    """One conversion on its way.

    Attributes:
        request: what was asked.
        trained: the checkpoint.
        prepared: the built model.
        found: where it sits in the checkpoint.
        bindings: which variable is restored from which tensor.
        before: what the variables held before the restore.
        functions: the traced signatures.
        warnings: for the user.
        samples: batches with the live model's outputs.
    """

    request: TraceRequest
    trained: Trained
    prepared: Prepared
    found: Match
    bindings: dict[int, Bound]
    before: Snapshot
    functions: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    samples: dict[str, Sample] = field(default_factory=dict)

    def is_allowed(self, name: str) -> bool:
        return name in self.request.allow_unrestored


def run_trace(body: Mapping[str, Any], stage: Callable[[str], None]) -> dict[str, Any]:
    """Serve one request to convert; see `mstore.convert.trace`."""
    request = TraceRequest.from_json(body)
    trained = Trained(request.checkpoint)
    files = FilesRead([request.checkpoint.parent, request.output])
    stage("building")
    builder = load_builder(request)
    with users_code("building the model", request):
        prepared = prepare(functools.partial(call_builder, builder, request), request)
    stage("restoring")
    reads = Reads()
    work = _restore(prepared, trained, request, reads)
    stage("tracing")
    with reads.watching():
        work.functions = _trace(prepared, request)
    traced = list(work.functions.values())
    weights = captured_weights(prepared.model, traced)
    _require_weights(weights)
    resources = captured_resources(prepared.model, traced)
    _require_sources(work, weights, resources)
    found = constants(traced, prepared.model)
    _refuse_copies(work, found)
    stage("saving")
    # Before the model is called: what is saved depends on nothing that calls leave behind.
    save(request.output, work.functions, weights, resources)
    if not request.dyed:
        stage("checking")
        _rehearse(work)
        _caution(work)
        _refuse_unstable(work, found)
    write_samples(Path(body["samples"]), work.samples)
    result = _result(work, weights, resources)
    return replace(result, code=files.digests(), read=tuple(reads.names)).to_json()


def _restore(
    prepared: Prepared, trained: Trained, request: TraceRequest, reads: Reads
) -> _Conversion:
    found = locate(prepared.model, trained, request.root)
    bindings = bind_unreached(prepared.model, trained, found)
    refuse_contradictions(bindings.values())
    refuse_unconfirmed(bindings.values(), request.allow_unrestored)
    before = Snapshot(all_weights(prepared.model))
    _put(prepared, trained, request, found, bindings, reads)
    before.forget(bound.weight.variable.numpy() for bound in bindings.values())
    return _Conversion(request, trained, prepared, found, bindings, before)


def _put(
    prepared: Prepared,
    trained: Trained,
    request: TraceRequest,
    found: Match,
    bindings: Mapping[int, Bound],
    reads: Reads,
) -> None:
    path = trained.paths[found.node]
    restore(prepared.model, request.checkpoint, path, trained)
    assign(trained, bindings.values())
    with users_code("a layer's finalize_state()", request), reads.watching():
        refresh_derived(prepared.model)


def _trace(prepared: Prepared, request: TraceRequest) -> dict[str, Any]:
    return {entry.name: trace_entry(entry, prepared.model, request) for entry in prepared.entries}


def _require_weights(weights: Sequence[Weight]) -> None:
    if not weights:
        raise ProofError(
            "the signatures use no variables: nothing of a checkpoint would be exported",
            subjects=[],
            hint="return the model with its layers from the builder, not what it computed",
        )


def _require_sources(
    work: _Conversion, weights: Sequence[Weight], resources: Sequence[tuple[str, Any]]
) -> None:
    unbound = {
        weight.name: f"{weight.name} {weight.dtype}{list(weight.shape or ())}"
        for weight in weights
        if weight.key not in work.bindings and not work.is_allowed(weight.name)
    }
    unbound |= {
        path: f"the table {path}"
        for path, table in resources
        if is_mutable(table) and id(table) not in work.found.states and not work.is_allowed(path)
    }
    if not unbound:
        return
    raise ProofError(
        "the checkpoint does not hold these variables that the signatures use:"
        + listed(list(unbound.values())),
        subjects=list(unbound),
        hint="training has to save them: make each layer an attribute of its own, not an entry of "
        "a list or dict; or let them be with --allow-unrestored NAME",
    )


def _refuse_copies(work: _Conversion, found: Iterable[Constant]) -> None:
    copies = [
        (constant, name)
        for constant, name in work.before.copies(found)
        if not work.is_allowed(constant.label)
    ]
    if copies:
        raise ProofError(
            "constants of the graph are old values of variables, from before the restore:"
            + listed([f"{constant} is an old value of {name}" for constant, name in copies]),
            subjects=[constant.label for constant, _ in copies],
            hint="compute it from the variable in the call, or in a method finalize_state() of "
            "the layer, which is called after the restore",
        )


def _rehearse(work: _Conversion) -> None:
    for entry in work.prepared.entries:
        sample, warning = rehearse(entry, work.functions[entry.name], work.prepared.dims)
        if sample is not None:
            work.samples[entry.name] = sample
        if warning:
            work.warnings.append(warning)


def _caution(work: _Conversion) -> None:
    listed_only = [bound for bound in work.bindings.values() if bound.by_optimizer]
    if listed_only:
        work.warnings.append(
            f"{len(listed_only)} variable(s) are in Python lists or dicts, which checkpoints do "
            f"not follow; they are taken from an optimizer's list ({listed_only[0].path} ...)"
        )
    if work.trained.has_averages:
        work.warnings.append(
            "the optimizer keeps moving averages of the weights (use_ema); the weights themselves "
            "are exported, not their averages"
        )
    work.warnings += cautions(work.prepared.entries, work.functions)


def _refuse_unstable(work: _Conversion, found: Sequence[Constant]) -> None:
    def restore_and_trace(other: Prepared) -> list[Any]:
        place = name_of(work.trained, work.found.node)
        match = locate(other.model, work.trained, place)
        bindings = bind_unreached(other.model, work.trained, match)
        _put(other, work.trained, work.request, match, bindings, Reads())
        return list(_trace(other, work.request).values())

    unstable, warning = unstable_constants(
        work.request, work.prepared.model, found, restore_and_trace
    )
    if warning:
        work.warnings.append(warning)
    unstable = [constant for constant in unstable if not work.is_allowed(constant.label)]
    if unstable:
        raise ProofError(
            "constants of the graph depend on initial values or on chance, and are not in the "
            "checkpoint:" + listed([str(constant) for constant in unstable]),
            subjects=[constant.label for constant in unstable],
            hint="make them weights (trainable=False) in training, or compute them from weights in "
            "the call; or let one be with --allow-unrestored NAME",
        )


def _result(
    work: _Conversion, weights: Sequence[Weight], resources: Sequence[tuple[str, Any]]
) -> TraceResult:
    sources: dict[str, str | None] = {}
    names: dict[str, str] = {}
    for index, weight in enumerate(weights):
        bound = work.bindings.get(weight.key)
        sources[weight_key(index)] = None if bound is None else bound.leaf.key
        names[weight_key(index)] = weight.name
    for index, (path, table) in enumerate(resources):
        for key in work.found.states.get(id(table), ()):
            stem = key.rpartition("/")[2]
            for part in _PARTS:
                if work.trained.has(key + part):
                    sources[resource_key(index, stem + part)] = key + part
                    names[resource_key(index, stem + part)] = path
    unused = _unused(work)
    if unused:
        shown = ", ".join(unused[:_SHOWN_UNUSED]) + (", ..." if len(unused) > _SHOWN_UNUSED else "")
        work.warnings.append(
            f"{len(unused)} variable(s) of the checkpoint are not the model's: {shown}"
        )
    return TraceResult(
        sources={
            key.encode(): None if value is None else value.encode()
            for key, value in sources.items()
        },
        names={key.encode(): name for key, name in names.items()},
        root=name_of(work.trained, work.found.node),
        environment=versions(),
        dims=work.prepared.dims,
        warnings=tuple(work.warnings),
        unused=tuple(key.encode() for key in unused),
    )


def _unused(work: _Conversion) -> list[str]:
    """Return the tensors of no optimizer that the model does not have."""
    known = {bound.leaf.key for bound in work.bindings.values()}
    return [key for key in work.trained.weights_of_no_optimizer() if key not in known]
