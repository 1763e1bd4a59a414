"""The page of a lint."""

from collections.abc import Iterator, Sequence

from mstore.cli.output import Line, Page
from mstore.domain.lint import LintFinding, LintReport


def doctor_page(reports: Sequence[LintReport]) -> Page:
    """Return the page of ``mstore doctor``: that of a lint for each base path."""
    pages = [lint_page(report) for report in reports]
    return Page(
        [report.to_json() for report in reports],
        tuple(item.kind for report in reports for item in report.all),
        tuple(block for page in pages for block in page.blocks),
    )


def lint_page(report: LintReport) -> Page:
    """Return the page of ``mstore lint``: what was found, and what to do about it."""
    lines = [Line(report.path, "bold"), *_lines(report.findings)]
    for version in report.versions:
        if version.path != report.path:
            live = "  live" if version.live else ""
            lines.append(Line(f"{version.path}{live}", "bold"))
        lines += _lines(version.findings)
    errors = sum(item.severity == "error" for item in report.all)
    warnings = len(report.all) - errors
    style = "red" if errors else "yellow" if warnings else "green"
    found = f"{_count(errors, 'error')}, {_count(warnings, 'warning')}"
    lines.append(Line(found if report.all else "nothing found", style))
    return Page(report.to_json(), tuple(item.kind for item in report.all), tuple(lines))


def _lines(findings: tuple[LintFinding, ...]) -> Iterator[Line]:
    for item in findings:
        style = "red" if item.severity == "error" else "yellow"
        yield Line(f"  {item.severity}: {item.kind}: {item.subject}", style)
        yield Line(f"      {item.detail}")
        yield Line(f"      cure: {item.cure}")


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
