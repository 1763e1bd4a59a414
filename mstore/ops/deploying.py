"""What promote, rollback and retire share: where they act, and how it comes into the ledger."""

import hashlib
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from mstore import disk
from mstore.catalog import checkpoints as queries
from mstore.catalog import objects as object_queries
from mstore.catalog import targets
from mstore.catalog import versions as ledger
from mstore.catalog.engine import reading, writing
from mstore.catalog.versions import VersionRow
from mstore.domain.canonical import canonical
from mstore.domain.places import Base, BucketPath, base_of
from mstore.domain.records import Deployment, Event, FileRecord, Version
from mstore.domain.targets import Site
from mstore.errors import UnknownReferenceError, UsageError
from mstore.objects.packs import RECORD, PackWriter
from mstore.ops.context import Context, now, whoami
from mstore.ops.hashing import file_sha256
from mstore.serving.publish import FileToPlace, place_locked


def find_site(connection: sa.Connection, where: str | Path, model: str | None) -> Site:
    """Return the base path that a target's name or a directory means.

    Args:
        connection: the catalog.
        where: name of a target, or a directory.
        model: whose base path; None where the target has only one.

    Raises:
        UnknownReferenceError: it is neither, or the target does not serve the model.
        UsageError: the target serves several models and none is named.
    """
    named = targets.find_targets(connection, name=str(where))
    if named:
        target = named[0]
        if model is None and len(target.paths) == 1:
            model = next(iter(target.paths))
        if model is None:
            listing = ", ".join(sorted(target.paths))
            raise UsageError(
                f"the target {target.name} serves {listing}", hint="say which: --model NAME"
            )
        if model not in target.paths:
            raise UnknownReferenceError(
                f"the target {target.name} does not serve {model}",
                reference=model,
                candidates=sorted(target.paths),
                hint=f"it serves {', '.join(sorted(target.paths))}; see: mstore target list",
            )
        return Site(base_of(target.paths[model]), target.name, target)
    path = base_of(where)
    if isinstance(path, BucketPath):
        owner = targets.find_targets(connection, path=str(path))
        return Site(path, owner[0].name if owner else str(path), owner[0] if owner else None)
    known = [target.name for target in targets.find_targets(connection)]
    if known and isinstance(where, str) and "/" not in where and not path.exists():
        raise UnknownReferenceError(
            f"{where} is neither a target nor a directory",
            reference=where,
            candidates=known,
            hint=f"targets: {', '.join(known)}; a new directory is written ./{where}",
        )
    base = path.resolve()
    found = targets.find_targets(connection, path=str(base))
    return Site(base, found[0].name if found else str(base), found[0] if found else None)


def history(connection: sa.Connection, base: Base) -> list[Deployment]:
    """Return the events of a base path, the first first."""
    found = ledger.find_deployments(connection, base=str(base))
    return [item for item in reversed(found) if base_of(item.path).parent == base]


def hold(context: Context, base: Base) -> AbstractContextManager[None]:
    """Hold a base path against other commands; a bucket only against those of this store.

    Raises:
        StoreLockedError: another process holds it for too long.
    """
    if isinstance(base, Path):
        return disk.locked(base)
    name = hashlib.sha256(str(base).encode()).hexdigest()[:32]
    place = context.root / "locks" / name
    for directory in (place.parent, place):
        disk.make_directory(directory)
    return disk.locked(place)


def put(context: Context, row: VersionRow, base: Base) -> bool:
    """Write a version into a base path whose lock is held; False if it was there already.

    Raises:
        ConflictError: its number is there with other content.
        DamagedStoreError: the store cannot give its files.
    """
    version = row.version
    _let_go(context, base / str(version.version))
    manifest = context.manifest(row.manifest)
    elsewhere = _elsewhere(context, row, base) if isinstance(base, Path) else []
    context.progress.start(f"publishing {version.model}:{version.version}", version.bytes)
    try:
        with context.reader() as reader:
            files = [
                FileToPlace(
                    FileRecord(f.path, f.size, f.sha256),
                    partial(reader.stream, f.pieces),
                    [path / f.path for path in elsewhere],
                )
                for f in manifest.files
            ]
            same = partial(is_version, files=version.files)
            return place_locked(base, version.version, files, same, context.progress.advance)
    finally:
        context.progress.finish()


_LET_GO = 3.0
"""Seconds in which a server has looked at its directory; it does so each second by default."""


def _let_go(context: Context, place: Base) -> None:
    """Wait until a server has had the time to see that a version that failed is gone.

    A number that is back when the server looks again was never away to it, and what failed once is
    not loaded a second time (aspired_versions_manager.cc). It tells nobody when it lets go.
    """
    with reading(context.engine) as connection:
        found = ledger.find_deployments(connection, path=str(place), limit=1)
    if not found or found[0].event != "failed":
        return
    at = datetime.fromisoformat(found[0].at.replace("Z", "+00:00"))
    rest = _LET_GO - (datetime.now(timezone.utc) - at).total_seconds()
    if 0 < rest <= _LET_GO:  # a clock that was set back says nothing
        context.progress.start(f"waiting until the server has let {place} go", None)
        try:
            time.sleep(rest)
        finally:
            context.progress.finish()


_SIBLINGS = 4
"""How many other base paths are asked for a version's files."""


def _elsewhere(context: Context, row: VersionRow, base: Path) -> list[Path]:
    """Return directories of other base paths on the same file system that have had a version."""
    device = base.stat().st_dev
    with reading(context.engine) as connection:
        known = ledger.paths_of(connection, row.seq)
    places = [base_of(path) for path in known]
    found = [path for path in places if isinstance(path, Path) and path.parent != base]
    return [path for path in found if _device(path) == device][:_SIBLINGS]


def _device(path: Path) -> int | None:
    try:
        return path.stat().st_dev
    except OSError:
        return None


def is_version(path: Base, files: tuple[FileRecord, ...]) -> bool:
    """Return whether a directory holds exactly these files."""
    if isinstance(path, BucketPath):
        from mstore.serving import bucket  # noqa: PLC0415 - an extra

        return bucket.is_version(path, files)
    found = {str(file.relative_to(path)): file for file in path.rglob("*") if not file.is_dir()}
    if set(found) != {file.path for file in files}:
        return False
    return all(
        found[file.path].stat().st_size == file.size
        and file_sha256(found[file.path]) == file.sha256
        for file in files
    )


def same_version(deployment: Deployment, version: Version) -> bool:
    """Return whether an event is about a version."""
    return (deployment.model, deployment.version) == (version.model, version.version)


@dataclass(frozen=True, slots=True)
class Move:
    """One version that entered or left a base path; ``event`` is a key of `targets.PRESENT`."""

    row: VersionRow
    event: str


def record_moves(
    context: Context,
    site: Site,
    moves: Sequence[Move],
    *,
    message: str | None,
    alias: tuple[str, VersionRow] | None = None,
) -> list[Deployment]:
    """Write into the ledger what happened in a base path whose lock is held; nothing is begun now.

    Args:
        context: the store.
        site: the base path.
        moves: what happened, in order.
        message: why.
        alias: a name for a version, moved in the same transaction.

    Returns:
        One deployment for each move.
    """
    with reading(context.engine) as connection:
        before = ledger.find_deployments(connection, base=str(site.base), limit=1)
    # A clock that was set back must not turn the history round.
    at = max([now(), *(item.at for item in before)])
    made = [
        Deployment(
            target=site.name,
            path=str(site.directory(move.row.version.version)),
            model=move.row.version.model,
            version=move.row.version.version,
            event=move.event,
            at=at,
            by=whoami(),
            message=message,
        )
        for move in moves
    ]
    disk.sweep(context.tmp)
    with disk.os_errors("recording what was done failed"), disk.work_directory(context.tmp) as work:
        writer = PackWriter(work)
        try:
            _commit(context, site, list(zip(moves, made, strict=True)), alias, writer, at)
        finally:
            writer.close()
    return made


def _commit(
    context: Context,
    site: Site,
    moved: Sequence[tuple[Move, Deployment]],
    alias: tuple[str, VersionRow] | None,
    writer: PackWriter,
    at: str,
) -> None:
    with reading(context.engine) as connection:
        parents = {m.row.version.model: queries.head(connection, d.model) for m, d in moved}
    keys = []
    for move, deployment in moved:
        body = {
            "type": "mstore/deployment/1",
            "deployment": deployment.to_json(),
            "checkpoint": move.row.version.checkpoint,
            "digest": move.row.version.digest,
            "parent": parents[deployment.model],
        }
        keys.append(writer.add(RECORD, canonical(body)).id)
    named = None if alias is None else alias_event(writer, *alias, at=at)
    name = writer.seal() if writer.entries else None
    with writing(context.engine) as connection:
        if name is not None:
            writer.publish(context.packs)
            entries = writer.entries.values()
            object_queries.add_pack(connection, name, writer.size, entries, at)
        for (move, deployment), key in zip(moved, keys, strict=True):
            row = move.row
            ledger.insert_deployment(connection, deployment, version=row.seq, record=key)
            event = deployment_event(deployment, row.version, key)
            ledger.insert_event(connection, event, checkpoint=row.checkpoint, version=row.seq)
        if alias is not None and named is not None:
            give_alias(connection, named, *alias)
        targets.clear_intent(connection, str(site.base))


def deployment_event(deployment: Deployment, version: Version, key: bytes) -> Event:
    """Return what the ledger says of a deployment whose record has the id ``key``."""
    return Event(
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


def alias_event(writer: PackWriter, name: str, row: VersionRow, *, at: str) -> Event:
    """Put the record of an alias into a pack and return the event."""
    version = row.version
    body = {
        "type": "mstore/alias/1",
        "model": version.model,
        "version": version.version,
        "alias": name,
        "at": at,
        "by": whoami(),
    }
    return Event(
        id=writer.add(RECORD, canonical(body)).id.hex(),
        event="aliased",
        model=version.model,
        at=at,
        by=whoami(),
        checkpoint=version.checkpoint,
        run=version.run,
        step=version.step,
        version=version.version,
        path=None,
        message=name,
    )


def give_alias(connection: sa.Connection, event: Event, name: str, row: VersionRow) -> None:
    """Move an alias to a version, with its event, in a transaction."""
    model = queries.ensure_model(connection, row.version.model)
    targets.set_alias(connection, model, name, row.seq)
    ledger.insert_event(connection, event, checkpoint=row.checkpoint, version=row.seq)
