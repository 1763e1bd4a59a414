"""What is live: the one rule by which prune and gc know what may go.

A checkpoint is needed by its versions, wherever these are deployed or were, and by its tags. It is
live until it is pruned, and what is needed cannot be pruned. An object is live if it belongs to
something live; records always are, for they tell the history.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from mstore.catalog.checkpoints import CheckpointRow, insert_fingerprints, point, restore
from mstore.catalog.objects import known
from mstore.catalog.tables import (
    checkpoints,
    deployments,
    models,
    programs,
    prunings,
    runs,
    tags,
    tensors,
    versions,
)
from mstore.domain.targets import PRESENT
from mstore.errors import ConflictError

NEEDED = sa.or_(
    sa.exists().where(versions.c.checkpoint == checkpoints.c.seq),
    sa.exists().where(tags.c.checkpoint == checkpoints.c.seq),
)
"""Of a row of checkpoints: whether a version or a tag needs it."""

LIVE = sa.or_(checkpoints.c.pruned_at.is_(None), NEEDED)
"""Of a row of checkpoints: whether its files must be there."""

_PRESENT = sorted(event for event, there in PRESENT.items() if there)


@dataclass(frozen=True, slots=True)
class Root:
    """What belongs to one thing that is live: its manifest, whose chunks it needs too, and more.

    Attributes:
        manifest: id of its manifest.
        others: ids of its record and of its golden example.
    """

    manifest: bytes
    others: tuple[bytes, ...]


def roots(connection: sa.Connection, *, pruned_after: str) -> set[Root]:
    """Return what all live checkpoints, versions and programs are made of.

    Args:
        connection: the catalog.
        pruned_after: time, ISO 8601 in UTC; a checkpoint that was pruned later still counts.
    """
    columns = (checkpoints.c.manifest, checkpoints.c.record, checkpoints.c.example)
    query = sa.select(*columns).where(sa.or_(LIVE, checkpoints.c.pruned_at > pruned_after))
    found = {
        Root(row.manifest, (row.record, *([bytes.fromhex(row.example)] if row.example else [])))
        for row in connection.execute(query)
    }
    for table in (versions, programs):
        rows = connection.execute(sa.select(table.c.manifest, table.c.record))
        found.update(Root(row.manifest, (row.record,)) for row in rows)
    return found


def pruned_lately(connection: sa.Connection, after: str) -> int:
    """Return how many checkpoints were pruned later than a time."""
    query = sa.select(sa.func.count()).select_from(checkpoints)
    return connection.scalar(query.where(checkpoints.c.pruned_at > after)) or 0


def needs(connection: sa.Connection, model: str) -> dict[str, list[str]]:
    """Return what needs checkpoints of a model: id of the checkpoint to texts.

    It is `NEEDED` in words: everyone whom the rule spares is in it, and nobody else.
    """
    key = sa.select(models.c.seq).where(models.c.name == model).scalar_subquery()
    served: dict[int, list[str]] = defaultdict(list)
    for row in connection.execute(_served(key)):
        if row.target not in served[row.seq]:
            served[row.seq].append(row.target)
    found: dict[str, list[str]] = defaultdict(list)
    made = (
        sa.select(checkpoints.c.id, versions.c.seq, versions.c.number)
        .join(checkpoints, checkpoints.c.seq == versions.c.checkpoint)
        .where(versions.c.model == key)
        .order_by(versions.c.number)
    )
    for id_, seq, number in connection.execute(made):
        where = f" in {', '.join(served[seq])}" if served[seq] else ""
        found[id_].append(f"{model}:{number}{where}")
    named = (
        sa.select(checkpoints.c.id, tags.c.name)
        .join(checkpoints, checkpoints.c.seq == tags.c.checkpoint)
        .where(tags.c.model == key)
        .order_by(tags.c.name)
    )
    for id_, name in connection.execute(named):
        found[id_].append(f"tag {name}")
    return dict(found)


def _served(model: "sa.ScalarSelect[int]") -> "sa.Select[tuple[int, str]]":
    """Return versions of a model with the targets in which they are now."""
    later = deployments.alias()
    return (
        sa.select(versions.c.seq, deployments.c.target)
        .join(deployments, deployments.c.version == versions.c.seq)
        .where(
            versions.c.model == model,
            deployments.c.event.in_(_PRESENT),
            ~sa.exists().where(later.c.path == deployments.c.path, later.c.seq > deployments.c.seq),
        )
        .order_by(deployments.c.seq)
    )


def ensure_live(connection: sa.Connection, seq: int) -> None:
    """Check, in the transaction that makes it needed, that a checkpoint was not pruned meanwhile.

    Raises:
        ConflictError: it was.
    """
    query = (
        sa.select(models.c.name, runs.c.name.label("run"), checkpoints.c.step, checkpoints.c.source)
        .join(runs, runs.c.seq == checkpoints.c.run)
        .join(models, models.c.seq == checkpoints.c.model)
        .where(checkpoints.c.seq == seq, ~LIVE)
    )
    row = connection.execute(query).one_or_none()
    if row is not None:
        raise ConflictError(
            f"{row.name}/{row.run}@{row.step} was pruned while this command ran",
            hint=f"add its files again: mstore add {row.source} --model {row.name} "
            f"--run {row.run} --step {row.step}",
        )


def prune(
    connection: sa.Connection,
    event: int,
    marks: Mapping[int, Sequence[int] | None],
    at: str,
) -> None:
    """Mark checkpoints as pruned.

    Args:
        connection: in a transaction.
        event: key of the event that says so.
        marks: key of each checkpoint to the fingerprints of its tensors; None where nobody knows.
        at: time, ISO 8601 in UTC.

    Raises:
        ConflictError: something needs one of them.
    """
    for seq, fingerprints in marks.items():
        values = sa.update(checkpoints).values(pruned_at=at, superseded=True)
        result = connection.execute(
            values.where(checkpoints.c.seq == seq, checkpoints.c.pruned_at.is_(None), ~NEEDED)
        )
        if not result.rowcount:
            raise ConflictError(
                "a checkpoint that was to be pruned is needed now; nothing was pruned",
                hint="run the command again",
            )
        connection.execute(sa.insert(prunings).values(event=event, checkpoint=seq))
        _forget_fingerprints(connection, seq, fingerprints)


@dataclass(frozen=True, slots=True)
class Again:
    """What adding the files of a pruned checkpoint again gives.

    Attributes:
        manifest: id of its manifest.
        record: id of its record.
        fingerprints: those of its tensors.
        example: id of its golden example, or None where none was given.
    """

    manifest: bytes
    record: bytes
    fingerprints: Iterable[int]
    example: str | None


def bring_back(connection: sa.Connection, row: CheckpointRow, again: Again) -> str | None:
    """Make a pruned checkpoint the current one again, as it was recorded; return its example.

    Its own example is kept where none is given now and it is still there.
    """
    restore(connection, row.seq)
    point(connection, row.seq, manifest=again.manifest, record=again.record)
    insert_fingerprints(connection, row.seq, again.fingerprints)
    example, earlier = again.example, row.checkpoint.example
    if example is None and earlier is not None and known(connection, [bytes.fromhex(earlier)]):
        example = earlier
    values = sa.update(checkpoints).values(example=example)
    connection.execute(values.where(checkpoints.c.seq == row.seq))
    return example


def _forget_fingerprints(
    connection: sa.Connection, seq: int, fingerprints: Iterable[int] | None
) -> None:
    """Take a checkpoint out of the index by content; look through all of it if need be."""
    if fingerprints is None:
        connection.execute(sa.delete(tensors).where(tensors.c.checkpoint == seq))
        return
    key = sa.and_(
        tensors.c.fingerprint == sa.bindparam("mark"), tensors.c.checkpoint == sa.bindparam("seq")
    )
    rows = [{"mark": mark, "seq": seq} for mark in set(fingerprints)]
    if rows:
        connection.execute(sa.delete(tensors).where(key), rows)
