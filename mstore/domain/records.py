"""What the verbs return: frozen records, each with the JSON object that ``--json`` prints."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from mstore.domain.signatures import Signature

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint of the store.

    Attributes:
        id: content id, 64 hex digits, of model, run, step and files.
        model: name of the model.
        run: name of the training run.
        step: training step.
        step_source: ``option``, ``variable`` or ``name``: where the step was read.
        step_variable: the variable it was read from, if it was one.
        format: how the files are laid out, ``tensor-bundle``.
        bytes: size of the files.
        stored_bytes: what adding it wrote to the store.
        tensors: number of tensors, the object graph not counted.
        content: BLAKE3 of the manifest of its files: equal for equal files.
        metrics: name to value.
        tags: names given to it.
        meta: free text by key.
        note: free text.
        builder: the builder recorded with it, or None.
        example: id of the object that holds its golden example, in hex, or None.
        added_at: time, ISO 8601 in UTC.
        source: path prefix it was added from.
        versions: numbers of the versions made of it.
        superseded: whether another content has replaced it for its run and step.
        new: whether the call that returned it stored it.
        pruned_at: when it was pruned, ISO 8601 in UTC, or None; its files are gone or will be.
    """

    id: str
    model: str
    run: str
    step: int
    step_source: str
    step_variable: str | None
    format: str
    bytes: int
    stored_bytes: int
    tensors: int
    content: str
    metrics: Mapping[str, float]
    tags: tuple[str, ...]
    meta: Mapping[str, str]
    note: str | None
    builder: str | None
    added_at: str
    source: str
    versions: tuple[int, ...] = ()
    superseded: bool = False
    new: bool = False
    example: str | None = None
    pruned_at: str | None = None

    def to_json(self, *, with_new: bool = False) -> Json:
        """Return the JSON object; ``new`` is in it only where it means something."""
        body: Json = {
            "id": self.id,
            "model": self.model,
            "run": self.run,
            "step": self.step,
            "step_source": self.step_source,
            "step_variable": self.step_variable,
            "format": self.format,
            "bytes": self.bytes,
            "stored_bytes": self.stored_bytes,
            "tensors": self.tensors,
            "content": self.content,
            "metrics": dict(self.metrics),
            "tags": list(self.tags),
            "meta": dict(self.meta),
            "note": self.note,
            "builder": self.builder,
            "added_at": self.added_at,
            "source": self.source,
            "versions": list(self.versions),
            "superseded": self.superseded,
            "example": self.example,
            "pruned_at": self.pruned_at,
        }
        if with_new:
            body["new"] = self.new
        return body


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file: relative path, size in bytes and SHA-256 in hex."""

    path: str
    size: int
    sha256: str

    def to_json(self) -> Json:
        """Return ``{"path", "size", "sha256"}``."""
        return {"path": self.path, "size": self.size, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class Version:
    """A numbered SavedModel of a model.

    Attributes:
        model: name of the model.
        version: its number.
        checkpoint: id of the checkpoint whose weights it holds.
        run: run of that checkpoint.
        step: step of that checkpoint.
        program: id of the graph and of the map from its variables to checkpoint tensors.
        method: ``trace`` or ``link``.
        signatures: entry points by name.
        tensors: number of variables.
        bytes: size of all files.
        digest: SHA-256 over path, size and SHA-256 of each file but ``assets.extra/mstore.json``.
        aliases: names that point to it.
        checks: ``weights``, ``load`` and ``parity``, each ``proven``, ``passed`` or ``skipped``.
        created_at: time, ISO 8601 in UTC.
        files: every file with its SHA-256.
        builder: the builder and the state of its source.
        environment: versions of what made it.
        warnings: what the conversion wants to be known.
        published: directory it was placed in by the call that returned it, or None.
        parity: of a golden example that came out: ``signature``, ``rows``, ``atol``, ``rtol`` and
            ``largest_difference``.
    """

    model: str
    version: int
    checkpoint: str
    run: str
    step: int
    program: str
    method: Literal["trace", "link"]
    signatures: Mapping[str, Signature]
    tensors: int
    bytes: int
    digest: str
    aliases: tuple[str, ...]
    checks: Mapping[str, str]
    created_at: str
    files: tuple[FileRecord, ...]
    builder: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    published: str | None = None
    parity: Mapping[str, object] = field(default_factory=dict)

    def to_json(self) -> Json:
        """Return the JSON object."""
        return {
            "model": self.model,
            "version": self.version,
            "checkpoint": self.checkpoint,
            "run": self.run,
            "step": self.step,
            "program": self.program,
            "method": self.method,
            "signatures": {name: sig.to_json() for name, sig in sorted(self.signatures.items())},
            "tensors": self.tensors,
            "bytes": self.bytes,
            "digest": self.digest,
            "aliases": list(self.aliases),
            "checks": dict(self.checks),
            "created_at": self.created_at,
            "files": [file.to_json() for file in self.files],
            "builder": dict(self.builder),
            "environment": dict(self.environment),
            "warnings": list(self.warnings),
            "published": self.published,
            "parity": dict(self.parity),
        }

    def at(self, path: str) -> "Version":
        """Return the same version, published in ``path``."""
        return replace(self, published=path)


@dataclass(frozen=True, slots=True)
class Deployment:
    """The event of a version entering or leaving a target.

    Attributes:
        target: name of the target, or the base path of a plain directory.
        path: the version's directory.
        model: name of the model.
        version: its number.
        event: ``promoted`` or ``restored`` when it came; ``rolled-back``, ``retired`` or ``failed``
            when it left.
        at: time, ISO 8601 in UTC.
        by: user and host.
        message: why, or None.
        new: False when the same version was already there and nothing was done.
        served: what the target's server says of it, or None where it was not asked.
    """

    target: str
    path: str
    model: str
    version: int
    event: str
    at: str
    by: str
    message: str | None
    new: bool = True
    served: Mapping[str, object] | None = None

    def repeated(self) -> "Deployment":
        """Return the same event, as the answer to a call that had nothing to do."""
        return replace(self, new=False)

    def to_json(self) -> Json:
        """Return the JSON object; ``served`` is in it only where a server was asked."""
        body: Json = {
            "target": self.target,
            "path": self.path,
            "model": self.model,
            "version": self.version,
            "event": self.event,
            "at": self.at,
            "by": self.by,
            "message": self.message,
            "new": self.new,
        }
        if self.served is not None:
            body["served"] = dict(self.served)
        return body


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the ledger.

    Attributes:
        id: content id of the event's record.
        event: ``added``, ``replaced``, ``tagged``, ``exported``, ``aliased``, ``pruned``, or that
            of a deployment.
        model: name of the model.
        at: time, ISO 8601 in UTC.
        by: user and host.
        checkpoint: id of the checkpoint concerned; None where there may be several.
        run: its run, or None.
        step: its step, or None.
        version: number of the version concerned, or None.
        path: where it was placed or came from, or None.
        message: why, or None.
        pruned: ids of the checkpoints that a ``pruned`` event is about.
    """

    id: str
    event: str
    model: str
    at: str
    by: str
    checkpoint: str | None
    run: str | None
    step: int | None
    version: int | None
    path: str | None
    message: str | None
    pruned: tuple[str, ...] = ()

    def to_json(self) -> Json:
        """Return the JSON object."""
        return {
            "id": self.id,
            "event": self.event,
            "model": self.model,
            "at": self.at,
            "by": self.by,
            "checkpoint": self.checkpoint,
            "run": self.run,
            "step": self.step,
            "version": self.version,
            "path": self.path,
            "message": self.message,
            "pruned": list(self.pruned),
        }


ChangeKind = Literal["added", "removed", "reshaped", "changed", "unchanged"]


@dataclass(frozen=True, slots=True)
class TensorChange:
    """One tensor in a comparison of two tables.

    Attributes:
        kind: what happened to it; ``reshaped`` also covers another dtype.
        name: name of the tensor, the training program's where it is known.
        key: key in the index.
        before: dtype and shape in the first, or None.
        after: dtype and shape in the second, or None.
        bytes: size in the second, or in the first if it was removed.
    """

    kind: ChangeKind
    name: str
    key: str
    before: tuple[str, tuple[int, ...]] | None
    after: tuple[str, tuple[int, ...]] | None
    bytes: int

    def to_json(self) -> Json:
        """Return the JSON object; dtype and shape are null on the side where it is absent."""
        return {
            "kind": self.kind,
            "name": self.name,
            "key": self.key,
            "before": _typed(self.before),
            "after": _typed(self.after),
            "bytes": self.bytes,
        }


def _typed(value: tuple[str, tuple[int, ...]] | None) -> Json | None:
    return None if value is None else {"dtype": value[0], "shape": list(value[1])}


@dataclass(frozen=True, slots=True)
class Diff:
    """Two checkpoints compared, tensor by tensor.

    Attributes:
        a: the first.
        b: the second.
        changes: all tensors of both, in name order.
    """

    a: Checkpoint
    b: Checkpoint
    changes: tuple[TensorChange, ...]

    def count(self, kind: ChangeKind) -> int:
        """Return how many tensors had that change."""
        return sum(change.kind == kind for change in self.changes)

    def to_json(self) -> Json:
        """Return ``{"a", "b", "summary", "tensors"}``."""
        kinds: tuple[ChangeKind, ...] = ("added", "removed", "reshaped", "changed", "unchanged")
        return {
            "a": self.a.to_json(),
            "b": self.b.to_json(),
            "summary": {kind: self.count(kind) for kind in kinds},
            "tensors": [change.to_json() for change in self.changes],
        }


@dataclass(frozen=True, slots=True)
class Checkout:
    """The files of a checkpoint, written out.

    Attributes:
        checkpoint: which one.
        prefix: path to give to TensorFlow.
        files: what was written.
    """

    checkpoint: Checkpoint
    prefix: str
    files: tuple[FileRecord, ...]

    def to_json(self) -> Json:
        """Return the JSON object."""
        return {
            "checkpoint": self.checkpoint.id,
            "prefix": self.prefix,
            "files": [file.to_json() for file in self.files],
        }


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing an audit or a verification found.

    Attributes:
        kind: short stable word.
        subject: the file, tensor, object or directory concerned.
        detail: what is the matter with it.
    """

    kind: str
    subject: str
    detail: str

    def to_json(self) -> Json:
        """Return the JSON object."""
        return {"kind": self.kind, "subject": self.subject, "detail": self.detail}


Verdict = Literal["proven", "modified", "unknown"]


@dataclass(frozen=True, slots=True)
class VersionAudit:
    """What an audit says of one version directory.

    Attributes:
        version: its number, or None where the directory's name is not one.
        path: the directory.
        verdict: ``proven``, ``modified`` or ``unknown``.
        basis: ``catalog`` where a store answered, ``statement`` where only the directory's own
            ``assets.extra/mstore.json`` could be asked, ``ledger`` where it is told of the past,
            None where nothing could be asked.
        checkpoint: where the weights come from, or None.
        candidates: all checkpoints that hold exactly these weights.
        statement: what the directory says of itself, or None.
        deployment: the event that put it there, if the store knows it.
        findings: everything that is not as it should be, and what is worth knowing.
        live: whether a server with the policy ``latest`` serves it.
    """

    version: int | None
    path: str
    verdict: Verdict
    basis: Literal["catalog", "statement", "ledger"] | None
    checkpoint: Json | None
    candidates: tuple[Json, ...]
    statement: Json | None
    deployment: Deployment | None
    findings: tuple[Finding, ...]
    live: bool

    def to_json(self) -> Json:
        """Return the JSON object."""
        return {
            "version": self.version,
            "path": self.path,
            "verdict": self.verdict,
            "basis": self.basis,
            "checkpoint": self.checkpoint,
            "candidates": list(self.candidates),
            "statement": self.statement,
            "deployment": self.deployment.to_json() if self.deployment else None,
            "findings": [finding.to_json() for finding in self.findings],
            "live": self.live,
        }


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit says of a base path or of one version directory.

    Attributes:
        path: what was audited.
        model: name of the model, where all versions agree on one; else None.
        versions: one entry for each version directory.
        findings: what concerns the base path itself.
        target: name of the target that it is of, where it is one's.
        at: the time that is told of, where that is not now: ISO 8601 in UTC.
    """

    path: str
    model: str | None
    versions: tuple[VersionAudit, ...]
    findings: tuple[Finding, ...] = ()
    target: str | None = None
    at: str | None = None

    @property
    def proven(self) -> bool:
        """Whether there is at least one version and all are proven."""
        return bool(self.versions) and all(v.verdict == "proven" for v in self.versions)

    def to_json(self) -> Json:
        """Return the JSON object."""
        return {
            "path": self.path,
            "model": self.model,
            "versions": [version.to_json() for version in self.versions],
            "findings": [finding.to_json() for finding in self.findings],
            "target": self.target,
            "at": self.at,
        }
