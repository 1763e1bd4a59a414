"""Prune: take checkpoints out of the store that no rule keeps and nothing needs.

Only a mark is set; the bytes go with `gc`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from mstore import disk
from mstore.catalog import checkpoints as queries
from mstore.catalog import liveness, objects
from mstore.catalog import versions as ledger
from mstore.catalog.checkpoints import CheckpointRow
from mstore.catalog.engine import reading, writing
from mstore.domain.canonical import canonical
from mstore.domain.records import Event
from mstore.domain.retention import Decision, Rule, decide, warnings_of
from mstore.domain.upkeep import PruneReport
from mstore.errors import DamagedFileError, DamagedStoreError, UnknownReferenceError
from mstore.objects.packs import RECORD, PackWriter
from mstore.ops.context import Context, now, whoami
from mstore.ops.resolve import model_of
from mstore.ops.stored import tensor_table

Marks = Mapping[int, Sequence[int] | None]


@dataclass(frozen=True, slots=True)
class PruneOptions:
    """What is to be pruned.

    Attributes:
        model: name of the model, or ``MODEL/RUN``.
        run: only this run, or None.
        rules: what stays.
        only: ids; no other checkpoint goes. None for no such limit.
        message: why, for the ledger.
    """

    model: str
    run: str | None
    rules: tuple[Rule, ...]
    only: frozenset[str] | None = None
    message: str | None = None


def prune(context: Context, options: PruneOptions, *, dry_run: bool = False) -> PruneReport:
    """Mark the checkpoints of a model that no rule keeps and nothing needs as pruned.

    What is new when the mark is set can keep a checkpoint; nothing goes then that was not to go
    before.

    Raises:
        UsageError: there is no rule, or it is about a metric that no checkpoint has.
        UnknownReferenceError: there is no such model or run.
        SystemIOError: the operating system refused.
    """
    model, run = model_of(options.model)
    if not dry_run:
        disk.sweep(context.tmp)
    work = _Pruning(context, options, model, options.run or run)
    with reading(context.engine) as connection:
        work.ensure_there(connection)
        rows, decisions = work.decide(connection)
    going = work.going(decisions, options.only)
    event = None
    if going and not dry_run:
        marks = _fingerprints(context, [row for row in rows if row.checkpoint.id in going])
        decisions, going, event = work.commit(decisions, going, marks)
    return PruneReport(
        model=model,
        run=work.run,
        rules=tuple(map(str, options.rules)),
        decisions=decisions,
        pruned=going,
        event=event,
        warnings=warnings_of(options.rules),
        dry_run=dry_run,
    )


@dataclass(frozen=True)
class _Pruning:
    context: Context
    options: PruneOptions
    model: str
    run: str | None

    def ensure_there(self, connection: sa.Connection) -> None:
        """Check that there is such a model, and such a run."""
        found = queries.run_names(connection, self.model)
        if found and (self.run is None or self.run in found):
            return
        known = found or queries.model_names(connection)
        what = f"run {self.run!r} of {self.model}" if found else f"model {self.model!r}"
        raise UnknownReferenceError(
            f"the store has no {what}",
            reference=self.options.model,
            candidates=known,
            hint=f"{'runs' if found else 'models'} in the store: {', '.join(known) or 'none yet'}",
        )

    def decide(self, connection: sa.Connection) -> tuple[list[CheckpointRow], tuple[Decision, ...]]:
        """Return all checkpoints that are looked at, and what is to become of each."""
        rows = queries.listing(connection, model=self.model, run=self.run, superseded=True)
        needs = liveness.needs(connection, self.model)
        return rows, decide([row.checkpoint for row in rows], self.options.rules, needs)

    @staticmethod
    def going(decisions: Iterable[Decision], only: frozenset[str] | None) -> frozenset[str]:
        """Return the ids of those that go."""
        ids = frozenset(item.checkpoint.id for item in decisions if not item.stays)
        return ids if only is None else ids & only

    def commit(
        self, decisions: tuple[Decision, ...], going: frozenset[str], marks: Marks
    ) -> tuple[tuple[Decision, ...], frozenset[str], str | None]:
        """Set the marks and write the event; return what was decided then, who went, the event.

        The record names who goes and is sealed before the lock is taken, so it is written anew
        where somebody is needed by then.
        """
        while going:
            with (
                disk.os_errors("recording what was pruned failed"),
                disk.work_directory(self.context.tmp) as directory,
            ):
                writer = PackWriter(directory)
                try:
                    event = self._event(writer, decisions, going)
                    pack = writer.seal()
                    with writing(self.context.engine) as connection:
                        rows, decisions = self.decide(connection)
                        still = self.going(decisions, going)
                        if still == going:
                            keys = [row.seq for row in rows if row.checkpoint.id in going]
                            writer.publish(self.context.packs)
                            entries = writer.entries.values()
                            objects.add_pack(connection, pack, writer.size, entries, event.at)
                            key = ledger.insert_event(connection, event, checkpoint=None)
                            chosen = {seq: marks.get(seq) for seq in keys}
                            liveness.prune(connection, key, chosen, event.at)
                            return decisions, going, event.id
                        going = still
                finally:
                    writer.close()
        return decisions, going, None

    def _event(
        self, writer: PackWriter, decisions: Iterable[Decision], going: frozenset[str]
    ) -> Event:
        """Write the record of the event into a pack and return the event."""
        rules = " ".join(map(str, self.options.rules))
        ids = [item.checkpoint.id for item in decisions if item.checkpoint.id in going]
        with reading(self.context.engine) as connection:
            parent = queries.head(connection, self.model)
        body = {
            "type": "mstore/prune/1",
            "model": self.model,
            "run": self.run,
            "rules": [str(rule) for rule in self.options.rules],
            "checkpoints": ids[::-1],
            "at": now(),
            "by": whoami(),
            "message": f"{self.options.message} ({rules})" if self.options.message else rules,
            "parent": parent,
        }
        key = writer.add(RECORD, canonical(body)).id
        return Event(
            id=key.hex(),
            event="pruned",
            model=self.model,
            at=str(body["at"]),
            by=str(body["by"]),
            checkpoint=None,
            run=None,
            step=None,
            version=None,
            path=None,
            message=str(body["message"]),
        )


def _fingerprints(context: Context, rows: Sequence[CheckpointRow]) -> Marks:
    """Return which tensors checkpoints hold; None for one that cannot be read any more."""
    marks: dict[int, Sequence[int] | None] = {}
    context.progress.start("looking at what goes", sum(row.checkpoint.bytes for row in rows))
    try:
        for row in rows:
            try:
                table = tensor_table(context, context.manifest(row.manifest))
                marks[row.seq] = [tensor.fingerprint for tensor in table.values]
            except (DamagedStoreError, DamagedFileError):
                marks[row.seq] = None
            context.progress.advance(row.checkpoint.bytes)
    finally:
        context.progress.finish()
    return marks
