"""Add a checkpoint: bytes first, catalog last."""

import functools
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import sqlalchemy as sa

from mstore import disk
from mstore.catalog import checkpoints as queries
from mstore.catalog import damage, liveness
from mstore.catalog import objects as object_queries
from mstore.catalog import versions as ledger
from mstore.catalog.checkpoints import CheckpointRow
from mstore.catalog.engine import reading, writing
from mstore.domain.canonical import canonical
from mstore.domain.names import check_name, check_tag
from mstore.domain.records import Checkpoint, Event
from mstore.domain.tensors import TensorTable
from mstore.errors import ConflictError, DamagedFileError, InputError, UsageError
from mstore.formats.detect import step_in_name
from mstore.formats.layout import Layout
from mstore.objects.ingest import Source, ingest
from mstore.objects.manifest import Manifest
from mstore.objects.packs import CHUNK, MANIFEST, RECORD, PackWriter, object_id
from mstore.ops.context import Context, now, whoami
from mstore.ops.heal import Healing, heal
from mstore.ops.opened import OpenCheckpoint
from mstore.ops.reliance import gone
from mstore.ops.tag import tag_checkpoint

DEFAULT_RUN = "default"
"""Name of the run when none is given."""


@dataclass(frozen=True, slots=True)
class AddOptions:
    """What is said of a checkpoint when it is added.

    Attributes:
        model: name of the model.
        run: name of the training run.
        step: training step, or None to read it from the checkpoint.
        metrics: name to finite value.
        tags: names for it.
        meta: free text by key.
        note: free text.
        builder: ``FILE.py:NAME`` or ``package.module:NAME`` that rebuilds the model.
        replace: whether another content for the same run and step is superseded.
        example: a golden example, as `mstore.convert.examples.to_bytes` writes it.
    """

    model: str
    run: str = DEFAULT_RUN
    step: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    meta: Mapping[str, str] = field(default_factory=dict)
    note: str | None = None
    builder: str | None = None
    replace: bool = False
    example: bytes | None = None

    def __post_init__(self) -> None:
        """Check the names and numbers.

        Raises:
            UsageError: one of them cannot be used.
        """
        check_name("model", self.model)
        check_name("run", self.run)
        for name in self.tags:
            check_tag(name)
        if self.step is not None and not 0 <= self.step < 2**63:
            raise UsageError(f"a step is a number from 0 to 2^63-1, not {self.step}")
        for name, value in self.metrics.items():
            if not -float("inf") < value < float("inf"):
                raise UsageError(f"metric {name} is {value}; only finite numbers can be compared")


def add(
    context: Context, opened: OpenCheckpoint, options: AddOptions, *, may_vanish: bool = False
) -> Checkpoint:
    """Add an open checkpoint to the store.

    Args:
        context: the store.
        opened: the checkpoint.
        options: what is said of it.
        may_vanish: whether it is fine that the files are deleted meanwhile.

    Returns:
        The checkpoint; ``new`` is False if the store had it already.

    Raises:
        ConflictError: the run has another content at this step.
        DamagedFileError: a tensor does not have its CRC32C.
        InputError: no step can be found, or the files changed meanwhile.
    """
    step = _step(opened, options)
    disk.sweep(context.tmp)
    found = None
    while found is None:
        found = _attempt(context, opened, options, step, may_vanish=may_vanish)
    return found if found.new else _again(context, found, options)


def _attempt(
    context: Context,
    opened: OpenCheckpoint,
    options: AddOptions,
    step: tuple[int, str, str | None],
    *,
    may_vanish: bool,
) -> Checkpoint | None:
    """Read the files and commit what is new; None where gc dropped what they have in common."""
    with reading(context.engine) as connection:
        taken = bool(queries.at_step(connection, options.model, options.run, step[0]))
        parent = queries.head(connection, options.model)
        hurt = bool(damage.noted(connection))
    with (
        disk.os_errors(f"adding {opened.path} failed"),
        disk.work_directory(context.tmp) as work,
        ExitStack() as stack,
    ):
        # Where the step is taken, nothing can be stored: find out whether it is the same content.
        writer = None
        if not taken or options.replace or hurt:
            writer = PackWriter(work)
            stack.callback(writer.close)
        context.progress.start(f"adding {opened.path.name}", opened.size)
        stack.callback(context.progress.finish)
        try:
            manifest = opened.take(functools.partial(_ingest, context, writer), work)
        except DamagedFileError:
            # A file that is being rewritten looks damaged; say what is really the matter.
            opened.ensure_unchanged()
            raise
        if not may_vanish:
            opened.ensure_unchanged()
        draft = _draft(opened, options, manifest, step)
        table = manifest.tensors or opened.layout.table
        basename = opened.layout.prefix.name
        return _Adding(context, options, manifest, draft, basename, parent).commit(writer, table)


def _ingest(context: Context, writer: PackWriter | None, sources: list[Source]) -> Manifest:
    return ingest(sources, writer, context.known, context.progress)


def _again(context: Context, found: Checkpoint, options: AddOptions) -> Checkpoint:
    """Answer for a checkpoint that was there already: give it new tags, refuse other metrics."""
    _ensure_same_metrics(found, options)
    for name in sorted(set(options.tags) - set(found.tags)):
        with reading(context.engine) as connection:
            row = queries.by_id(connection, found.id)
        assert row is not None  # noqa: S101 - it was found just now
        found = tag_checkpoint(context, row, name)
    return found


def _ensure_same_metrics(found: Checkpoint, options: AddOptions) -> None:
    other = {k: v for k, v in options.metrics.items() if found.metrics.get(k) != v}
    if other:
        state = (
            "was in the store before it was pruned"
            if found.pruned_at
            else "is already in the store"
        )
        raise ConflictError(
            f"{found.model}/{found.run}@{found.step} {state}, with other metrics: "
            + ", ".join(f"{k} is {found.metrics.get(k)}, not {v}" for k, v in other.items()),
            hint="what was recorded stays as it is; add it to another run (--run NAME) if need be",
        )


def _step(opened: OpenCheckpoint, options: AddOptions) -> tuple[int, str, str | None]:
    if options.step is not None:
        return options.step, "option", None
    step = opened.layout.step
    if step is not None:
        return step[0], "variable", step[1]
    number = step_in_name(opened.layout.prefix)
    if number is None:
        raise InputError(
            f"the training step of {opened.path} cannot be found: it has no variable 'step', "
            "'global_step' or optimizer iterations, and no number in its name",
            hint="give it: --step N",
        )
    return number, "name", None


def checkpoint_id(model: str, run: str, step: int, content: str) -> str:
    """Return the content id of a checkpoint: BLAKE3 of these four as canonical JSON, in hex."""
    body = {"content": content, "model": model, "run": run, "step": step}
    return object_id(canonical(body)).hex()


def _draft(
    opened: OpenCheckpoint,
    options: AddOptions,
    manifest: Manifest,
    step: tuple[int, str, str | None],
) -> Checkpoint:
    content = opened.content(manifest)
    layout = opened.layout
    return Checkpoint(
        id=checkpoint_id(options.model, options.run, step[0], content),
        model=options.model,
        run=options.run,
        step=step[0],
        step_source=step[1],
        step_variable=step[2],
        format=layout.format,
        bytes=opened.size,
        stored_bytes=0,
        tensors=len(layout.table.values),
        content=content,
        metrics=dict(options.metrics),
        tags=tuple(sorted(set(options.tags))),
        meta=dict(options.meta),
        note=options.note,
        builder=options.builder,
        added_at=now(),
        source=os.path.abspath(_source(layout)),  # noqa: PTH100 - Path.absolute keeps ".."
        new=True,
    )


def _source(layout: Layout) -> Path:
    """Return the path by which people know the checkpoint: its only file, else the prefix."""
    return layout.path(layout.files[0]) if len(layout.files) == 1 else layout.prefix


@dataclass(frozen=True)
class _Adding:
    """The last part of an add: record, pack, one transaction."""

    context: Context
    options: AddOptions
    manifest: Manifest
    draft: Checkpoint
    basename: str
    parent: str | None

    def commit(self, writer: PackWriter | None, table: TensorTable) -> Checkpoint | None:
        if writer is None:
            with reading(self.context.engine) as connection:
                existing = self._existing(connection)
            # Where it was replaced or pruned while we read, the next attempt stores this one.
            return None if existing is None else existing.checkpoint
        data = self.manifest.to_bytes()
        manifest = writer.add(MANIFEST, data).id
        named = self.draft
        if self.options.example is not None:
            named = replace(named, example=writer.add(CHUNK, self.options.example).id.hex())
        record = writer.add(RECORD, self._record(named, manifest)).id
        name = writer.seal()
        draft = replace(named, stored_bytes=writer.size)
        with writing(self.context.engine, in_pack=True) as connection:
            existing = self._existing(connection)
            if existing is not None:
                made = Healing(existing, manifest, record, draft.added_at)
                heal(self.context, connection, made, writer)
                return existing.checkpoint
            if gone(connection, self.manifest, writer.entries):
                return None
            writer.publish(self.context.packs)
            object_queries.add_pack(
                connection, name, writer.size, writer.entries.values(), draft.added_at
            )
            return self._insert(connection, draft, manifest, record, table)

    def _existing(self, connection: sa.Connection) -> CheckpointRow | None:
        """Return the same checkpoint if it is there; refuse another content unless replacing."""
        for row in queries.at_step(connection, self.draft.model, self.draft.run, self.draft.step):
            if row.checkpoint.id == self.draft.id:
                return row
            if not self.options.replace:
                raise self._conflict(row)
        replaced = queries.by_id(connection, self.draft.id)
        if replaced is not None:  # it comes back, as it was
            _ensure_same_metrics(replaced.checkpoint, self.options)
        return None

    def _conflict(self, row: CheckpointRow) -> ConflictError:
        draft = self.draft
        where = f" ({draft.step_variable})" if draft.step_variable else ""
        other = f" {row.checkpoint.id[:12]}"
        return ConflictError(
            f"{draft.model}/{draft.run} already has another checkpoint{other} at step {draft.step} "
            f"(step read from the {draft.step_source}{where})",
            hint="give another run (--run NAME) or step (--step N), or --replace to supersede it",
        )

    def _insert(
        self,
        connection: sa.Connection,
        draft: Checkpoint,
        manifest: bytes,
        record: bytes,
        table: TensorTable,
    ) -> Checkpoint:
        replaced = queries.at_step(connection, draft.model, draft.run, draft.step)
        for row in replaced:
            queries.supersede(connection, row.seq)
        earlier = queries.by_id(connection, draft.id)
        marks = (tensor.fingerprint for tensor in table.values)
        if earlier is None:
            seq = queries.insert_checkpoint(
                connection, draft, manifest=manifest, record=record, fingerprints=marks
            )
        else:  # it had been replaced or pruned, and comes back
            seq = earlier.seq
            example = earlier.checkpoint.example
            if earlier.checkpoint.pruned_at is None:
                queries.restore(connection, seq)
            else:
                again = liveness.Again(manifest, record, marks, draft.example)
                example = liveness.bring_back(connection, earlier, again)
            draft = replace(
                earlier.checkpoint, superseded=False, pruned_at=None, example=example, new=True
            )
        model = queries.ensure_model(connection, draft.model)
        for name in self.options.tags:
            queries.set_tag(connection, model, name, seq)
        event = Event(
            id=record.hex(),
            event="replaced" if replaced else "added",
            model=draft.model,
            at=self.draft.added_at,
            by=whoami(),
            checkpoint=draft.id,
            run=draft.run,
            step=draft.step,
            version=None,
            path=draft.source,
            message=draft.note,
        )
        ledger.insert_event(connection, event, checkpoint=seq)
        return draft

    def _record(self, draft: Checkpoint, manifest: bytes) -> bytes:
        body = draft.to_json()
        for derived in ("versions", "superseded", "stored_bytes", "pruned_at"):
            del body[derived]
        return canonical(
            {
                "type": "mstore/checkpoint/1",
                "checkpoint": body,
                "basename": self.basename,
                "manifest": manifest.hex(),
                "replace": self.options.replace,
                "by": whoami(),
                "parent": self.parent,
            }
        )
