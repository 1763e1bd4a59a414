"""From a stored checkpoint to a SavedModel that has passed every check, in a working directory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mstore import disk
from mstore.catalog.checkpoints import CheckpointRow
from mstore.convert.builders import BuilderInfo, describe
from mstore.convert.check import check
from mstore.convert.fingerprint import make_reproducible
from mstore.convert.proof import ProvenVariable, prove
from mstore.convert.request import TraceRequest, TraceResult
from mstore.convert.trace import trace
from mstore.domain.records import FileRecord
from mstore.domain.signatures import Signature, TensorSpec
from mstore.errors import InputError
from mstore.formats.saved_model import read_saved_model
from mstore.objects.manifest import Manifest, canonical
from mstore.objects.packs import object_id
from mstore.ops.checkout import write_checkpoint
from mstore.ops.context import Context
from mstore.ops.hashing import file_sha256
from mstore.ops.query import prefix_name
from mstore.ops.stored import StoredTensors


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How to export.

    Attributes:
        builder: ``FILE.py:NAME`` or ``package.module:NAME``; None takes the recorded one.
        builder_args: keyword arguments for it.
        inputs: dtype and shape by input key, where the model does not say.
        root: where the model is in the checkpoint; None finds it.
        to: base path to publish in as well, or None.
        allow_unrestored: variables that need not come from the checkpoint.
        timeout: seconds for each of the two processes, or None for no limit.
        message: why, for the ledger.
        search_path: directory for relative builder files and builder modules.
    """

    builder: str | None = None
    builder_args: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, TensorSpec] = field(default_factory=dict)
    root: str | None = None
    to: Path | None = None
    allow_unrestored: tuple[str, ...] = ()
    timeout: float | None = None
    message: str | None = None
    search_path: Path = Path()


@dataclass(frozen=True, slots=True)
class Made:
    """A SavedModel that has passed every check, still in its working directory.

    Attributes:
        path: its directory.
        method: ``trace``, or ``link`` where no program was run.
        builder: what was run to make it, or None.
        result: what the conversion said.
        proven: its variables and the checkpoint's tensors they equal.
        signatures: its entry points.
        files: its files.
    """

    path: Path
    method: Literal["trace", "link"]
    builder: BuilderInfo | None
    result: TraceResult
    proven: Sequence[ProvenVariable]
    signatures: Mapping[str, Signature]
    files: tuple[FileRecord, ...]

    @property
    def program(self) -> str:
        """Id of the graph and of the map from its variables to checkpoint tensors."""
        graph = [[f.path, f.sha256] for f in self.files if not f.path.startswith("variables/")]
        graph = [entry for entry in graph if entry[0] != "fingerprint.pb"]
        sources = {
            variable.key.hex(): variable.source_key.hex() if variable.source_key else None
            for variable in self.proven
        }
        return object_id(canonical({"graph": graph, "sources": sources})).hex()

    @property
    def builder_record(self) -> dict[str, object]:
        """What is recorded of the builder."""
        info = self.builder
        if info is None:
            return {}
        return {
            "spec": info.spec,
            "source_sha256": info.source_sha256,
            "git_commit": info.git_commit,
            "git_dirty": info.git_dirty,
        }


def convert(context: Context, row: CheckpointRow, options: ExportOptions, work: Path) -> Made:
    """Make the SavedModel of a checkpoint in ``work``, prove it and run it.

    Raises:
        InputError: nothing says how the model is made.
        BuilderError: the builder failed.
        ProofError: a variable is not a tensor of the checkpoint.
        LoadCheckError: TensorFlow's C++ loader cannot load or run the result.
        WorkerError: the conversion process died or took too long.
    """
    manifest = context.manifest(row.manifest)
    if manifest.architecture == "saved-model":
        return _adopt(context, row, manifest, options, work)
    spec = options.builder or row.checkpoint.builder
    if spec is None:
        name = f"{row.checkpoint.model}/{row.checkpoint.run}@{row.checkpoint.step}"
        raise InputError(
            f"exporting {name} needs the model's architecture, and no builder is recorded",
            hint=f"give one: mstore export {name} --builder FILE.py:FUNCTION",
        )
    return _trace(context, row, manifest, describe(spec, options.search_path), options, work)


def _trace(
    context: Context,
    row: CheckpointRow,
    manifest: Manifest,
    info: BuilderInfo,
    options: ExportOptions,
    work: Path,
) -> Made:
    target = work / "saved_model"
    request = TraceRequest(
        checkpoint=_materialize(context, row, manifest, work / "checkpoint"),
        output=target,
        builder=info.spec,
        builder_args=options.builder_args,
        inputs=options.inputs,
        root=options.root,
        allow_unrestored=options.allow_unrestored,
        search_path=options.search_path,
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
        signatures = read_saved_model(target).signatures
        check(
            target,
            signatures,
            dims=result.dims,
            samples=result.samples,
            timeout=options.timeout,
        )
    finally:
        context.progress.finish()
    return Made(target, "trace", info, result, proven, signatures, _records(target))


def _materialize(context: Context, row: CheckpointRow, manifest: Manifest, directory: Path) -> Path:
    """Write the checkpoint's files out and return the path that names it."""
    staged = directory / "staged"
    for folder in (directory, staged):
        disk.step("mkdir", folder)
        folder.mkdir()
    write_checkpoint(context, row, manifest, staged, directory)
    prefix = directory / prefix_name(row.checkpoint, manifest)
    files = manifest.originals
    return Path(f"{prefix}{files[0].path}") if len(files) == 1 else prefix


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
    context.progress.start("running the model", None)
    try:
        check(target, info.signatures, timeout=options.timeout)
    finally:
        context.progress.finish()
    environment = {"tensorflow": info.tensorflow_version} if info.tensorflow_version else {}
    result = TraceResult(dict(sources), environment=environment)
    return Made(target, "link", None, result, proven, info.signatures, _records(target))


def _records(path: Path) -> tuple[FileRecord, ...]:
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return tuple(
        FileRecord(str(file.relative_to(path)), file.stat().st_size, file_sha256(file))
        for file in files
    )
