"""Pages of targets and of what is in them."""

from collections.abc import Sequence

from mstore.cli.output import Line, Page
from mstore.cli.pages.versions import served_line
from mstore.cli.text import Table, moment
from mstore.domain.records import Json
from mstore.domain.targets import Rollback, Target, TargetState


def targets_page(states: Sequence[TargetState]) -> Page:
    """Return the page of ``mstore target list``."""
    rows = tuple(
        (
            state.site.name,
            state.model or "",
            str(state.site.base),
            state.placed.live or "",
            len(state.placed.present),
            (state.site.target.keep or "all") if state.site.target else "",
            state.site.policy,
            (state.site.target.server or "") if state.site.target else "",
        )
        for state in states
    )
    found = {state.site.name: state.site.target for state in states}
    return Page(
        [target.to_json() for target in found.values() if target is not None],
        tuple(found),
        (
            Table(
                ("TARGET", "MODEL", "BASE PATH", "LIVE", "VERSIONS", "KEEP", "POLICY", "SERVER"),
                rows,
                right=frozenset({"LIVE", "VERSIONS"}),
            ),
        ),
    )


def target_page(target: Target, what: str) -> Page:
    """Return the page of one target and what was done with it."""
    lines = [Line(f"target {target.name}  {what}"), *_models(target)]
    return Page(target.to_json(), (target.name,), tuple(lines))


def _models(target: Target) -> list[Line]:
    return [Line(f"  {model} in {path}") for model, path in sorted(target.paths.items())]


def deployed_page(states: Sequence[TargetState]) -> Page:
    """Return the page of ``mstore list --deployed``: each version that is in a base path now."""
    rows, bodies, ids = [], [], []
    for state in states:
        for number, item in sorted(state.placed.present.items(), reverse=True):
            live = number == state.placed.live
            body: Json = {**item.to_json(), "live": live}
            del body["new"]
            bodies.append(body)
            ids.append(item.path)
            rows.append(
                (
                    item.target,
                    f"{item.model}:{number}",
                    "live" if live else "",
                    item.path,
                    moment(item.at),
                    item.by,
                    item.message or "",
                )
            )
    headings = ("TARGET", "VERSION", "", "PATH", "SINCE", "BY", "MESSAGE")
    return Page(bodies, tuple(ids), (Table(headings, tuple(rows)),))


def rollback_page(done: Rollback) -> Page:
    """Return the page of ``mstore rollback``: what was done and what a server does next."""
    gone = ", ".join(map(str, done.removed))
    came = " was put back and" if done.restored else ""
    says = served_line(done.served)
    head = Line(f"{done.model}:{done.version}  is live again in {done.target}", "bold")
    if done.way == "config":
        came = ", after its files were put back" if done.restored else ""
        by = Line(f"  by the config file, which names it{came}")
        then = Line("  a server that looks at its config loads it, then unloads the others")
        return Page(done.to_json(), (done.path,), (head, by, says or then))
    lines = (
        head,
        Line(f"  by removing the higher numbers:{came} {gone} left"),
        says or Line(f"  a server that polls loads {done.version}, then unloads {done.before}"),
        Line(f"  to go forward again: mstore export to a new number, or promote {done.before}"),
    )
    return Page(done.to_json(), (done.path,), lines)
