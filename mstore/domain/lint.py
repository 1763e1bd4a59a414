"""What a lint finds: kinds of findings, findings, reports."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from mstore.domain.records import Json

Severity = Literal["error", "warning"]

KINDS: Mapping[str, Severity] = MappingProxyType(
    {
        # the graph
        "big-constants": "warning",
        "big-graph": "warning",
        "custom-op": "error",
        "extra-graph": "warning",
        "file-read": "warning",
        "file-write": "warning",
        "gpu-only-op": "error",
        "graph-too-big": "error",
        "no-restore": "error",
        "no-serve-tag": "error",
        "prints": "warning",
        "python-op": "error",
        "random-op": "warning",
        "table-file": "error",
        "text-op": "warning",
        "unchecked-graph": "warning",
        "xla-op": "error",
        # the signatures
        "fixed-batch": "warning",
        "name-in-rest": "warning",
        "no-common-batch": "warning",
        "no-default-signature": "warning",
        "no-inputs": "warning",
        "no-signatures": "error",
        "rest-dtype": "warning",
        "scalar-input": "warning",
        # the files of a version
        "broken-link": "error",
        "damaged-file": "error",
        "junk-file": "warning",
        "link-outside": "warning",
        "missing-graph": "error",
        "missing-variables": "error",
        "unreadable-file": "error",
        "unreadable-mode": "warning",
        "warmup": "error",
        "warmup-empty": "warning",
        # the base path
        "base-too-high": "error",
        "broken-newest": "error",
        "duplicate-number": "error",
        "file-as-version": "error",
        "inside-version": "error",
        "leftover": "warning",
        "name-not-number": "warning",
        "no-versions": "error",
        "odd-name": "warning",
        "saved-model-in-base": "warning",
        "unservable-number": "error",
        # what is around it: config file, ledger, disk, server
        "config-absent-version": "error",
        "config-base-missing": "warning",
        "config-label-absent": "error",
        "config-label-unlisted": "error",
        "config-names-none": "error",
        "config-no-platform": "error",
        "config-no-versions": "error",
        "config-relative-base": "error",
        "config-unreadable": "error",
        "foreign-version": "warning",
        "missing-version": "error",
        "modified-version": "error",
        "no-space": "warning",
        "not-served": "error",
        "served-from-elsewhere": "warning",
        "server-silent": "error",
        "unfinished": "warning",
    }
)
"""Each kind of finding with its severity.

An error makes TensorFlow Serving refuse a version, fail its requests, or serve another version
than people think. A warning restricts how it can be served or costs something.
"""


@dataclass(frozen=True, slots=True)
class LintFinding:
    """One thing that a lint found.

    Attributes:
        kind: one of `KINDS`; stable.
        subject: the signature, node, file or directory concerned.
        detail: one sentence that says what is the matter.
        cure: what to do about it.
        severity: ``error`` or ``warning``.
    """

    kind: str
    subject: str
    detail: str
    cure: str
    severity: Severity

    def to_json(self) -> Json:
        """Return the JSON object."""
        return {
            "severity": self.severity,
            "kind": self.kind,
            "subject": self.subject,
            "detail": self.detail,
            "cure": self.cure,
        }

    def sentence(self) -> str:
        """Return the finding as one line of text."""
        return f"{self.kind}: {self.subject}: {self.detail}; {self.cure}"


def finding(kind: str, subject: str, detail: str, cure: str) -> LintFinding:
    """Return a finding with the severity of its kind."""
    return LintFinding(kind, subject, detail, cure, KINDS[kind])


@dataclass(frozen=True, slots=True)
class VersionLint:
    """What a lint says of one version directory.

    Attributes:
        version: its number, or None where the directory's name is not one.
        path: the directory.
        findings: errors first.
        live: whether a server with the policy ``latest`` would serve it.
    """

    version: int | None
    path: str
    findings: tuple[LintFinding, ...]
    live: bool = False

    def to_json(self) -> Json:
        """Return the JSON object."""
        return {
            "version": self.version,
            "path": self.path,
            "findings": [item.to_json() for item in self.findings],
            "live": self.live,
        }


@dataclass(frozen=True, slots=True)
class LintReport:
    """What a lint says of a base path, a version directory or a SavedModel.

    Attributes:
        path: what was looked at.
        versions: one entry for each version directory.
        findings: what concerns the base path itself.
    """

    path: str
    versions: tuple[VersionLint, ...]
    findings: tuple[LintFinding, ...] = ()

    @property
    def all(self) -> tuple[LintFinding, ...]:
        """Every finding, the base path's first."""
        return (*self.findings, *(item for v in self.versions for item in v.findings))

    def failed(self, *, strict: bool = False) -> bool:
        """Return whether there is an error, or with ``strict`` anything at all."""
        return any(strict or item.severity == "error" for item in self.all)

    def to_json(self) -> Json:
        """Return the JSON object."""
        return {
            "path": self.path,
            "versions": [version.to_json() for version in self.versions],
            "findings": [item.to_json() for item in self.findings],
        }
