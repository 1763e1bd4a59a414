"""The page of a verification."""

from mstore.cli.output import Line, Page
from mstore.cli.text import size
from mstore.domain.records import Finding, VerifyReport


def verify_page(report: VerifyReport) -> Page:
    """Return the page of ``mstore verify``."""
    counts = (
        f"{report.packs} packs, {report.objects} objects, {report.checkpoints} checkpoints, "
        f"{report.versions} versions, {size(report.bytes)} read"
    )
    lines = [Line(counts)]
    lines += [finding_line("damage", item, "red") for item in report.findings]
    lines += [finding_line("note", item, "") for item in report.notes]
    found = len(report.findings)
    lines.append(Line("clean", "green") if report.clean else Line(f"{found} damaged", "red"))
    return Page(report.to_json(), tuple(item.subject for item in report.findings), tuple(lines))


def finding_line(word: str, item: Finding, style: str) -> Line:
    """Return one line for a finding."""
    return Line(f"{word}: {item.kind}: {item.subject}: {item.detail}", style)
