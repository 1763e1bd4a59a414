"""Export: turn a checkpoint into a numbered version that is proven to hold its weights."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import sqlalchemy as sa

from mstore import disk
from mstore.catalog import checkpoints as queries
from mstore.catalog import objects as object_queries
from mstore.catalog import versions as ledger
from mstore.catalog.checkpoints import CheckpointRow
from mstore.catalog.engine import writing
from mstore.catalog.versions import VersionRow
from mstore.convert.builders import BuilderInfo, describe
from mstore.convert.check import check
from mstore.convert.fingerprint import make_reproducible
from mstore.convert.proof import ProvenVariable, prove
from mstore.convert.request import TraceRequest, TraceResult
from mstore.convert.trace import trace
from mstore.domain.records import Event, FileRecord, Version
from mstore.domain.signatures import Signature, TensorSpec
from mstore.errors import Error, InputError
from mstore.formats.saved_model import read_saved_model
from mstore.objects.manifest import Manifest, canonical
from mstore.objects.packs import MANIFEST, RECORD, PackWriter, object_id
from mstore.ops.checkout import write_checkpoint
from mstore.ops.context import Context, now, whoami
from mstore.ops.hashing import STATEMENT_PATH, file_sha256, version_digest
from mstore.ops.promote import promote_row
from mstore.ops.query import find_checkpoint, prefix_name
from mstore.ops.statement import make_statement
from mstore.ops.store_version import store_files
from mstore.serving.publish import numbers


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
        weights: ``raw`` or ``ema``, where an optimizer keeps moving averages; None asks.
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
    weights: str | None = None


def export(context: Context, reference: str, options: ExportOptions) -> Version:
    """Export the checkpoint that a reference names, by running a builder.

    Raises:
        InputError: there is no builder, or it cannot be found.
        BuilderError: the builder failed.
        ProofError: a variable is not a tensor of the checkpoint.
        LoadCheckError: TensorFlow's C++ loader cannot load or run the result.
        WorkerError: the conversion process died or took too long.
        ConflictError: the base path has no number left.
    """
    row = find_checkpoint(context, reference)
    spec = options.builder or row.checkpoint.builder
    if spec is None:
        raise InputError(
            f"exporting {reference} needs the model's architecture, and no builder is recorded",
            hint=f"give one: mstore export {reference} --builder FILE.py:FUNCTION",
        )
    if options.to is not None and options.to.exists() and not options.to.is_dir():
        raise InputError(f"{options.to} is not a directory", hint="name the base path")
    info = describe(spec, options.search_path)
    disk.sweep(context.tmp)
    with (
        disk.os_errors(f"exporting {reference} failed"),
        disk.work_directory(context.tmp) as work,
    ):
        made = _convert(context, row, info, options, work)
        version_row = _Commit(context, row, made, options).run(work)
    version = version_row.version
    return version if options.to is None else _publish(context, version_row, options)


@dataclass(frozen=True, slots=True)
class _Made:
    """A SavedModel that has passed every check, still in its working directory."""

    path: Path
    builder: BuilderInfo
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
        return {
            "spec": info.spec,
            "source_sha256": info.source_sha256,
            "git_commit": info.git_commit,
            "git_dirty": info.git_dirty,
        }


def _convert(
    context: Context, row: CheckpointRow, info: BuilderInfo, options: ExportOptions, work: Path
) -> _Made:
    source, target = work / "checkpoint", work / "saved_model"
    for directory in (source, source / "staged"):
        disk.step("mkdir", directory)
        directory.mkdir()
    manifest = context.manifest(row.manifest)
    write_checkpoint(context, row, manifest, source / "staged", source)
    prefix = source / prefix_name(row.checkpoint)
    request = TraceRequest(
        checkpoint=prefix,
        output=target,
        builder=info.spec,
        builder_args=options.builder_args,
        inputs=options.inputs,
        root=options.root,
        allow_unrestored=options.allow_unrestored,
        search_path=options.search_path,
        weights=options.weights,
    )
    context.progress.start("tracing the model", None)
    try:
        result = trace(request, timeout=options.timeout)
        make_reproducible(target)
        proven = prove(
            prefix,
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
    return _Made(target, info, result, proven, signatures, _records(target))


def _records(path: Path) -> tuple[FileRecord, ...]:
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return tuple(
        FileRecord(str(file.relative_to(path)), file.stat().st_size, file_sha256(file))
        for file in files
    )


@dataclass(frozen=True)
class _Commit:
    """Put a checked SavedModel into the store and give it a number."""

    context: Context
    row: CheckpointRow
    made: _Made
    options: ExportOptions

    def run(self, work: Path) -> VersionRow:
        checkpoint_manifest = self.context.manifest(self.row.manifest)
        statement = self._write_statement()
        writer = PackWriter(work)
        try:
            manifest = store_files(
                self.context, writer, self.made.path, self.made.proven, checkpoint_manifest
            )
            key = writer.add(MANIFEST, manifest.to_bytes()).id
            draft = self._draft(manifest, (*self.made.files, statement))
            with writing(self.context.engine) as connection:
                return self._insert(connection, writer, key, draft)
        finally:
            writer.close()

    def _write_statement(self) -> FileRecord:
        made = self.made
        data = make_statement(
            self.row.checkpoint,
            made.files,
            program=made.program,
            digest=version_digest(made.files),
            builder=made.builder_record,
            parameters={
                "builder_args": dict(self.options.builder_args),
                "inputs": {key: spec.to_json() for key, spec in self.options.inputs.items()},
                "root": made.result.root,
                "allow_unrestored": list(self.options.allow_unrestored),
                "weights": self.options.weights,
            },
            environment=made.result.environment,
        )
        path = made.path / STATEMENT_PATH
        path.parent.mkdir(exist_ok=True)
        output = disk.NewFile(path)
        output.write(data)
        output.close()
        return FileRecord(STATEMENT_PATH, len(data), hashlib.sha256(data).hexdigest())

    def _draft(self, manifest: Manifest, files: tuple[FileRecord, ...]) -> Version:
        made, checkpoint = self.made, self.row.checkpoint
        ordered = tuple(sorted(files, key=lambda file: file.path))
        assert [f.path for f in manifest.files] == [f.path for f in ordered]  # noqa: S101
        return Version(
            model=checkpoint.model,
            version=0,
            checkpoint=checkpoint.id,
            run=checkpoint.run,
            step=checkpoint.step,
            program=made.program,
            method="trace",
            signatures=made.signatures,
            tensors=len(made.proven),
            bytes=sum(file.size for file in files),
            digest=version_digest(files),
            aliases=(),
            checks={"weights": "proven", "load": "passed", "parity": "skipped"},
            created_at=now(),
            files=ordered,
            builder=made.builder_record,
            environment=made.result.environment,
            warnings=made.result.warnings,
        )

    def _insert(
        self, connection: sa.Connection, writer: PackWriter, manifest: bytes, draft: Version
    ) -> VersionRow:
        """Number the version; the pack is named inside the transaction that makes it visible.

        The number stands in the record, so the pack is sealed here: the lock is held for one flush
        of a small file, and a process that dies uses up no number.
        """
        number = ledger.allocate(connection, draft.model, self._floor())
        version = replace(draft, version=number)
        parent = queries.head(connection, draft.model)
        record = writer.add(RECORD, self._record(version, manifest, parent)).id
        name = writer.seal()
        writer.publish(self.context.packs)
        entries = writer.entries.values()
        object_queries.add_pack(connection, name, writer.size, entries, version.created_at)
        seq = ledger.insert_version(
            connection, version, checkpoint=self.row.seq, manifest=manifest, record=record
        )
        event = Event(
            id=record.hex(),
            event="exported",
            model=version.model,
            at=version.created_at,
            by=whoami(),
            checkpoint=version.checkpoint,
            run=version.run,
            step=version.step,
            version=number,
            path=None,
            message=self.options.message,
        )
        ledger.insert_event(connection, event, checkpoint=self.row.seq, version=seq)
        return VersionRow(seq, self.row.seq, manifest, record, version)

    def _floor(self) -> int:
        """Return the least number that is free in the base path."""
        if self.options.to is None:
            return 1
        return max(max(numbers(self.options.to), default=0) + 1, 1)

    def _record(self, version: Version, manifest: bytes, parent: str | None) -> bytes:
        sources = {
            variable.key.hex(): variable.source_key.hex() if variable.source_key else None
            for variable in self.made.proven
        }
        return canonical(
            {
                "type": "mstore/version/1",
                "version": version.to_json(),
                "manifest": manifest.hex(),
                "sources": sources,
                "by": whoami(),
                "parent": parent,
                "message": self.options.message,
            }
        )


def _publish(context: Context, row: VersionRow, options: ExportOptions) -> Version:
    assert options.to is not None  # noqa: S101 - the caller looked
    version = row.version
    try:
        deployment = promote_row(context, row, options.to, message=options.message)
    except Error as error:
        name = f"{version.model}:{version.version}"
        error.hint = f"{error.hint}; the version is safe in the store: mstore promote {name} DIR"
        raise
    return version.at(deployment.path)
