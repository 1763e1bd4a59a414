"""Queries about versions, deployments and the ledger."""

import json
from dataclasses import dataclass, fields, replace
from typing import Any

import sqlalchemy as sa

from mstore.catalog.tables import (
    checkpoints,
    deployments,
    events,
    models,
    prunings,
    runs,
    versions,
)
from mstore.catalog.targets import alias_names
from mstore.domain.records import Deployment, Event, FileRecord, Version
from mstore.domain.serving_names import MAX_VERSION
from mstore.domain.signatures import Signature
from mstore.errors import ConflictError


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A version with the keys that only the store needs.

    Attributes:
        seq: its number in the catalog.
        checkpoint: key of its checkpoint.
        manifest: id of its manifest object.
        record: id of its record object.
        version: what people see.
    """

    seq: int
    checkpoint: int
    manifest: bytes
    record: bytes
    version: Version


def allocate(connection: sa.Connection, model: str, floor: int) -> int:
    """Take the next version number of a model, at least ``floor``.

    The number is used up when the transaction commits, and not before.

    Raises:
        ConflictError: there is no number left that a server could read.
    """
    key = models.c.name == model
    number = max(connection.scalar(sa.select(models.c.next_version).where(key)) or 1, floor)
    if number >= MAX_VERSION:
        raise ConflictError(
            f"no version number is left for {model}: the highest there can be is taken",
            hint="remove it from the base path, or export to another one",
        )
    connection.execute(sa.update(models).where(key).values(next_version=number + 1))
    return number


def use_up(connection: sa.Connection, model: str, number: int) -> None:
    """Never allocate a model's numbers up to ``number`` again."""
    here = sa.and_(models.c.name == model, models.c.next_version <= number)
    connection.execute(sa.update(models).where(here).values(next_version=number + 1))


def insert_version(
    connection: sa.Connection,
    version: Version,
    *,
    checkpoint: int,
    manifest: bytes,
    record: bytes,
) -> int:
    """Insert a version; return its key."""
    model = connection.scalar(sa.select(models.c.seq).where(models.c.name == version.model))
    body = version.to_json()
    result = connection.execute(
        sa.insert(versions).values(
            model=model,
            number=version.version,
            checkpoint=checkpoint,
            digest=version.digest,
            manifest=manifest,
            record=record,
            body=json.dumps(body, sort_keys=True),
            created_at=version.created_at,
        )
    )
    assert result.inserted_primary_key is not None  # noqa: S101 - returned for a single row
    return int(result.inserted_primary_key[0])


def point(connection: sa.Connection, seq: int, *, manifest: bytes, record: bytes) -> None:
    """Say which manifest and which record a version has."""
    values = sa.update(versions).values(manifest=manifest, record=record)
    connection.execute(values.where(versions.c.seq == seq))


_VERSION = (
    versions.c.seq,
    versions.c.checkpoint,
    versions.c.manifest,
    versions.c.record,
    versions.c.body,
)


def find_versions(
    connection: sa.Connection,
    *,
    model: str | None = None,
    number: int | None = None,
    digest: str | None = None,
    limit: int | None = None,
) -> list[VersionRow]:
    """Return the versions that fit all conditions given, the highest number first."""
    query = sa.select(*_VERSION).join(models, models.c.seq == versions.c.model)
    if model is not None:
        query = query.where(models.c.name == model)
    if number is not None:
        query = query.where(versions.c.number == number)
    if digest is not None:
        query = query.where(versions.c.digest == digest)
    query = query.order_by(models.c.name, versions.c.number.desc()).limit(limit)
    rows = connection.execute(query).all()
    named = alias_names(connection, [row.seq for row in rows])
    return [
        VersionRow(
            row.seq,
            row.checkpoint,
            row.manifest,
            row.record,
            replace(read_version(json.loads(row.body)), aliases=named.get(row.seq, ())),
        )
        for row in rows
    ]


def read_version(body: dict[str, Any]) -> Version:
    """Return the version that `Version.to_json` wrote; names it does not know are passed over."""
    body = dict(body)
    body["signatures"] = {
        name: Signature.from_json(sig) for name, sig in body["signatures"].items()
    }
    body["files"] = tuple(FileRecord(**file) for file in body["files"])
    body["aliases"] = tuple(body["aliases"])
    body["warnings"] = tuple(body["warnings"])
    known = {field.name for field in fields(Version)}
    return Version(**{name: value for name, value in body.items() if name in known})


def insert_deployment(
    connection: sa.Connection, deployment: Deployment, *, version: int, record: bytes
) -> None:
    """Record that a version entered or left a target."""
    connection.execute(
        sa.insert(deployments).values(
            version=version,
            target=deployment.target,
            path=deployment.path,
            event=deployment.event,
            at=deployment.at,
            by=deployment.by,
            message=deployment.message,
            record=record,
        )
    )


def find_deployments(
    connection: sa.Connection,
    *,
    model: str | None = None,
    path: str | None = None,
    base: str | None = None,
    limit: int | None = None,
) -> list[Deployment]:
    """Return deployments, the last first: all, of a model, of a directory or below a base path."""
    query = (
        sa.select(deployments, versions.c.number, models.c.name.label("model_name"))
        .join(versions, versions.c.seq == deployments.c.version)
        .join(models, models.c.seq == versions.c.model)
    )
    if model is not None:
        query = query.where(models.c.name == model)
    if path is not None:
        query = query.where(deployments.c.path == path)
    if base is not None:  # "0" sorts just after "/"
        query = query.where(deployments.c.path > f"{base}/", deployments.c.path < f"{base}0")
    rows = connection.execute(query.order_by(deployments.c.seq.desc()).limit(limit))
    return [
        Deployment(
            target=row.target,
            path=row.path,
            model=row.model_name,
            version=row.number,
            event=row.event,
            at=row.at,
            by=row.by,
            message=row.message,
        )
        for row in rows
    ]


def paths_of(connection: sa.Connection, version: int) -> list[str]:
    """Return the directories that a version has been placed in, the last first."""
    query = (
        sa.select(deployments.c.path)
        .where(deployments.c.version == version)
        .group_by(deployments.c.path)
        .order_by(sa.func.max(deployments.c.seq).desc())
    )
    return list(connection.scalars(query))


def insert_event(
    connection: sa.Connection,
    event: Event,
    *,
    checkpoint: int | None,
    version: int | None = None,
) -> int:
    """Append an event to the ledger and make it the head of its model; return its key."""
    key = models.c.name == event.model
    model = connection.scalar(sa.select(models.c.seq).where(key))
    result = connection.execute(
        sa.insert(events).values(
            id=event.id,
            event=event.event,
            model=model,
            checkpoint=checkpoint,
            version=version,
            at=event.at,
            by=event.by,
            path=event.path,
            message=event.message,
        )
    )
    connection.execute(sa.update(models).where(key).values(head=event.id))
    assert result.inserted_primary_key is not None  # noqa: S101 - returned for a single row
    return int(result.inserted_primary_key[0])


def find_events(
    connection: sa.Connection,
    *,
    model: str | None = None,
    checkpoint: int | None = None,
    version: int | None = None,
    limit: int | None = None,
) -> list[Event]:
    """Return events, the last first."""
    query = (
        sa.select(
            events.c.seq,
            events.c.id,
            events.c.event,
            models.c.name.label("model"),
            events.c.at,
            events.c.by,
            checkpoints.c.id.label("checkpoint"),
            runs.c.name.label("run"),
            checkpoints.c.step,
            versions.c.number.label("version"),
            events.c.path,
            events.c.message,
        )
        .join(models, models.c.seq == events.c.model)
        .outerjoin(checkpoints, checkpoints.c.seq == events.c.checkpoint)
        .outerjoin(runs, runs.c.seq == checkpoints.c.run)
        .outerjoin(versions, versions.c.seq == events.c.version)
    )
    if model is not None:
        query = query.where(models.c.name == model)
    if checkpoint is not None:
        about = sa.select(prunings.c.event).where(prunings.c.checkpoint == checkpoint)
        query = query.where(sa.or_(events.c.checkpoint == checkpoint, events.c.seq.in_(about)))
    if version is not None:
        query = query.where(events.c.version == version)
    found = connection.execute(query.order_by(events.c.seq.desc()).limit(limit))
    rows = [dict(row) for row in found.mappings()]
    keys = [row.pop("seq") for row in rows]
    return [
        Event(**row, pruned=_pruned(connection, key) if row["event"] == "pruned" else ())
        for key, row in zip(keys, rows, strict=True)
    ]


def _pruned(connection: sa.Connection, event: int) -> tuple[str, ...]:
    """Return the ids of the checkpoints that an event pruned, in the order they came."""
    query = sa.select(checkpoints.c.id).join(prunings, prunings.c.checkpoint == checkpoints.c.seq)
    rows = connection.scalars(query.where(prunings.c.event == event).order_by(checkpoints.c.seq))
    return tuple(rows)
