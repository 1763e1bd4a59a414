"""Queries about models, runs and checkpoints."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from mstore.catalog.tables import checkpoints, metrics, models, runs, tags, tensors, versions
from mstore.domain.records import Checkpoint

_CANDIDATES = 256
"""Holders of one tensor that are looked at; more than ever have equal weights."""


_EQUALS = 1000
"""Checkpoints with the best value of a metric among which the step decides."""


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """A checkpoint with the keys that only the store needs.

    Attributes:
        seq: its number in the catalog.
        manifest: id of its manifest object.
        record: id of its record object.
        checkpoint: what people see.
    """

    seq: int
    manifest: bytes
    record: bytes
    checkpoint: Checkpoint


_COLUMNS = (
    *(column for column in checkpoints.c if column.name not in {"model", "run"}),
    models.c.name.label("model_name"),
    runs.c.name.label("run_name"),
)


def _select() -> "sa.Select[tuple[object, ...]]":
    joined = checkpoints.join(runs, runs.c.seq == checkpoints.c.run).join(
        models, models.c.seq == checkpoints.c.model
    )
    return sa.select(*_COLUMNS).select_from(joined)


def model_key(connection: sa.Connection, name: str) -> int | None:
    """Return the key of the model called ``name``, or None."""
    return connection.scalar(sa.select(models.c.seq).where(models.c.name == name))


def model_names(connection: sa.Connection) -> list[str]:
    """Return the names of all models, sorted."""
    return list(connection.scalars(sa.select(models.c.name).order_by(models.c.name)))


def run_names(connection: sa.Connection, model: str) -> list[str]:
    """Return the names of the runs of a model, sorted."""
    query = sa.select(runs.c.name).join(models, models.c.seq == runs.c.model)
    return list(connection.scalars(query.where(models.c.name == model).order_by(runs.c.name)))


def head(connection: sa.Connection, model: str) -> str | None:
    """Return the id of the model's newest event record, or None."""
    return connection.scalar(sa.select(models.c.head).where(models.c.name == model))


def ensure_model(connection: sa.Connection, name: str) -> int:
    """Return the key of the model called ``name``, made if need be."""
    connection.execute(insert(models).values(name=name, next_version=1).on_conflict_do_nothing())
    key = model_key(connection, name)
    assert key is not None  # noqa: S101 - inserted above
    return key


def ensure_run(connection: sa.Connection, model: int, name: str, at: str) -> int:
    """Return the key of a run of a model, made if need be."""
    values = insert(runs).values(model=model, name=name, created_at=at)
    connection.execute(values.on_conflict_do_nothing())
    key = connection.scalar(sa.select(runs.c.seq).where(runs.c.model == model, runs.c.name == name))
    assert key is not None  # noqa: S101 - inserted above
    return int(key)


def insert_checkpoint(
    connection: sa.Connection,
    checkpoint: Checkpoint,
    *,
    manifest: bytes,
    record: bytes,
    fingerprints: Iterable[int],
) -> int:
    """Insert a checkpoint with its metrics and tensor fingerprints; return its key."""
    model = ensure_model(connection, checkpoint.model)
    values = {
        name: getattr(checkpoint, name)
        for name in checkpoints.c.keys()  # noqa: SIM118 - a column collection, not a dict
        if name not in {"seq", "model", "run", "manifest", "record", "meta"}
    }
    values |= {
        "model": model,
        "run": ensure_run(connection, model, checkpoint.run, checkpoint.added_at),
        "manifest": manifest,
        "record": record,
        "meta": json.dumps(dict(checkpoint.meta), sort_keys=True),
    }
    key = connection.execute(sa.insert(checkpoints).values(values)).inserted_primary_key
    assert key is not None  # noqa: S101 - SQLAlchemy returns it for a single row
    seq = int(key[0])
    if checkpoint.metrics:
        rows = [
            {"checkpoint": seq, "name": name, "model": model, "value": value}
            for name, value in checkpoint.metrics.items()
        ]
        connection.execute(sa.insert(metrics), rows)
    insert_fingerprints(connection, seq, fingerprints)
    return seq


def insert_fingerprints(
    connection: sa.Connection, checkpoint: int, fingerprints: Iterable[int]
) -> None:
    """Write down which tensors a checkpoint holds."""
    marks = [{"fingerprint": mark, "checkpoint": checkpoint} for mark in set(fingerprints)]
    if marks:
        connection.execute(sa.insert(tensors), marks)


def manifests(connection: sa.Connection) -> list[tuple[int, str, bytes]]:
    """Return key, id and manifest of each checkpoint that was not pruned, as they came."""
    query = sa.select(checkpoints.c.seq, checkpoints.c.id, checkpoints.c.manifest)
    query = query.where(checkpoints.c.pruned_at.is_(None))
    rows = connection.execute(query.order_by(checkpoints.c.seq))
    return [(row.seq, row.id, row.manifest) for row in rows]


def manifests_by_run(connection: sa.Connection) -> list[list[bytes]]:
    """Return the manifests of each run, the newest run and the newest step first.

    Of a step that was replaced, the replaced checkpoints come after the one that counts. Those that
    were pruned are left out.
    """
    columns = (checkpoints.c.run, checkpoints.c.manifest)
    rows = connection.execute(
        sa.select(*columns)
        .where(checkpoints.c.pruned_at.is_(None))
        .order_by(
            checkpoints.c.run.desc(),
            checkpoints.c.step.desc(),
            checkpoints.c.superseded,
            checkpoints.c.seq.desc(),
        )
    )
    return [[row.manifest for row in group] for _, group in groupby(rows, key=lambda r: r.run)]


def set_stored_bytes(connection: sa.Connection, records: Sequence[bytes], size: int) -> None:
    """Say how large the pack is now in which checkpoints with these records were added."""
    values = sa.update(checkpoints).values(stored_bytes=size)
    connection.execute(values.where(checkpoints.c.record.in_(records)))


def set_tag(connection: sa.Connection, model: int, name: str, checkpoint: int) -> None:
    """Give a tag to a checkpoint, taking it from the one that has it."""
    values = insert(tags).values(model=model, name=name, checkpoint=checkpoint)
    connection.execute(values.on_conflict_do_update(set_={"checkpoint": checkpoint}))


def supersede(connection: sa.Connection, seq: int) -> None:
    """Mark a checkpoint as replaced."""
    connection.execute(
        sa.update(checkpoints).where(checkpoints.c.seq == seq).values(superseded=True)
    )


def point(connection: sa.Connection, seq: int, *, manifest: bytes, record: bytes) -> None:
    """Say which manifest and which record a checkpoint has."""
    values = sa.update(checkpoints).values(manifest=manifest, record=record)
    connection.execute(values.where(checkpoints.c.seq == seq))


def restore(connection: sa.Connection, seq: int) -> None:
    """Make a replaced or pruned checkpoint the current one again."""
    values = sa.update(checkpoints).values(superseded=False, pruned_at=None)
    connection.execute(values.where(checkpoints.c.seq == seq))


def by_id(connection: sa.Connection, id_: str) -> CheckpointRow | None:
    """Return the checkpoint with that id, or None."""
    return _one(connection, _select().where(checkpoints.c.id == id_))


def by_seq(connection: sa.Connection, seqs: Sequence[int]) -> list[CheckpointRow]:
    """Return the checkpoints with those keys, in order of the keys."""
    query = _select().where(checkpoints.c.seq.in_(seqs)).order_by(checkpoints.c.seq)
    return _rows(connection, query)


def by_prefix(
    connection: sa.Connection, prefix: str, model: str | None, *, pruned: bool = False
) -> list[CheckpointRow]:
    """Return up to 10 checkpoints whose id begins with ``prefix``, or 10 that were pruned."""
    # "g" sorts after every hex digit, so the range is exactly the ids with that prefix.
    query = _select().where(checkpoints.c.id >= prefix, checkpoints.c.id < prefix + "g")
    if model is not None:
        # With a sum in the place of the column the index of ids is the only one that serves.
        query = query.where(checkpoints.c.model + 0 == model_key(connection, model))
    is_pruned = checkpoints.c.pruned_at.is_not(None)
    query = query.where(is_pruned if pruned else ~is_pruned)
    return _rows(connection, query.order_by(checkpoints.c.id).limit(10))


def at_step(
    connection: sa.Connection, model: str, run: str | None, step: int, *, pruned: bool = False
) -> list[CheckpointRow]:
    """Return the current checkpoints of a model at a step, one for each run that has it.

    With ``pruned`` those that were pruned instead.
    """
    key = model_key(connection, model)
    chosen = sa.select(runs.c.seq).where(runs.c.model == key)
    if run is not None:
        chosen = chosen.where(runs.c.name == run)
    # One look for each run: the index of steps begins with it.
    found = connection.scalars(
        sa.select(checkpoints.c.seq).where(
            checkpoints.c.run.in_(chosen),
            checkpoints.c.step == step,
            checkpoints.c.pruned_at.is_not(None)
            if pruned
            else checkpoints.c.superseded == sa.false(),
        )
    )
    return by_seq(connection, sorted(found))


def newest(connection: sa.Connection, model: str, run: str | None) -> CheckpointRow | None:
    """Return the highest step of a run, by default of the run that began last.

    A run of which nothing is left does not count.
    """
    key = model_key(connection, model)
    current = sa.exists().where(
        checkpoints.c.run == runs.c.seq, checkpoints.c.superseded == sa.false()
    )
    chosen = sa.select(sa.func.max(runs.c.seq)).where(runs.c.model == key, current)
    if run is not None:
        chosen = chosen.where(runs.c.name == run)
    query = (
        sa.select(checkpoints.c.seq)
        .where(
            checkpoints.c.run == connection.scalar(chosen), checkpoints.c.superseded == sa.false()
        )
        .order_by(checkpoints.c.step.desc())
    )
    seq = connection.scalar(query.limit(1))
    return None if seq is None else by_seq(connection, [seq])[0]


def best(
    connection: sa.Connection, model: str, run: str | None, metric: str, *, highest: bool
) -> CheckpointRow | None:
    """Return the checkpoint with the best value of a metric.

    Of equals it is the later step; of more than a thousand, among those that were added last.
    """
    key = model_key(connection, model)
    order = metrics.c.value.desc() if highest else metrics.c.value.asc()
    current = sa.and_(
        checkpoints.c.seq == metrics.c.checkpoint, checkpoints.c.superseded == sa.false()
    )
    query = sa.select(metrics.c.value, checkpoints.c.seq, checkpoints.c.step)
    query = query.join(checkpoints, current).where(metrics.c.name == metric)
    if run is None:
        # The best value is where the index begins; its holders follow in the order they came.
        query = query.where(metrics.c.model == key)
        first = connection.execute(query.order_by(order).limit(1)).one_or_none()
        if first is None:
            return None
        query = query.where(metrics.c.value == first.value)
        query = query.order_by(metrics.c.checkpoint.desc()).limit(_EQUALS)
    else:
        chosen = sa.select(runs.c.seq).where(runs.c.model == key, runs.c.name == run)
        query = query.where(checkpoints.c.run == chosen.scalar_subquery())
        query = query.order_by(order, checkpoints.c.step.desc()).limit(1)
    found = connection.execute(query).all()
    if not found:
        return None
    return by_seq(connection, [max(found, key=lambda row: (row.step, row.seq)).seq])[0]


def metric_names(connection: sa.Connection, model: str) -> list[str]:
    """Return the names of all metrics recorded for a model, sorted."""
    key = model_key(connection, model)
    names = []
    query = sa.select(sa.func.min(metrics.c.name)).where(metrics.c.model == key)
    # From name to name: a model has few, and each may have a million values.
    name = connection.scalar(query)
    while name is not None:
        names.append(name)
        name = connection.scalar(query.where(metrics.c.name > name))
    return names


def tagged(connection: sa.Connection, model: str, tag: str) -> CheckpointRow | None:
    """Return the checkpoint that has a tag, or None."""
    query = (
        _select()
        .join(tags, sa.and_(tags.c.checkpoint == checkpoints.c.seq, tags.c.model == models.c.seq))
        .where(models.c.name == model, tags.c.name == tag)
    )
    return _one(connection, query)


def listing(
    connection: sa.Connection,
    *,
    model: str | None = None,
    run: str | None = None,
    limit: int | None = None,
    superseded: bool = False,
    pruned: bool = False,
) -> list[CheckpointRow]:
    """Return checkpoints, the last added first.

    Args:
        connection: the catalog.
        model: only of this model.
        run: only of runs of this name.
        limit: at most so many.
        superseded: those that others replaced too.
        pruned: those that were pruned too.
    """
    query = sa.select(checkpoints.c.seq)
    key = None if model is None else model_key(connection, model)
    if run is not None:
        chosen = sa.select(runs.c.seq).where(runs.c.name == run)
        if model is not None:
            chosen = chosen.where(runs.c.model == key)
        query = query.where(checkpoints.c.run.in_(list(connection.scalars(chosen))))
    elif model is not None:
        query = query.where(checkpoints.c.model == key)
    is_pruned = checkpoints.c.pruned_at.is_not(None)
    if not superseded:
        current = checkpoints.c.superseded == sa.false()
        query = query.where(sa.or_(current, is_pruned) if pruned else current)
    elif not pruned:
        query = query.where(~is_pruned)
    found = connection.scalars(query.order_by(checkpoints.c.seq.desc()).limit(limit)).all()
    return [row for at in range(0, len(found), 500) for row in _part(connection, found, at)]


def nearby(connection: sa.Connection, model: str, limit: int = 8) -> list[str]:
    """Return references to the newest checkpoints of a model, as candidates for an error."""
    rows = listing(connection, model=model, limit=limit)
    return [f"{r.checkpoint.model}/{r.checkpoint.run}@{r.checkpoint.step}" for r in rows]


def holding(
    connection: sa.Connection, fingerprints: Sequence[int], limit: int | None = None
) -> list[tuple[int, int]]:
    """Return which checkpoints hold tensors with these fingerprints.

    Tensors that few checkpoints hold decide: those are counted, with all that they hold. Of
    tensors that thousands hold (biases that are still zero, parts that are frozen) the holders
    added last are looked at.

    Returns:
        Key of the checkpoint and how many of the (distinct) fingerprints it holds, most first.
    """
    distinct = list(dict.fromkeys(fingerprints))
    holders = {mark: _holders(connection, mark) for mark in distinct}
    candidates: dict[int, None] = {}
    for mark in sorted(distinct, key=lambda mark: len(holders[mark])):
        if holders[mark] and len(candidates) < _CANDIDATES:
            candidates.update(dict.fromkeys(holders[mark]))
    counts: dict[int, int] = defaultdict(int)
    for seq in candidates:
        for at in range(0, len(distinct), 500):
            query = sa.select(sa.func.count()).where(
                tensors.c.fingerprint.in_(distinct[at : at + 500]), tensors.c.checkpoint == seq
            )
            counts[seq] += connection.scalar(query) or 0
    return sorted(counts.items(), key=lambda item: (-item[1], -item[0]))[:limit]


def _holders(connection: sa.Connection, fingerprint: int) -> list[int]:
    """Return the checkpoints that hold a tensor, the last added first, up to a number."""
    query = sa.select(tensors.c.checkpoint).where(tensors.c.fingerprint == fingerprint)
    return list(connection.scalars(query.order_by(tensors.c.checkpoint.desc()).limit(_CANDIDATES)))


def _part(connection: sa.Connection, seqs: Sequence[int], at: int) -> list[CheckpointRow]:
    """Return the checkpoints of 500 keys from ``at`` on, which fall."""
    return by_seq(connection, seqs[at : at + 500])[::-1]


def _one(connection: sa.Connection, query: "sa.Select[tuple[object, ...]]") -> CheckpointRow | None:
    rows = _rows(connection, query)
    return rows[0] if rows else None


def _rows(connection: sa.Connection, query: "sa.Select[tuple[object, ...]]") -> list[CheckpointRow]:
    found = connection.execute(query).mappings().all()
    seqs = [row["seq"] for row in found]
    details = _Details(connection, seqs)
    return [
        CheckpointRow(row["seq"], row["manifest"], row["record"], details.checkpoint(row))
        for row in found
    ]


class _Details:
    """Metrics, tags and versions of a set of checkpoints, three queries for each 500 of them."""

    def __init__(self, connection: sa.Connection, seqs: Sequence[int]) -> None:
        self.metrics: dict[int, dict[str, float]] = defaultdict(dict)
        self.tags: dict[int, list[str]] = defaultdict(list)
        self.versions: dict[int, list[int]] = defaultdict(list)
        for at in range(0, len(seqs), 500):
            part = seqs[at : at + 500]
            query = sa.select(metrics.c.checkpoint, metrics.c.name, metrics.c.value)
            for seq, name, value in connection.execute(query.where(metrics.c.checkpoint.in_(part))):
                self.metrics[seq][name] = value
            labels = sa.select(tags.c.checkpoint, tags.c.name).where(tags.c.checkpoint.in_(part))
            for seq, name in connection.execute(labels.order_by(tags.c.name)):
                self.tags[seq].append(name)
            made = sa.select(versions.c.checkpoint, versions.c.number)
            made = made.where(versions.c.checkpoint.in_(part)).order_by(versions.c.number)
            for seq, number in connection.execute(made):
                self.versions[seq].append(number)

    def checkpoint(self, row: Mapping[str, object] | sa.RowMapping) -> Checkpoint:
        seq = row["seq"]
        assert isinstance(seq, int)  # noqa: S101 - the primary key
        plain = (
            "id step step_source step_variable format bytes stored_bytes tensors content note "
            "builder added_at source example pruned_at"
        )
        fields: dict[str, object] = {name: row[name] for name in plain.split()}
        return Checkpoint(
            **fields,  # type: ignore[arg-type]  # column types are those of the fields
            model=str(row["model_name"]),
            run=str(row["run_name"]),
            metrics=self.metrics[seq],
            tags=tuple(self.tags[seq]),
            meta=json.loads(str(row["meta"])),
            versions=tuple(self.versions[seq]),
            superseded=bool(row["superseded"]) and row["pruned_at"] is None,
        )
