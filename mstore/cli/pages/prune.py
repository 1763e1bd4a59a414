"""The pages of ``mstore prune``."""

from mstore.cli.output import Line, Page
from mstore.cli.pages.checkpoints import metrics_text
from mstore.cli.text import Table, short, size
from mstore.domain.retention import Decision
from mstore.domain.upkeep import PruneReport


def prune_page(report: PruneReport) -> Page:
    """Return the page of a plan or of what was done: each checkpoint, and why it stays or goes."""
    going = "would go" if report.dry_run else "pruned"
    rows = tuple(
        (
            item.checkpoint.run,
            item.checkpoint.step,
            short(item.checkpoint.id),
            size(item.checkpoint.bytes),
            metrics_text(item.checkpoint.metrics),
            going if item.checkpoint.id in report.pruned else "stays",
            _reason(item),
        )
        for item in report.decisions
    )
    headings = ("RUN", "STEP", "ID", "SIZE", "METRICS", "", "WHY")
    table = Table(headings, rows, right=frozenset({"STEP", "SIZE"}))
    return Page(report.to_json(), _ids(report), (table, _summary(report)))


def summary_page(report: PruneReport) -> Page:
    """Return the page of what was done after people saw the plan."""
    return Page(report.to_json(), _ids(report), (_summary(report),))


def question(report: PruneReport) -> str:
    """Return what people are asked."""
    return f"Prune {len(report.pruned)} of {len(report.decisions)} checkpoints?"


def _ids(report: PruneReport) -> tuple[str, ...]:
    return tuple(i.checkpoint.id for i in report.decisions if i.checkpoint.id in report.pruned)


def _reason(item: Decision) -> str:
    if item.stays:
        return ", ".join((*item.rules, *item.needs))
    return "superseded, and nothing needs it" if item.checkpoint.superseded else "no rule keeps it"


def _summary(report: PruneReport) -> Line:
    count, total = len(report.pruned), len(report.decisions)
    if not count:
        return Line(f"nothing to prune: all {total} checkpoints of {_of(report)} stay")
    done = "would prune" if report.dry_run else "pruned"
    text = f"{done} {count} of {total} checkpoints of {_of(report)}, files of {size(report.bytes)}"
    return Line(text if report.dry_run else f"{text}; mstore gc frees what nothing else needs")


def _of(report: PruneReport) -> str:
    return f"{report.model}/{report.run}" if report.run else report.model
