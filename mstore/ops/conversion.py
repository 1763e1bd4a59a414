"""From a stored checkpoint to a SavedModel that has passed every check, in a working directory."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mstore import disk
from mstore.catalog.checkpoints import CheckpointRow
from mstore.convert.builders import BuilderInfo, describe
from mstore.convert.check import check
from mstore.convert.dyeing import Traced
from mstore.convert.examples import Example
from mstore.convert.fingerprint import make_reproducible
from mstore.convert.meta_graph import trace_meta_graph
from mstore.convert.meta_request import MetaGraphRequest, is_tensor
from mstore.convert.proof import prove
from mstore.convert.request import SELF_DESCRIBING, TraceRequest, TraceResult
from mstore.convert.restore_plan import refuse_unrestored
from mstore.convert.trace import trace
from mstore.domain.records import FileRecord
from mstore.domain.signatures import Signature
from mstore.errors import InputError
from mstore.formats.layout import known_format
from mstore.formats.saved_model import read_saved_model
from mstore.objects.manifest import Manifest
from mstore.ops.checkout import write_checkpoint
from mstore.ops.context import Context
from mstore.ops.golden import golden_example, parity, place_warmup, warmup
from mstore.ops.hashing import file_sha256
from mstore.ops.learning import learn
from mstore.ops.lint import ensure_servable
from mstore.ops.made import Directory, ExportOptions, Made
from mstore.ops.programs import LINKABLE, Learned
from mstore.ops.query import place
from mstore.ops.stored import StoredTensors


def convert(context: Context, row: CheckpointRow, options: ExportOptions, work: Path) -> Made:
    """Make the SavedModel of a checkpoint in ``work``, prove it and run it.

    Raises:
        InputError: nothing says how the model is made.
        BuilderError: the builder failed.
        ProofError: a variable is not a tensor of the checkpoint.
        LintError: TensorFlow Serving could not serve the result.
        LoadCheckError: TensorFlow's C++ loader cannot load or run the result.
        WorkerError: the conversion process died or took too long.
    """
    manifest = context.manifest(row.manifest)
    if manifest.architecture == "saved-model":
        return _adopt(context, row, manifest, options, work)
    spec = options.builder or row.checkpoint.builder
    tensors = options.outputs or any(isinstance(value, str) for value in options.inputs.values())
    if manifest.architecture == "meta-graph" and options.builder is None and (tensors or not spec):
        return _cut(context, row, manifest, options, work)
    if tensors:
        raise InputError(
            "tensors of a graph are named, and this export is not made from one",
            hint="name them for a checkpoint with a .meta, without --builder",
        )
    if spec is None and manifest.architecture != "keras":
        name = f"{row.checkpoint.model}/{row.checkpoint.run}@{row.checkpoint.step}"
        raise InputError(
            f"exporting {name} needs the model's architecture, and no builder is recorded",
            hint=f"give one: mstore export {name} --builder FILE.py:FUNCTION",
        )
    named = row.checkpoint.format not in SELF_DESCRIBING
    info = None if spec is None else describe(spec, options.search_path, named=named)
    return _trace(context, row, manifest, info, options, work)


def _trace(
    context: Context,
    row: CheckpointRow,
    manifest: Manifest,
    info: BuilderInfo | None,
    options: ExportOptions,
    work: Path,
) -> Made:
    target = work / "saved_model"
    request = TraceRequest(
        checkpoint=_materialize(context, row, manifest, work / "checkpoint"),
        output=target,
        format=known_format(row.checkpoint.format),
        trust=options.trust,
        builder=info.spec if info else None,
        builder_args=options.builder_args,
        inputs={k: spec for k, spec in options.inputs.items() if not isinstance(spec, str)},
        root=options.root,
        allow_unrestored=options.allow_unrestored,
        search_path=options.search_path,
        weights=options.weights,
    )
    context.progress.start("tracing the model", None)
    try:
        result = trace(request, timeout=options.timeout)
        make_reproducible(target)
        # Held against the store, not against files that the builder could reach.
        with StoredTensors(context, manifest) as trained:
            proven = prove(
                trained,
                target,
                result.sources,
                names=result.names,
                allow_unrestored=options.allow_unrestored,
            )
        # Before the C++ loader, which fails as well and does not say what to do.
        signatures = read_saved_model(target).signatures
        example = _place_example(context, row, options, target, signatures)
        warnings = (*result.warnings, *ensure_servable(target, options.allow_lint))
        outputs = check(
            target,
            signatures,
            dims=result.dims,
            samples=result.samples,
            example=example,
            timeout=options.timeout,
        )
        outcome, figures = parity(example, outputs, options)
    finally:
        context.progress.finish()
    made = Made(
        "trace",
        Directory(target),
        proven,
        signatures,
        _records(target),
        builder=_builder_record(info) if info else {},
        parameters=options.parameters,
        root=result.root,
        environment=result.environment,
        warnings=warnings,
        checks={"weights": "proven", "load": "passed", "parity": outcome},
        parity=figures,
    )
    if not options.learn or row.checkpoint.format != LINKABLE:
        return made
    return replace(
        made, learned=_learn(context, row, manifest, request, result, made, options, work)
    )


def _learn(
    context: Context,
    row: CheckpointRow,
    manifest: Manifest,
    request: TraceRequest,
    result: TraceResult,
    made: Made,
    options: ExportOptions,
    work: Path,
) -> Learned | None:
    context.progress.start("learning the program", None)
    try:
        with StoredTensors(context, manifest) as trained:
            return learn(
                context,
                Traced(request, result, trained),
                work / "dyed",
                program=made.program,
                model=row.checkpoint.model,
                checkpoint=row.checkpoint.id,
                signatures=made.signatures,
                builder=made.builder,
                parameters=made.parameters,
                timeout=options.timeout,
            )
    finally:
        context.progress.finish()


def _builder_record(info: BuilderInfo) -> dict[str, object]:
    return {
        "spec": info.spec,
        "source_sha256": info.source_sha256,
        "git_commit": info.git_commit,
        "git_dirty": info.git_dirty,
    }


def _cut(
    context: Context, row: CheckpointRow, manifest: Manifest, options: ExportOptions, work: Path
) -> Made:
    """Cut the signatures out of the graph in the checkpoint's ``.meta``."""
    target = work / "saved_model"
    described = [key for key, value in options.inputs.items() if not isinstance(value, str)]
    if described:
        raise InputError(
            f"the graph in the .meta has dtype and shape of the input {described[0]!r} itself",
            hint=f"name its tensor: --input {described[0]}=OP:0",
        )
    given = {key: str(value) for key, value in options.inputs.items()}
    request = MetaGraphRequest(
        checkpoint=_materialize(context, row, manifest, work / "checkpoint"),
        output=target,
        inputs={key: tensor for key, tensor in given.items() if not is_tensor(key)},
        outputs=options.outputs,
        constants={tensor: value for tensor, value in given.items() if is_tensor(tensor)},
        search_path=options.search_path,
    )
    context.progress.start("cutting out the model", None)
    try:
        result = trace_meta_graph(request, timeout=options.timeout)
        make_reproducible(target)
        with StoredTensors(context, manifest) as trained:
            proven = prove(trained, target, result.sources, names=result.names, traced=False)
        refuse_unrestored(target)
        signatures = read_saved_model(target).signatures
        example = _place_example(context, row, options, target, signatures)
        warnings = (*result.warnings, *ensure_servable(target, options.allow_lint))
        outputs = check(
            target,
            signatures,
            dims=result.dims,
            samples=result.samples,
            example=example,
            timeout=options.timeout,
        )
        outcome, figures = parity(example, outputs, options)
    finally:
        context.progress.finish()
    return Made(
        "trace",
        Directory(target),
        proven,
        signatures,
        _records(target),
        parameters=options.parameters,
        root=result.root,
        environment=result.environment,
        warnings=warnings,
        checks={"weights": "proven", "load": "passed", "parity": outcome},
        parity=figures,
    )


def _materialize(context: Context, row: CheckpointRow, manifest: Manifest, directory: Path) -> Path:
    """Write the checkpoint's files out and return the path that names it."""
    staged = directory / "staged"
    for folder in (directory, staged):
        disk.step("mkdir", folder)
        folder.mkdir()
    write_checkpoint(context, row, manifest, staged, directory)
    return place(directory, row.checkpoint, manifest)


def _adopt(
    context: Context, row: CheckpointRow, manifest: Manifest, options: ExportOptions, work: Path
) -> Made:
    """Take a SavedModel as it is: its variables are the checkpoint's tensors."""
    if options.builder is not None:
        raise InputError(
            "a SavedModel carries its own graph, so a builder has nothing to do",
            hint="leave out --builder, or add the checkpoint that it was made from",
        )
    target = _materialize(context, row, manifest, work / "checkpoint")
    info = read_saved_model(target)
    with StoredTensors(context, manifest) as trained:
        sources = {tensor.key: tensor.key for tensor in trained.table.values}
        proven = prove(trained, target, sources, names=info.variable_names, traced=False)
    example = _place_example(context, row, options, target, info.signatures)
    warnings = ensure_servable(target, options.allow_lint)
    context.progress.start("running the model", None)
    try:
        outputs = check(target, info.signatures, example=example, timeout=options.timeout)
        outcome, figures = parity(example, outputs, options)
    finally:
        context.progress.finish()
    environment = {"tensorflow": info.tensorflow_version} if info.tensorflow_version else {}
    return Made(
        "link",
        Directory(target),
        proven,
        info.signatures,
        _records(target),
        parameters=options.parameters,
        environment=environment,
        warnings=warnings,
        checks={"weights": "proven", "load": "passed", "parity": outcome},
        parity=figures,
    )


def _place_example(
    context: Context,
    row: CheckpointRow,
    options: ExportOptions,
    target: Path,
    signatures: Mapping[str, Signature],
) -> Example | None:
    """Return the golden example, if there is one, and write it as warmup request."""
    example = golden_example(context, row, options, signatures)
    if example is not None and options.warmup:
        data = warmup(row.checkpoint.model, example, signatures)
        if data is not None:
            place_warmup(target, data)
    return example


def _records(path: Path) -> tuple[FileRecord, ...]:
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return tuple(
        FileRecord(str(file.relative_to(path)), file.stat().st_size, file_sha256(file))
        for file in files
    )
