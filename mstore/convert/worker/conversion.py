"""From a checkpoint and an architecture to a SavedModel: the order of the steps."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mstore.convert.request import KERAS_FORMATS, Sample, TraceRequest, TraceResult
from mstore.convert.samples import write_samples
from mstore.convert.worker.constants import Constant, constants
from mstore.convert.worker.files_read import FilesRead
from mstore.convert.worker.live import Weight
from mstore.convert.worker.locating import listed
from mstore.convert.worker.named_checkpoint import NamedCheckpoint
from mstore.convert.worker.object_checkpoint import ObjectCheckpoint
from mstore.convert.worker.preparing import Prepared
from mstore.convert.worker.reads import Reads
from mstore.convert.worker.rebuilding import unstable_constants
from mstore.convert.worker.rehearsing import rehearse
from mstore.convert.worker.saving import (
    captured_resources,
    captured_weights,
    is_mutable,
    resource_key,
    save,
    versions,
    weight_key,
)
from mstore.convert.worker.sources import Restored, Source
from mstore.convert.worker.tracing import cautions, trace_entry
from mstore.convert.worker.trained import has_object_graph, open_reader
from mstore.errors import ProofError

_SHOWN_UNUSED = 3


@dataclass
class _Conversion:
    """One conversion on its way.

    Attributes:
        request: what was asked.
        source: makes and restores the model.
        prepared: the built model.
        restored: what it was restored from.
        functions: the traced signatures.
        warnings: for the user.
        samples: batches with the live model's outputs.
    """

    request: TraceRequest
    source: Source
    prepared: Prepared
    restored: Restored
    functions: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    samples: dict[str, Sample] = field(default_factory=dict)

    def is_allowed(self, name: str) -> bool:
        return name in self.request.allow_unrestored


def run_trace(body: Mapping[str, Any], stage: Callable[[str], None]) -> dict[str, Any]:
    """Serve one request to convert; see `mstore.convert.trace`."""
    request = TraceRequest.from_json(body)
    scratch, reads = Path(body["scratch"]), Reads()
    files = FilesRead([request.checkpoint.parent, request.output, scratch])
    source = _source(request, scratch, reads)
    stage("building")
    prepared = source.build()
    stage("restoring")
    work = _Conversion(request, source, prepared, source.restore(prepared))
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
        work.warnings += work.restored.warnings
        work.warnings += cautions(prepared.entries, work.functions)
        _refuse_unstable(work, found)
    write_samples(Path(body["samples"]), work.samples)
    result = _result(work, weights, resources)
    return replace(result, code=files.digests(), read=tuple(reads.names)).to_json()


def _source(request: TraceRequest, scratch: Path, reads: Reads) -> Source:
    if request.format in KERAS_FORMATS:
        from mstore.convert.worker.keras_file import KerasFile  # noqa: PLC0415 - needs h5py

        return KerasFile(request, scratch)
    if not has_object_graph(open_reader(request.checkpoint)):
        return NamedCheckpoint(request, reads)
    return ObjectCheckpoint(request, reads)


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
    restored = work.restored
    unbound = {
        weight.name: f"{weight.name} {weight.dtype}{list(weight.shape or ())}"
        + restored.faults.get(weight.key, "")
        for weight in weights
        if weight.key not in restored.sources and not work.is_allowed(weight.name)
    }
    unbound |= {
        path: f"the table {path}"
        for path, table in resources
        if is_mutable(table) and id(table) not in restored.tables and not work.is_allowed(path)
    }
    if not unbound:
        return
    raise ProofError(
        "the checkpoint does not hold these variables that the signatures use:"
        + listed(list(unbound.values())),
        subjects=list(unbound),
        hint=work.source.hint,
    )


def _refuse_copies(work: _Conversion, found: Iterable[Constant]) -> None:
    copies = [
        (constant, name)
        for constant, name in work.restored.before.copies(found)
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
    # The calls may have changed state (a stateful RNN does): the checkpoint's values again.
    work.source.put_back()


def _refuse_unstable(work: _Conversion, found: Sequence[Constant]) -> None:
    def restore_and_trace(other: Prepared) -> list[Any]:
        work.source.restore_again(other)
        return list(_trace(other, work.request).values())

    unstable, warning = unstable_constants(
        work.source.build_again, work.prepared.model, found, restore_and_trace
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
    restored = work.restored
    sources: dict[str, str | None] = {}
    names: dict[str, str] = {}
    for index, weight in enumerate(weights):
        sources[weight_key(index)] = restored.sources.get(weight.key)
        names[weight_key(index)] = weight.name
    for index, (path, table) in enumerate(resources):
        for part, key in restored.tables.get(id(table), {}).items():
            sources[resource_key(index, part)] = key
            names[resource_key(index, part)] = path
    unused = restored.unused
    if unused:
        shown = ", ".join(unused[:_SHOWN_UNUSED]) + (", ..." if len(unused) > _SHOWN_UNUSED else "")
        work.warnings.append(
            f"{len(unused)} variable(s) of the checkpoint are not the model's: {shown}"
        )
    return TraceResult(
        sources={
            _key(key): None if value is None else _key(value) for key, value in sources.items()
        },
        names={_key(key): name for key, name in names.items()},
        root=restored.root,
        environment={**versions(), **work.source.environment()},
        dims=work.prepared.dims,
        warnings=tuple(work.warnings),
        unused=tuple(_key(key) for key in unused),
    )


def _key(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
