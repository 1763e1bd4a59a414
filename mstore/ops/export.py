"""Export: turn a checkpoint into a numbered version that is proven to hold its weights."""

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import sqlalchemy as sa

from mstore import disk
from mstore.catalog import checkpoints as queries
from mstore.catalog import liveness
from mstore.catalog import objects as object_queries
from mstore.catalog import versions as ledger
from mstore.catalog.checkpoints import CheckpointRow
from mstore.catalog.engine import reading, writing
from mstore.catalog.versions import VersionRow
from mstore.domain.canonical import canonical
from mstore.domain.places import base_of
from mstore.domain.records import Event, FileRecord, Version
from mstore.errors import Error, InputError
from mstore.objects.manifest import Manifest
from mstore.objects.packs import MANIFEST, RECORD, PackWriter
from mstore.ops.context import Context, now, whoami
from mstore.ops.deploying import find_site
from mstore.ops.hashing import STATEMENT_PATH, version_digest
from mstore.ops.linking import Linked
from mstore.ops.made import ExportOptions, Made
from mstore.ops.programs import record_program
from mstore.ops.promote import PromoteOptions, promote_row
from mstore.ops.query import find_checkpoint
from mstore.ops.reliance import ensure_there
from mstore.ops.relinking import link_checkpoint
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
    to = None if options.to is None else base_of(options.to)
    if isinstance(to, Path) and to.exists() and not to.is_dir():
        raise InputError(f"{options.to} is not a directory", hint="name the base path")
    disk.sweep(context.tmp)
    with (
        disk.os_errors(f"exporting {reference} failed"),
        disk.work_directory(context.tmp) as work,
    ):
        made = link_checkpoint(context, row, options, work) or _convert(context, row, options, work)
        version_row = _Commit(context, row, made, options).run(work)
    version = version_row.version
    return version if options.to is None else _publish(context, version_row, options)


def _convert(context: Context, row: CheckpointRow, options: ExportOptions, work: Path) -> Made:
    # What converts brings numpy along, which a linked export does without.
    from mstore.ops.conversion import convert  # noqa: PLC0415

    return convert(context, row, options, work)


@dataclass(frozen=True)
class _Commit:
    """Put a checked SavedModel into the store and give it a number."""

    context: Context
    row: CheckpointRow
    made: Made
    options: ExportOptions

    def run(self, work: Path) -> VersionRow:
        statement = self._statement()
        writer = PackWriter(work)
        try:
            manifest = self._store(writer, statement)
            key = writer.add(MANIFEST, manifest.to_bytes()).id
            record = FileRecord(STATEMENT_PATH, len(statement), sha256(statement).hexdigest())
            draft = self._draft(manifest, (*self.made.files, record))
            with writing(self.context.engine) as connection:
                ensure_there(connection, manifest, writer.entries)
                if self.made.learned is not None:
                    record_program(connection, writer, self.made.learned, manifest)
                return self._insert(connection, writer, key, draft)
        finally:
            writer.close()

    def _statement(self) -> bytes:
        made = self.made
        return make_statement(
            self.row.checkpoint,
            made.files,
            program=made.program,
            digest=version_digest(made.files),
            builder=made.builder,
            parameters={**made.parameters, "root": made.root},
            environment=made.environment,
        )

    def _store(self, writer: PackWriter, statement: bytes) -> Manifest:
        """Put the files and the statement into the pack; return the manifest of all."""
        contents = self.made.contents
        if isinstance(contents, Linked):
            return contents.store(writer, {STATEMENT_PATH: statement})
        path = contents.path / STATEMENT_PATH
        path.parent.mkdir(exist_ok=True)
        output = disk.NewFile(path)
        output.write(statement)
        output.close()
        checkpoint = self.context.manifest(self.row.manifest)
        return store_files(self.context, writer, contents.path, self.made.proven, checkpoint)

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
            checks=made.checks,
            parity=made.parity,
            created_at=now(),
            files=ordered,
            builder=made.builder,
            environment=made.environment,
            warnings=made.warnings,
        )

    def _insert(
        self, connection: sa.Connection, writer: PackWriter, manifest: bytes, draft: Version
    ) -> VersionRow:
        """Number the version; the pack is named inside the transaction that makes it visible.

        The number stands in the record, so the pack is sealed here: the lock is held for one flush
        of a small file, and a process that dies uses up no number.
        """
        liveness.ensure_live(connection, self.row.seq)
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
        return max(max(numbers(base_of(self.options.to)), default=0) + 1, 1)

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
        with reading(context.engine) as connection:
            site = find_site(connection, options.to, version.model)
        deployment = promote_row(context, row, site, PromoteOptions(message=options.message))
    except Error as error:
        name = f"{version.model}:{version.version}"
        error.hint = f"{error.hint}; the version is safe in the store: mstore promote {name} DIR"
        raise
    return version.at(deployment.path)
