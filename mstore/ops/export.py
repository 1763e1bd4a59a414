"""Export: turn a checkpoint into a numbered version that is proven to hold its weights."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa

from mstore import disk
from mstore.catalog import checkpoints as queries
from mstore.catalog import objects as object_queries
from mstore.catalog import versions as ledger
from mstore.catalog.checkpoints import CheckpointRow
from mstore.catalog.engine import writing
from mstore.catalog.versions import VersionRow
from mstore.domain.records import Event, FileRecord, Version
from mstore.errors import Error, InputError
from mstore.objects.manifest import Manifest, canonical
from mstore.objects.packs import MANIFEST, RECORD, PackWriter
from mstore.ops.context import Context, now, whoami
from mstore.ops.conversion import ExportOptions, Made, convert
from mstore.ops.hashing import STATEMENT_PATH, version_digest
from mstore.ops.promote import promote_row
from mstore.ops.query import find_checkpoint
from mstore.ops.statement import make_statement
from mstore.ops.store_version import store_files
from mstore.serving.publish import numbers


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
    if options.to is not None and options.to.exists() and not options.to.is_dir():
        raise InputError(f"{options.to} is not a directory", hint="name the base path")
    disk.sweep(context.tmp)
    with (
        disk.os_errors(f"exporting {reference} failed"),
        disk.work_directory(context.tmp) as work,
    ):
        made = convert(context, row, options, work)
        version_row = _Commit(context, row, made, options).run(work)
    version = version_row.version
    return version if options.to is None else _publish(context, version_row, options)


@dataclass(frozen=True)
class _Commit:
    """Put a checked SavedModel into the store and give it a number."""

    context: Context
    row: CheckpointRow
    made: Made
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
            method=made.method,
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
