"""The page of an audit."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from mstore.cli.output import Line, Page
from mstore.cli.text import moment, short
from mstore.domain.records import AuditReport, Finding, Json, Verdict, VersionAudit

_STYLES: Mapping[Verdict, str] = MappingProxyType(
    {"proven": "green", "modified": "red", "unknown": "yellow"}
)


def audit_page(report: AuditReport) -> Page:
    """Return the page of ``mstore audit``: for each version its verdict and why."""
    return Page(report.to_json(), _ids(report), tuple(_lines(report)))


def audits_page(reports: Sequence[AuditReport]) -> Page:
    """Return the page of several audits, one after the other."""
    return Page(
        [report.to_json() for report in reports],
        tuple(id_ for report in reports for id_ in _ids(report)),
        tuple(line for report in reports for line in _lines(report)),
    )


def _ids(report: AuditReport) -> tuple[str, ...]:
    return tuple(str(v.checkpoint["id"]) for v in report.versions if v.checkpoint)


def _lines(report: AuditReport) -> Iterator[Line]:
    named = report.target is not None and report.target != report.path
    head = f"{report.target}  {report.path}" if named else report.path
    yield Line(head if report.at is None else f"{head}  at {moment(report.at)}", "bold")
    yield from map(_finding, report.findings)
    for version in report.versions:
        yield from _past(version) if report.at is not None else _version(version)


def _past(audit: VersionAudit) -> Iterator[Line]:
    source = f"  {_name(audit.checkpoint)}" if audit.checkpoint else ""
    yield Line(f"{audit.version:>3}{source}{'  live' if audit.live else ''}")
    yield from _event(audit)


def _event(audit: VersionAudit) -> Iterator[Line]:
    event = audit.deployment
    if event is not None:
        why = f": {event.message}" if event.message else ""
        yield Line(f"     {event.event} {moment(event.at)} by {event.by}{why}")


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
    yield from _event(audit)
    # Checkpoints with equal weights have been named above.
    yield from (_finding(f) for f in audit.findings if f.kind != "equal-weights")


def _name(checkpoint: Json) -> str:
    text = f"{checkpoint.get('model')}/{checkpoint.get('run')}@{checkpoint.get('step')}"
    return f"{text}  checkpoint {short(str(checkpoint.get('id')))}"


def _finding(finding: Finding) -> Line:
    return Line(f"     {finding.kind}: {finding.subject}: {finding.detail}")
