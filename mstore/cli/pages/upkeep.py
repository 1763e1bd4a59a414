"""The pages of what ``mstore fsck`` mends."""

from mstore.cli.output import Line, Page
from mstore.cli.pages.verify import finding_line
from mstore.domain.upkeep import RebuildReport


def rebuild_page(report: RebuildReport) -> Page:
    """Return the page of ``mstore fsck --rebuild``."""
    lines = [
        Line(
            f"made the catalog again: {report.checkpoints} checkpoints, "
            f"{report.versions} versions, {report.events} events, "
            f"from {report.entries} entries of the ledger and {report.packs} packs"
        )
    ]
    if report.adopted:
        lines.append(Line(f"{len(report.adopted)} events were known to packs alone"))
    if report.kept:
        lines.append(Line(f"the old catalog is in {report.kept}"))
    lines += [finding_line("damage", item, "red") for item in report.findings]
    return Page(report.to_json(), report.adopted, tuple(lines))
