"""The page of an audit."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from mstore.cli.output import Line, Page
from mstore.cli.text import moment, short
from mstore.domain.records import AuditReport, Finding, Json, Verdict, VersionAudit

_STYLES: Mapping[Verdict, str] = MappingProxyType(
    {"proven": "green", "modified": "red", "unknown": "yellow"}
)


def audit_page(report: AuditReport) -> Page:
    """Return the page of ``mstore audit``: for each version its verdict and why."""
    lines = [Line(report.path, "bold"), *map(_finding, report.findings)]
    for version in report.versions:
        lines += _version(version)
    ids = tuple(str(v.checkpoint["id"]) for v in report.versions if v.checkpoint)
    return Page(report.to_json(), ids, tuple(lines))


def _version(audit: VersionAudit) -> Iterator[Line]:
    label = audit.path if audit.version is None else str(audit.version)
    live = "  live" if audit.live else ""
    source = f"  {_name(audit.checkpoint)}" if audit.checkpoint else ""
    yield Line(f"{label:>3}  {audit.verdict}{source}{live}", _STYLES[audit.verdict])
    if audit.basis == "statement":
        yield Line("     by the statement in the directory; no store was asked")
    for other in audit.candidates:
        if audit.checkpoint is None or other.get("id") != audit.checkpoint.get("id"):
            yield Line(f"     the same weights: {_name(other)}")
    if audit.deployment is not None:
        event = audit.deployment
        why = f": {event.message}" if event.message else ""
        yield Line(f"     {event.event} {moment(event.at)} by {event.by}{why}")
    # Checkpoints with equal weights have been named above.
    yield from (_finding(f) for f in audit.findings if f.kind != "equal-weights")


def _name(checkpoint: Json) -> str:
    text = f"{checkpoint.get('model')}/{checkpoint.get('run')}@{checkpoint.get('step')}"
    return f"{text}  checkpoint {short(str(checkpoint.get('id')))}"


def _finding(finding: Finding) -> Line:
    return Line(f"     {finding.kind}: {finding.subject}: {finding.detail}")
