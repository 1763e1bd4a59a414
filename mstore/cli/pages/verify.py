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
    lines += [_line("damage", item, "red") for item in report.findings]
    lines += [_line("note", item, "") for item in report.notes]
    found = len(report.findings)
    lines.append(Line("clean", "green") if report.clean else Line(f"{found} damaged", "red"))
    return Page(report.to_json(), tuple(item.subject for item in report.findings), tuple(lines))


def _line(word: str, item: Finding, style: str) -> Line:
    return Line(f"{word}: {item.kind}: {item.subject}: {item.detail}", style)
