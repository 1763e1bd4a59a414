"""The pages of what ``mstore fsck`` mends and ``mstore gc`` removes."""

from mstore.cli.output import Line, Page
from mstore.cli.pages.verify import damage_line, finding_line
from mstore.cli.text import size
from mstore.domain.upkeep import GcReport, RebuildReport, RepairReport


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


def repair_page(report: RepairReport) -> Page:
    """Return the page of ``mstore fsck --repair``."""
    would = "would be " if report.dry_run else ""
    lines = [
        Line(f"{would}mended: {item.kind} {item.id[:12]} from {item.origin}")
        for item in report.mended
    ]
    lines += [Line(f"{would}put aside: pack {name}") for name in report.quarantined]
    lines += [
        Line(f"{would}forgotten: program {id_[:12]}; the next export records it again")
        for id_ in report.dropped
    ]
    if report.ledger:
        lines.append(Line(f"the ledger {would or 'was '}begun anew"))
    lines += [damage_line(item) for item in report.lost]
    lines += [Line(f"do: {step}") for step in report.advice]
    lost = len(report.lost)
    lines.append(Line(f"{lost} lost", "red") if lost else Line("clean", "green"))
    return Page(report.to_json(), tuple(item.id for item in report.mended), tuple(lines))


def gc_page(report: GcReport) -> Page:
    """Return the page of ``mstore gc``."""
    would = "would remove" if report.dry_run else "removed"
    lines = [
        Line(f"{would} {len(report.removed)} packs that nothing refers to, {size(report.bytes)}")
    ]
    if report.young:
        lines.append(Line(f"{report.young} more were written too lately; see --grace"))
    if report.rewritten:
        about, verb = ("about ", "would pack") if report.dry_run else ("", "packed")
        lines.append(
            Line(
                f"{verb} {report.rewritten} packs, {size(report.before)} to {about}"
                f"{size(report.after)}; {about}{report.deltas} chunks are differences to newer ones"
            )
        )
    if report.reclaimed:
        would = "would drop" if report.dry_run else "dropped"
        lines.append(
            Line(
                f"{would} {report.dropped} objects that nothing is made of, from "
                f"{len(report.reclaimed)} packs, {size(report.freed)}"
            )
        )
    if report.lately:
        text = f"{report.lately} checkpoints were pruned too lately for their bytes to go"
        lines.append(Line(f"{text}; see --grace"))
    lines += [
        Line(f"pack {name} is damaged and stays as it is; run: mstore verify", "red")
        for name in report.damaged
    ]
    if report.blocked:
        lines.append(Line(f"{report.blocked}; run: mstore verify", "red"))
    return Page(report.to_json(), report.removed, tuple(lines))
