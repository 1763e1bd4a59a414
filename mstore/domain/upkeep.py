"""What the upkeep of a store returns: its catalog made again, its damage mended."""

from dataclasses import dataclass

from mstore.domain.records import Finding, Json


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
