"""Find the checkpoint whose weights a directory holds, by content."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mstore.catalog import checkpoints as queries
from mstore.catalog import versions as version_queries
from mstore.catalog.checkpoints import CheckpointRow
from mstore.catalog.engine import reading
from mstore.catalog.versions import VersionRow
from mstore.domain.records import Checkpoint, Deployment, FileRecord, Finding
from mstore.domain.tensors import Tensor
from mstore.formats.tensor_bundle import shard_paths
from mstore.ops.context import Context
from mstore.ops.hashing import version_digest
from mstore.ops.inspect import VARIABLES, Inspection, values
from mstore.ops.stored import StoredTensors, tensor_table

_MOST_CANDIDATES = 8


@dataclass(frozen=True, slots=True)
class Identity:
    """Where the weights of a directory come from.

    Attributes:
        candidates: the checkpoints that hold them, the most likely first; where ``proven`` is
            False, the one they should come from.
        proven: whether every variable is, byte for byte, a tensor of each candidate.
        expected: files as they were published, where the store knows that.
        findings: what led here.
    """

    candidates: tuple[Checkpoint, ...]
    proven: bool
    expected: tuple[FileRecord, ...] | None
    findings: tuple[Finding, ...] = ()


def identify(context: Context, inspection: Inspection, deployment: Deployment | None) -> Identity:
    """Find the source of a directory's weights in the store."""
    published = _published(context, inspection, deployment)
    variables = values(inspection)
    claimed = _claimed(context, inspection, published)
    holders = _holders(context, inspection, variables, claimed)
    if not holders and published is not None and _as_published(inspection, published):
        return _as_exported(context, inspection, published, variables)
    if not holders:
        return _unproven(context, inspection, published, variables)
    rows = _ordered(holders, published, inspection)
    findings = [
        Finding(
            "equal-weights",
            row.checkpoint.id,
            f"{row.checkpoint.model}/{row.checkpoint.run}@{row.checkpoint.step} holds the very "
            "same weights",
        )
        for row in rows[1:]
    ]
    published = published or _version_of(context, rows, inspection)
    if published is None:
        detail = "not written by this store: the weights are proven, the graph is not vouched for"
        findings.append(Finding("foreign", str(inspection.path), detail))
    return Identity(
        tuple(row.checkpoint for row in rows),
        proven=True,
        expected=published.version.files if published else None,
        findings=tuple(findings),
    )


def _published(
    context: Context, inspection: Inspection, deployment: Deployment | None
) -> VersionRow | None:
    """Return the version that was placed here, or that has exactly these files."""
    with reading(context.engine) as connection:
        if deployment is not None:
            found = version_queries.find_versions(
                connection, model=deployment.model, number=deployment.version, limit=1
            )
        else:
            digest = version_digest(inspection.files.values())
            found = version_queries.find_versions(connection, digest=digest)
            same = [row for row in found if str(row.version.version) == inspection.path.name]
            found = same or found
        if not found and inspection.statement and inspection.statement.digest:
            found = version_queries.find_versions(connection, digest=inspection.statement.digest)
    return found[0] if found else None


def _as_published(inspection: Inspection, published: VersionRow) -> bool:
    """Return whether the files with the variables are, byte for byte, those of a version."""
    folder = f"{VARIABLES.parent}/"
    expected = {f.path: f for f in published.version.files if f.path.startswith(folder)}
    return expected == {p: f for p, f in inspection.files.items() if p.startswith(folder)}


def _as_exported(
    context: Context,
    inspection: Inspection,
    published: VersionRow,
    variables: Sequence[Tensor],
) -> Identity:
    """Rely on the proof of the export, which knows more than the bytes of single tensors.

    Hash tables are written in an order of their own, and variables may have been allowed not to
    come from the checkpoint.
    """
    with reading(context.engine) as connection:
        row = queries.by_seq(connection, [published.checkpoint])[0]
    findings = [
        Finding("as-exported", finding.subject, "is what was exported, and " + finding.detail)
        for finding in _differences(context, row, inspection, variables)
    ]
    return Identity((row.checkpoint,), True, published.version.files, tuple(findings))


def _version_of(
    context: Context, rows: Sequence[CheckpointRow], inspection: Inspection
) -> VersionRow | None:
    """Return a version of these checkpoints that had this very index: then the rest must fit."""
    index = inspection.files.get(f"{VARIABLES}.index")
    with reading(context.engine) as connection:
        for row in rows:
            for number in row.checkpoint.versions:
                found = version_queries.find_versions(
                    connection, model=row.checkpoint.model, number=number
                )
                if index is not None and found and index in found[0].version.files:
                    return found[0]
    return None


def _ordered(
    holders: list[CheckpointRow], published: VersionRow | None, inspection: Inspection
) -> list[CheckpointRow]:
    claimed = inspection.statement.checkpoint_id if inspection.statement else None
    named = published.version.checkpoint if published else claimed

    def rank(row: CheckpointRow) -> tuple[bool, bool, int]:
        return (row.checkpoint.id != named, row.checkpoint.superseded, -row.seq)

    return sorted(holders, key=rank)


def _holders(
    context: Context,
    inspection: Inspection,
    variables: Sequence[Tensor],
    claimed: CheckpointRow | None,
) -> list[CheckpointRow]:
    """Return the checkpoints that hold every variable, compared byte by byte.

    Where very many do, the one that it should come from is among those that are looked at.
    """
    if not variables or inspection.damaged & {tensor.key for tensor in variables}:
        return []
    marks = {tensor.fingerprint for tensor in variables}
    with reading(context.engine) as connection:
        counts = queries.holding(connection, sorted(marks), limit=None)
        full = [seq for seq, count in counts if count == len(marks)]
        full.sort(key=lambda seq: claimed is None or seq != claimed.seq)
        rows = queries.by_seq(connection, full[:_MOST_CANDIDATES])
    return [row for row in rows if _holds(context, row, inspection, variables)]


def _holds(
    context: Context, row: CheckpointRow, inspection: Inspection, variables: Sequence[Tensor]
) -> bool:
    with StoredTensors(context, context.manifest(row.manifest)) as stored:
        by_content = {tensor.content: tensor for tensor in stored.table.values}
        for tensor in variables:
            source = by_content.get(tensor.content)
            if source is None or source.size != tensor.size:
                return False
            if not _equal(inspection, tensor, stored.pieces(source)):
                return False
    return True


def _equal(inspection: Inspection, tensor: Tensor, parts: Iterable[memoryview]) -> bool:
    assert inspection.table is not None  # noqa: S101 - the tensor came from it
    path = shard_paths(inspection.path / VARIABLES, inspection.table.num_shards)[tensor.shard]
    position = tensor.offset
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for part in parts:
            if os.pread(descriptor, len(part), position) != part:
                return False
            position += len(part)
    finally:
        os.close(descriptor)
    return True


def _unproven(
    context: Context,
    inspection: Inspection,
    published: VersionRow | None,
    variables: Sequence[Tensor],
) -> Identity:
    """Name the checkpoint that these weights should come from, and how they differ."""
    claimed = _claimed(context, inspection, published)
    nearest, held = _nearest(context, variables)
    if claimed is None:
        return Identity(
            (), proven=False, expected=None, findings=_nothing(nearest, held, variables)
        )
    findings = _differences(context, claimed, inspection, variables)
    expected = published.version.files if published else None
    return Identity((claimed.checkpoint,), proven=False, expected=expected, findings=findings)


def _claimed(
    context: Context, inspection: Inspection, published: VersionRow | None
) -> CheckpointRow | None:
    with reading(context.engine) as connection:
        if published is not None:
            return queries.by_id(connection, published.version.checkpoint)
        if inspection.statement is not None:
            row = queries.by_id(connection, inspection.statement.checkpoint_id)
            return None if row is None or row.checkpoint.pruned_at else row
    return None


def _nearest(context: Context, variables: Sequence[Tensor]) -> tuple[CheckpointRow | None, int]:
    with reading(context.engine) as connection:
        counts = queries.holding(connection, [t.fingerprint for t in variables], limit=1)
        if not counts:
            return None, 0
        return queries.by_seq(connection, [counts[0][0]])[0], counts[0][1]


def _nothing(
    nearest: CheckpointRow | None, held: int, variables: Sequence[Tensor]
) -> tuple[Finding, ...]:
    if nearest is None:
        return (Finding("no-source", "", "no checkpoint of the store holds any of its variables"),)
    checkpoint = nearest.checkpoint
    name = f"{checkpoint.model}/{checkpoint.run}@{checkpoint.step}"
    distinct = len({tensor.fingerprint for tensor in variables})
    detail = f"the nearest checkpoint holds {held} of its {distinct} distinct variables"
    return (Finding("no-source", name, detail),)


def _differences(
    context: Context,
    row: CheckpointRow,
    inspection: Inspection,
    variables: Sequence[Tensor],
) -> tuple[Finding, ...]:
    """Name each variable that is intact in itself and yet no tensor of the checkpoint."""
    table = tensor_table(context, context.manifest(row.manifest))
    known = {tensor.content for tensor in table.values}
    return tuple(
        Finding(
            "tensor",
            inspection.name(tensor),
            f"is no tensor of the checkpoint {row.checkpoint.id[:12]} that it should come from",
        )
        for tensor in variables
        if tensor.key not in inspection.damaged and tensor.content not in known
    )
