"""Look into the store: list, show, log, tensor tables, comparisons."""

from pathlib import Path

import sqlalchemy as sa

from mstore.catalog import checkpoints, programs, versions
from mstore.catalog.checkpoints import CheckpointRow
from mstore.catalog.engine import reading
from mstore.domain.names import looks_like_hash
from mstore.domain.programs import Program
from mstore.domain.records import (
    Checkpoint,
    Deployment,
    Event,
    Version,
)
from mstore.errors import AmbiguousReferenceError, UnknownReferenceError
from mstore.objects.manifest import Manifest
from mstore.ops.context import Context
from mstore.ops.resolve import model_of, resolve, resolve_checkpoint


def list_checkpoints(
    context: Context,
    model: str | None,
    *,
    run: str | None = None,
    limit: int | None = None,
    superseded: bool = False,
    pruned: bool = False,
) -> tuple[Checkpoint, ...]:
    """Return checkpoints, the last added first."""
    if model is not None:
        name, named_run = model_of(model)
        model, run = name, run or named_run
    with reading(context.engine) as connection:
        rows = checkpoints.listing(
            connection,
            model=model,
            run=run,
            limit=limit,
            superseded=superseded,
            pruned=pruned,
        )
    return tuple(row.checkpoint for row in rows)


def list_versions(
    context: Context, model: str | None, *, limit: int | None = None
) -> tuple[Version, ...]:
    """Return versions by model, the highest number first."""
    with reading(context.engine) as connection:
        rows = versions.find_versions(connection, model=model, limit=limit)
    return tuple(row.version for row in rows)


def list_programs(
    context: Context, model: str | None, *, limit: int | None = None
) -> tuple[Program, ...]:
    """Return programs, the last recorded first."""
    with reading(context.engine) as connection:
        rows = programs.find_programs(connection, model=model, limit=limit)
    return tuple(row.program for row in rows)


def list_deployments(
    context: Context, model: str | None, *, limit: int | None = None
) -> tuple[Deployment, ...]:
    """Return deployments, the last first."""
    with reading(context.engine) as connection:
        return tuple(versions.find_deployments(connection, model=model, limit=limit))


def show(context: Context, reference: str) -> Checkpoint | Version | Program:
    """Return the one thing that a reference names; the beginning of an id may be a program's.

    Raises:
        UnknownReferenceError: it names nothing.
        AmbiguousReferenceError: it names more than one thing.
    """
    with reading(context.engine) as connection:
        found = _programs(connection, reference)
        try:
            row = resolve(connection, reference, pruned=True)
        except UnknownReferenceError:
            if not found:
                raise
            row = None
    names = {program.id: program for program in found}
    if row is None and len(names) == 1:
        return found[0]
    if names:
        other = [] if row is None else [reference]
        raise AmbiguousReferenceError(
            f"{reference} could be any of {len(names) + len(other)} things",
            reference=reference,
            candidates=[*other, *names],
            hint="write more digits of the id",
        )
    assert row is not None  # noqa: S101 - resolve raises where it finds nothing
    return row.checkpoint if isinstance(row, CheckpointRow) else row.version


def _programs(connection: sa.Connection, reference: str) -> list[Program]:
    if not looks_like_hash(reference):
        return []
    return [row.program for row in programs.find_programs(connection, prefix=reference)]


def log(context: Context, reference: str | None, *, limit: int | None = None) -> tuple[Event, ...]:
    """Return the ledger, the last event first: of everything, a model, or one thing."""
    with reading(context.engine) as connection:
        if reference is None:
            return tuple(versions.find_events(connection, limit=limit))
        if checkpoints.model_key(connection, reference) is not None:
            return tuple(versions.find_events(connection, model=reference, limit=limit))
        found = resolve(connection, reference, pruned=True)
        if isinstance(found, CheckpointRow):
            events = versions.find_events(connection, checkpoint=found.seq, limit=limit)
        else:
            events = versions.find_events(connection, version=found.seq, limit=limit)
    return tuple(events)


def find_checkpoint(context: Context, reference: str) -> CheckpointRow:
    """Return the checkpoint that a reference names, with its keys."""
    with reading(context.engine) as connection:
        return resolve_checkpoint(connection, reference)


def prefix_name(checkpoint: Checkpoint, manifest: Manifest) -> str:
    """Return the name of the checkpoint's files before their suffixes."""
    name = Path(checkpoint.source).name
    files = manifest.originals
    return name.removesuffix(files[0].path) if len(files) == 1 else name


def place(directory: Path, checkpoint: Checkpoint, manifest: Manifest) -> Path:
    """Return what names a checkpoint whose files are in ``directory``: a prefix, file or directory.

    It is what TensorFlow or Keras wants to be given to restore it.
    """
    name = prefix_name(checkpoint, manifest)
    files = [file.path for file in manifest.originals]
    if checkpoint.format == "weights-json":
        files = [path for path in files if path.endswith(".json")]
    return directory / (name + files[0] if len(files) == 1 else name)
