"""Pages of programs."""

from collections.abc import Iterator, Sequence

from mstore.cli.output import Line, Page
from mstore.cli.pages.versions import signature_lines
from mstore.cli.text import Table, moment, short
from mstore.domain.programs import Program


def programs_page(programs: Sequence[Program]) -> Page:
    """Return the page of ``mstore list --programs``."""
    rows = tuple(
        (
            short(item.id),
            item.model,
            "yes" if item.linkable else "no",
            item.tensors,
            item.builder.get("spec") or "",
            moment(item.recorded_at),
            item.reason or "",
        )
        for item in programs
    )
    headings = ("PROGRAM", "MODEL", "LINKABLE", "VARIABLES", "BUILDER", "RECORDED", "REASON")
    return Page(
        [item.to_json() for item in programs],
        tuple(item.id for item in programs),
        (Table(headings, rows, right=frozenset({"VARIABLES"})),),
    )


def program_page(program: Program) -> Page:
    """Return the page of ``mstore show`` for a program."""
    lines = [Line(f"program {program.id}", "bold"), *map(Line, _facts(program))]
    return Page(program.to_json(), (program.id,), tuple(lines))


def _facts(item: Program) -> Iterator[str]:
    yield f"  of {item.model}, first made from checkpoint {item.checkpoint}"
    yield "  linkable" if item.linkable else f"  not linkable: {item.reason}"
    yield f"  variables {item.tensors}"
    yield from signature_lines(item.signatures)
    yield f"  structure {item.structure}"
    yield f"  recorded {moment(item.recorded_at)} with " + ", ".join(
        f"{name} {value}" for name, value in sorted(item.environment.items())
    )
    for name, value in sorted((*item.builder.items(), *item.parameters.items())):
        if value not in (None, [], {}, ""):
            yield f"  builder {name}: {value}"
    yield from (f"  {sha256}  {path}" for path, sha256 in sorted(item.code.items()))
    yield from (f"  warning: {text}" for text in item.warnings)
