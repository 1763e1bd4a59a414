"""Take up what only packs know: events whose entry in the ledger is lost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Protocol

import sqlalchemy as sa

from mstore.catalog import checkpoints as queries
from mstore.catalog import liveness, objects, targets
from mstore.catalog import versions as ledger
from mstore.catalog.checkpoints import CheckpointRow
from mstore.catalog.programs import insert_program
from mstore.domain.programs import Program
from mstore.domain.records import Checkpoint, Deployment, Event, Finding
from mstore.errors import ConflictError, DamagedStoreError, Error
from mstore.objects.packs import Entry
from mstore.ops.context import Context
from mstore.ops.stored import tensor_table
from mstore.ops.strays import Record, Stray

_ORDER = ("checkpoint", "program", "version", "deployment", "alias", "tag", "prune")
"""Types of records, in the order in which events of the same moment happened."""


class Tally(Protocol):
    """Where the outcome goes."""

    adopted: tuple[str, ...]
    findings: list[Finding]


@dataclass(frozen=True)
class _WithStrays(Context):
    """The store with packs that its catalog does not know yet."""

    strays: Sequence[Stray] = ()

    def locate(self, ids: Sequence[bytes]) -> Mapping[bytes, tuple[str, Entry]]:
        """Return pack and place of each object, those in the strays too."""
        wanted = set(ids)
        found = {
            entry.id: (stray.name, entry)
            for deltas in (True, False)  # whole copies count
            for stray in self.strays
            for entry in stray.entries
            if entry.id in wanted and (entry.base is not None) is deltas
        }
        return {**found, **super().locate(ids)}


@dataclass(frozen=True)
class _Adoption:
    """Puts packs and the events that they record into the catalog."""

    context: Context
    connection: sa.Connection
    tally: Tally
    pruned: set[str] = field(default_factory=set)

    def run(self, strays: Sequence[Stray]) -> None:
        seqs = []
        for stray in strays:
            whole = [entry for entry in stray.entries if entry.base is None]
            seqs.append(objects.add_pack(self.connection, stray.name, stray.size, whole, stray.at))
        for stray, seq in zip(strays, seqs, strict=True):
            deltas = [entry for entry in stray.entries if entry.base is not None]
            objects.add_objects(self.connection, seq, deltas)
        # A pack that gc had written again may be there beside the old one.
        found = {record.id: record for stray in strays for record in stray.records}
        records = list(found.values())
        for record in records:
            if record.type == "prune":
                self.pruned.update(record.body["checkpoints"])
        for record in sorted(records, key=lambda item: (item.at, _rank(item.type), item.id)):
            self._take(record)

    def _take(self, record: Record) -> None:
        take = {
            "checkpoint": self._checkpoint,
            "program": self._program,
            "version": self._version,
            "deployment": self._deployment,
            "tag": self._tag,
            "alias": self._alias,
            "prune": self._prune,
        }.get(record.type)
        try:
            if take is None:
                raise DamagedStoreError("nobody knows how")
            if take(record):
                self.tally.adopted = (*self.tally.adopted, record.id.hex())
        except (Error, KeyError, IndexError, TypeError, ValueError) as error:
            detail = f"this {record.type} cannot be taken up: {error}"
            self.tally.findings.append(Finding("record", record.id.hex(), detail))

    def _checkpoint(self, record: Record) -> bool:
        names = {field.name for field in fields(Checkpoint)}
        given = {key: value for key, value in record.body["checkpoint"].items() if key in names}
        given |= {"tags": tuple(given["tags"]), "stored_bytes": record.size, "versions": ()}
        checkpoint = Checkpoint(**given)
        place = (checkpoint.model, checkpoint.run, checkpoint.step)
        current = queries.at_step(self.connection, *place)
        if any(row.checkpoint.id == checkpoint.id for row in current):
            return False
        for row in current:
            queries.supersede(self.connection, row.seq)
        seq = self._stored(checkpoint, record)
        model = queries.ensure_model(self.connection, checkpoint.model)
        for name in checkpoint.tags:
            queries.set_tag(self.connection, model, name, seq)
        event = _event(record, "replaced" if current else "added", checkpoint)
        event = replace(event, path=checkpoint.source, message=checkpoint.note)
        ledger.insert_event(self.connection, event, checkpoint=seq)
        return True

    def _stored(self, checkpoint: Checkpoint, record: Record) -> int:
        key = bytes.fromhex(record.body["manifest"])
        earlier = queries.by_id(self.connection, checkpoint.id)
        if earlier is None:
            marks = self._fingerprints(key, may_be_gone=checkpoint.id in self.pruned)
            return queries.insert_checkpoint(
                self.connection, checkpoint, manifest=key, record=record.id, fingerprints=marks
            )
        if earlier.checkpoint.pruned_at is None:  # it had been replaced and came back
            queries.restore(self.connection, earlier.seq)
        else:
            marks = self._fingerprints(key, may_be_gone=True)
            again = liveness.Again(key, record.id, marks, checkpoint.example)
            liveness.bring_back(self.connection, earlier, again)
        return earlier.seq

    def _fingerprints(self, manifest: bytes, *, may_be_gone: bool) -> list[int]:
        """Return the fingerprints of a checkpoint's tensors; none if it was pruned and is gone."""
        try:
            table = tensor_table(self.context, self.context.manifest(manifest))
        except DamagedStoreError:
            if not may_be_gone:
                raise
            return []
        return [tensor.fingerprint for tensor in table.values]

    def _program(self, record: Record) -> bool:
        body = record.body
        program = Program.from_json(body["program"])
        queries.ensure_model(self.connection, program.model)
        manifest = bytes.fromhex(body["manifest"])
        insert_program(
            self.connection, program, builder=body["builder"], manifest=manifest, record=record.id
        )
        return False  # a program is no event of its own

    def _version(self, record: Record) -> bool:
        version = ledger.read_version(record.body["version"])
        row = self._of(version.checkpoint)
        if ledger.find_versions(self.connection, model=version.model, number=version.version):
            raise ConflictError(f"{version.model}:{version.version} is there already")
        seq = ledger.insert_version(
            self.connection,
            version,
            checkpoint=row.seq,
            manifest=bytes.fromhex(record.body["manifest"]),
            record=record.id,
        )
        ledger.use_up(self.connection, version.model, version.version)
        event = _event(record, "exported", row.checkpoint)
        event = replace(event, version=version.version, message=record.body["message"])
        ledger.insert_event(self.connection, event, checkpoint=row.seq, version=seq)
        return True

    def _deployment(self, record: Record) -> bool:
        deployment = Deployment(**record.body["deployment"])
        row = self._of(record.body["checkpoint"])
        found = ledger.find_versions(
            self.connection, model=deployment.model, number=deployment.version
        )
        ledger.insert_deployment(
            self.connection, deployment, version=found[0].seq, record=record.id
        )
        event = replace(
            _event(record, deployment.event, row.checkpoint),
            by=deployment.by,
            version=deployment.version,
            path=deployment.path,
            message=deployment.message,
        )
        ledger.insert_event(self.connection, event, checkpoint=row.seq, version=found[0].seq)
        return True

    def _tag(self, record: Record) -> bool:
        row, name = self._of(record.body["checkpoint"]), record.body["tag"]
        model = queries.ensure_model(self.connection, row.checkpoint.model)
        queries.set_tag(self.connection, model, name, row.seq)
        event = replace(_event(record, "tagged", row.checkpoint), message=name)
        ledger.insert_event(self.connection, event, checkpoint=row.seq)
        return True

    def _alias(self, record: Record) -> bool:
        body = record.body
        row = ledger.find_versions(self.connection, model=body["model"], number=body["version"])[0]
        checkpoint = self._of(row.version.checkpoint).checkpoint
        model = queries.ensure_model(self.connection, checkpoint.model)
        targets.set_alias(self.connection, model, body["alias"], row.seq)
        event = _event(record, "aliased", checkpoint)
        event = replace(event, version=row.version.version, message=body["alias"])
        ledger.insert_event(self.connection, event, checkpoint=row.checkpoint, version=row.seq)
        return True

    def _prune(self, record: Record) -> bool:
        body = record.body
        rows = [queries.by_id(self.connection, id_) for id_ in body["checkpoints"]]
        seqs = [row.seq for row in rows if row is not None and row.checkpoint.pruned_at is None]
        event = Event(
            id=record.id.hex(),
            event="pruned",
            model=body["model"],
            at=record.at,
            by=body["by"],
            checkpoint=None,
            run=None,
            step=None,
            version=None,
            path=None,
            message=body["message"],
        )
        key = ledger.insert_event(self.connection, event, checkpoint=None)
        liveness.prune(self.connection, key, dict.fromkeys(seqs), record.at)
        return True

    def _of(self, checkpoint: str) -> CheckpointRow:
        row = queries.by_id(self.connection, checkpoint)
        if row is None:
            raise DamagedStoreError(f"its checkpoint {checkpoint} is not there")
        return row


def adopt(
    context: Context, connection: sa.Connection, strays: Sequence[Stray], tally: Tally
) -> None:
    """Put packs and the events that they record into the catalog, in the order of their times.

    Args:
        context: the store.
        connection: in a transaction.
        strays: the packs.
        tally: is told of each event, and of each that could not be taken up.
    """
    known = _WithStrays(context.root, context.engine, context.progress, strays)
    _Adoption(known, connection, tally).run(_committed(strays))


def _committed(strays: Sequence[Stray]) -> list[Stray]:
    """Leave out versions whose number was given again: their transactions never ended."""
    last: dict[tuple[str, int], bytes] = {}
    for stray in strays:
        for record in stray.records:
            if record.type == "version":
                last[record.body["version"]["model"], record.body["version"]["version"]] = record.id
    return [
        stray
        for stray in strays
        if all(
            last[record.body["version"]["model"], record.body["version"]["version"]] == record.id
            for record in stray.records
            if record.type == "version"
        )
    ]


def _event(record: Record, kind: str, checkpoint: Checkpoint) -> Event:
    return Event(
        id=record.id.hex(),
        event=kind,
        model=checkpoint.model,
        at=record.at,
        by=str(record.body.get("by", "")),
        checkpoint=checkpoint.id,
        run=checkpoint.run,
        step=checkpoint.step,
        version=None,
        path=None,
        message=None,
    )


def _rank(kind: str) -> int:
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER)
