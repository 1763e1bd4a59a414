"""The page of a verification."""

from mstore.cli.output import Line, Page
from mstore.cli.text import size
from mstore.domain.records import Finding
from mstore.domain.upkeep import Damage, VerifyReport


def verify_page(report: VerifyReport) -> Page:
    """Return the page of ``mstore verify``."""
    counts = (
        f"{report.packs} packs, {report.objects} objects, {report.checkpoints} checkpoints, "
        f"{report.versions} versions, {size(report.bytes)} read"
    )
    lines = [Line(counts)]
    lines += [finding_line("damage", item, "red") for item in report.findings]
    lines += [damage_line(item) for item in report.damaged if _users(item)]
    lines += [finding_line("note", item, "") for item in report.notes]
    lines += [Line(f"do: {step}") for step in report.advice]
    found = len(report.findings)
    lines.append(Line("clean", "green") if report.clean else Line(f"{found} damaged", "red"))
    return Page(report.to_json(), tuple(item.subject for item in report.findings), tuple(lines))


def _users(item: Damage) -> list[str]:
    programs = [f"program {id_[:12]}" for id_ in item.programs]
    return [*(id_[:12] for id_ in item.checkpoints), *item.versions, *programs]


def damage_line(item: Damage) -> Line:
    """Return one line for a damaged object: who needs it."""
    names = ", ".join(_users(item))
    return Line(f"needed: {item.kind} {item.id[:12]} is needed by {names}", "red")


def finding_line(word: str, item: Finding, style: str) -> Line:
    """Return one line for a finding."""
    return Line(f"{word}: {item.kind}: {item.subject}: {item.detail}", style)
