"""What the upkeep of a store returns: what is damaged, its catalog made again, what was mended."""

from dataclasses import dataclass

from mstore.domain.records import Finding, Json
from mstore.domain.retention import Decision


@dataclass(frozen=True, slots=True)
class Damage:
    """One object or pack that is damaged or missing, and what needs it.

    Attributes:
        id: id of the object, or name of the pack.
        kind: ``chunk``, ``manifest``, ``record`` or ``pack``; a pack's own index is meant.
        pack: the pack it is in.
        offset: its first byte there.
        detail: what is the matter.
        checkpoints: ids of the checkpoints that need it.
        versions: versions that need it, as references.
        programs: ids of the programs that need it.
        base: id of the object that it is a difference to, where that is damaged or missing and it
            is sound itself.
    """

    id: str
    kind: str
    pack: str
    offset: int
    detail: str
    checkpoints: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    base: str | None = None

    def to_json(self) -> Json:
        """Return the JSON object."""
        return {
            "id": self.id,
            "kind": self.kind,
            "pack": self.pack,
            "offset": self.offset,
            "detail": self.detail,
            "checkpoints": list(self.checkpoints),
            "versions": list(self.versions),
            "programs": list(self.programs),
            "base": self.base,
        }


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a verification of the store found.

    Attributes:
        packs: packs read.
        objects: objects checked against their ids.
        bytes: bytes read.
        checkpoints: checkpoints whose files are complete.
        versions: versions whose files are complete.
        findings: damage; each makes the store unsound.
        notes: what is harmless, such as packs that nothing refers to.
        damaged: each object that is damaged or missing, with what needs it.
        advice: what to do, a line for each step; empty where nothing is damaged.
        subset: which part of the packs' data was read, ``(1, 4)`` for the first quarter.
    """

    packs: int
    objects: int
    bytes: int
    checkpoints: int
    versions: int
    findings: tuple[Finding, ...]
    notes: tuple[Finding, ...] = ()
    damaged: tuple[Damage, ...] = ()
    advice: tuple[str, ...] = ()
    subset: tuple[int, int] = (1, 1)

    @property
    def clean(self) -> bool:
        """Whether nothing is damaged or missing."""
        return not self.findings

    def to_json(self) -> Json:
        """Return the JSON object."""
        return {
            "clean": self.clean,
            "packs": self.packs,
            "objects": self.objects,
            "bytes": self.bytes,
            "checkpoints": self.checkpoints,
            "versions": self.versions,
            "findings": [finding.to_json() for finding in self.findings],
            "notes": [note.to_json() for note in self.notes],
            "damaged": [item.to_json() for item in self.damaged],
            "advice": list(self.advice),
            "subset": list(self.subset),
        }


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What came of making the catalog again.

    Attributes:
        entries: entries of the ledger that were replayed.
        packs: packs whose objects are known again.
        objects: objects in them.
        checkpoints: checkpoints of the new catalog.
        versions: versions of the new catalog.
        events: events of the new catalog.
        adopted: ids of events that only packs knew.
        kept: where the old catalog was put, or None where there was none.
        findings: what could not be made again.
    """

    entries: int
    packs: int
    objects: int
    checkpoints: int
    versions: int
    events: int
    adopted: tuple[str, ...]
    kept: str | None
    findings: tuple[Finding, ...]

    @property
    def complete(self) -> bool:
        """Whether nothing is known to be missing."""
        return not self.findings

    def to_json(self) -> Json:
        """Return the JSON object."""
        return {
            "complete": self.complete,
            "entries": self.entries,
            "packs": self.packs,
            "objects": self.objects,
            "checkpoints": self.checkpoints,
            "versions": self.versions,
            "events": self.events,
            "adopted": list(self.adopted),
            "kept": self.kept,
            "findings": [finding.to_json() for finding in self.findings],
        }


@dataclass(frozen=True, slots=True)
class Mended:
    """An object that was damaged and is good again; ``origin`` says where its bytes came from."""

    id: str
    kind: str
    origin: str

    def to_json(self) -> Json:
        """Return the JSON object."""
        return {"id": self.id, "kind": self.kind, "origin": self.origin}


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What came of a repair.

    Attributes:
        mended: what is good again.
        lost: what nobody has, with what needs it.
        quarantined: packs that were put aside; their sound objects are in a new one.
        dropped: ids of programs that are recorded again by the next export.
        ledger: whether the ledger was begun anew.
        advice: what to do about the rest, a line for each step.
        dry_run: whether nothing was changed.
    """

    mended: tuple[Mended, ...]
    lost: tuple[Damage, ...]
    quarantined: tuple[str, ...]
    dropped: tuple[str, ...]
    ledger: bool
    advice: tuple[str, ...]
    dry_run: bool

    @property
    def clean(self) -> bool:
        """Whether the store is sound now, or would be."""
        return not self.lost and not self.advice

    def to_json(self) -> Json:
        """Return the JSON object."""
        return {
            "clean": self.clean,
            "mended": [item.to_json() for item in self.mended],
            "lost": [item.to_json() for item in self.lost],
            "quarantined": list(self.quarantined),
            "dropped": list(self.dropped),
            "ledger": self.ledger,
            "advice": list(self.advice),
            "dry_run": self.dry_run,
        }


@dataclass(frozen=True, slots=True)
class PruneReport:
    """Which checkpoints of a model went, or would go, and why the others stay.

    Attributes:
        model: name of the model.
        run: the run that was looked at, or None for all.
        rules: the rules, as options.
        decisions: one for each checkpoint that was looked at, the last added first.
        pruned: ids of the checkpoints that went.
        event: id of the event in the ledger, or None where nothing was pruned.
        warnings: rules that are likely slips of the hand.
        dry_run: whether nothing was changed.
    """

    model: str
    run: str | None
    rules: tuple[str, ...]
    decisions: tuple[Decision, ...]
    pruned: frozenset[str]
    event: str | None
    warnings: tuple[str, ...]
    dry_run: bool

    @property
    def bytes(self) -> int:
        """Size of the files of the checkpoints that went."""
        items = (item.checkpoint for item in self.decisions)
        return sum(item.bytes for item in items if item.id in self.pruned)

    def to_json(self) -> Json:
        """Return the JSON object; ``reasons`` are the rules and needs that keep a checkpoint."""
        return {
            "model": self.model,
            "run": self.run,
            "rules": list(self.rules),
            "pruned": [i.checkpoint.id for i in self.decisions if i.checkpoint.id in self.pruned],
            "bytes": self.bytes,
            "event": self.event,
            "warnings": list(self.warnings),
            "dry_run": self.dry_run,
            "checkpoints": [
                {
                    **item.checkpoint.to_json(),
                    "prune": item.checkpoint.id in self.pruned,
                    "reasons": [*item.rules, *item.needs],
                }
                for item in self.decisions
            ],
        }


@dataclass(frozen=True, slots=True)
class GcReport:
    """What a garbage collection removed and packed.

    Attributes:
        removed: names of packs that nothing referred to.
        bytes: their size.
        young: how many more there are that were written too lately to be removed.
        dry_run: whether they were only counted, and the other numbers estimated.
        rewritten: packs that were written again since they became smaller.
        deltas: chunks that became differences to those of a newer step.
        before: bytes of the rewritten packs before; of a dry run, of what would be tried.
        after: their bytes now.
        damaged: names of packs that stay as they are since something in them is damaged.
        reclaimed: names of packs that were written again without what nothing live is made of, or
            removed where nothing was left.
        dropped: how many objects went with that.
        freed: bytes that these packs take less now.
        lately: how many checkpoints were pruned too lately for their bytes to go.
        blocked: why nothing was dropped, where something needed cannot be read; else empty.
    """

    removed: tuple[str, ...]
    bytes: int
    young: int
    dry_run: bool
    rewritten: int = 0
    deltas: int = 0
    before: int = 0
    after: int = 0
    damaged: tuple[str, ...] = ()
    reclaimed: tuple[str, ...] = ()
    dropped: int = 0
    freed: int = 0
    lately: int = 0
    blocked: str = ""

    def to_json(self) -> Json:
        """Return the JSON object."""
        return {
            "removed": list(self.removed),
            "bytes": self.bytes,
            "young": self.young,
            "dry_run": self.dry_run,
            "rewritten": self.rewritten,
            "deltas": self.deltas,
            "before": self.before,
            "after": self.after,
            "damaged": list(self.damaged),
            "reclaimed": list(self.reclaimed),
            "dropped": self.dropped,
            "freed": self.freed,
            "lately": self.lately,
            "blocked": self.blocked,
        }
