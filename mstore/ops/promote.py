"""Place a version of the store in a serving directory and write that into the ledger."""

from functools import partial
from pathlib import Path

import sqlalchemy as sa

from mstore import disk
from mstore.catalog import checkpoints as queries
from mstore.catalog import objects as object_queries
from mstore.catalog import versions as ledger
from mstore.catalog.engine import reading, writing
from mstore.catalog.versions import VersionRow
from mstore.domain.canonical import canonical
from mstore.domain.records import Deployment, Event, FileRecord, Version
from mstore.objects.packs import RECORD, PackWriter
from mstore.ops.context import Context, now, whoami
from mstore.ops.hashing import file_sha256
from mstore.ops.resolve import resolve_version
from mstore.serving.publish import FileToPlace, place, prepare_base


def promote(
    context: Context, reference: str, base: Path, *, message: str | None = None
) -> Deployment:
    """Publish a version under ``base``.

    Returns:
        The deployment; ``new`` is False if the same version was there already and recorded.

    Raises:
        ConflictError: its number is there with other content.
        DamagedStoreError: the store cannot give its files.
    """
    with reading(context.engine) as connection:
        row = resolve_version(connection, reference)
    return promote_row(context, row, base, message=message)


def promote_row(
    context: Context, row: VersionRow, base: Path, *, message: str | None
) -> Deployment:
    """Publish a version that was looked up already; see `promote`."""
    prepare_base(base)
    disk.sweep(context.tmp)
    # One path for one directory, however it was written: audits look it up by this.
    base = base.resolve()
    version = row.version
    path = base / str(version.version)
    manifest = context.manifest(row.manifest)
    with reading(context.engine) as connection:
        before = _last(connection, path)
    context.progress.start(f"publishing {version.model}:{version.version}", version.bytes)
    try:
        with context.reader() as reader:
            files = [
                FileToPlace(FileRecord(f.path, f.size, f.sha256), partial(reader.stream, f.pieces))
                for f in manifest.files
            ]
            same = partial(is_version, files=version.files)
            fresh = place(base, version.version, files, same, context.progress.advance)
    finally:
        context.progress.finish()
    return _record(context, row, base, path, message, before, fresh=fresh)


def _last(connection: sa.Connection, path: Path) -> Deployment | None:
    """Return what the ledger says last of a version directory."""
    return next(iter(ledger.find_deployments(connection, path=str(path), limit=1)), None)


def is_version(path: Path, files: tuple[FileRecord, ...]) -> bool:
    """Return whether a directory holds exactly these files."""
    found = {str(file.relative_to(path)): file for file in path.rglob("*") if not file.is_dir()}
    if set(found) != {file.path for file in files}:
        return False
    return all(
        found[file.path].stat().st_size == file.size
        and file_sha256(found[file.path]) == file.sha256
        for file in files
    )


def _record(
    context: Context,
    row: VersionRow,
    base: Path,
    path: Path,
    message: str | None,
    before: Deployment | None,
    *,
    fresh: bool,
) -> Deployment:
    version = row.version
    with reading(context.engine) as connection:
        earlier = _last(connection, path)
        parent = queries.head(connection, version.model)
    if not fresh and earlier is not None and _is_of(earlier, version):
        return earlier.repeated()
    deployment = Deployment(
        target=str(base),
        path=str(path),
        model=version.model,
        version=version.version,
        event="promoted",
        at=now(),
        by=whoami(),
        message=message,
    )
    record = canonical(
        {
            "type": "mstore/deployment/1",
            "deployment": deployment.to_json(),
            "checkpoint": version.checkpoint,
            "digest": version.digest,
            "parent": parent,
        }
    )
    with disk.os_errors("recording the promotion failed"), disk.work_directory(context.tmp) as work:
        return _commit(context, row, deployment, record, before, PackWriter(work))


def _is_of(deployment: Deployment, version: Version) -> bool:
    return (deployment.model, deployment.version) == (version.model, version.version)


def _commit(
    context: Context,
    row: VersionRow,
    deployment: Deployment,
    record: bytes,
    before: Deployment | None,
    writer: PackWriter,
) -> Deployment:
    version = row.version
    try:
        key = writer.add(RECORD, record).id
        name = writer.seal()
        with writing(context.engine) as connection:
            # Another process may have found our directory and written it into the ledger first.
            other = _last(connection, Path(deployment.path))
            if other is not None and other != before and _is_of(other, version):
                return other.repeated()
            writer.publish(context.packs)
            entries = writer.entries.values()
            object_queries.add_pack(connection, name, writer.size, entries, deployment.at)
            ledger.insert_deployment(connection, deployment, version=row.seq, record=key)
            event = Event(
                id=key.hex(),
                event=deployment.event,
                model=version.model,
                at=deployment.at,
                by=deployment.by,
                checkpoint=version.checkpoint,
                run=version.run,
                step=version.step,
                version=version.version,
                path=deployment.path,
                message=deployment.message,
            )
            ledger.insert_event(connection, event, checkpoint=row.checkpoint, version=row.seq)
    finally:
        writer.close()
    return deployment
