"""Doctor: all that is wrong with a serving directory, its config file and its server."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mstore.catalog import targets as target_queries
from mstore.catalog.engine import reading
from mstore.domain.lint import LintFinding, LintReport, finding
from mstore.domain.lint_config import lint_entry, missing_base, unreadable_config
from mstore.domain.lint_target import (
    lint_audit,
    lint_ledger,
    lint_server,
    lint_space,
    lint_unfinished,
    silent_server,
)
from mstore.domain.model_configs import ModelEntry
from mstore.domain.places import Base, BucketPath, base_of
from mstore.domain.progress import Progress
from mstore.domain.servers import ServerAddress
from mstore.domain.targets import Site, TargetState
from mstore.errors import Error, InputError
from mstore.ops.audit import audit
from mstore.ops.configuring import live_number
from mstore.ops.context import Context
from mstore.ops.lint import lint
from mstore.ops.targets import paths_of, states
from mstore.serving.model_config import read
from mstore.serving.publish import numbers
from mstore.serving.server import connect

_PATIENCE = 5.0


def doctor(
    context: Context | None,
    where: str,
    *,
    config: Path | None = None,
    progress: Progress | None = None,
) -> tuple[LintReport, ...]:
    """Look at the base paths of a target, or at one directory; nothing is changed.

    Args:
        context: the store, or None where there is none.
        where: name of a target, or a directory.
        config: the server's config file; that of the target if it has one.
        progress: hears of long work.

    Returns:
        A report for each base path: what the lint finds, and what only the ledger, the bytes, the
        config file, the disk and the server can tell.

    Raises:
        InputError: the directory is not there.
        UnknownReferenceError: there is no such target or directory.
    """
    base = base_of(where)
    if context is None:
        return (_report(None, base, None, config, progress),)
    named = paths_of(context, where) is not None or isinstance(base, BucketPath)
    if not named and not Path(where).is_dir():
        states(context, where)  # says that it is no target either, and which there are
        raise InputError(f"{where} does not exist", hint="name a target or a serving directory")
    return tuple(
        _report(context, state.site.base, state, config, progress)
        for state in states(context, where)
    )


def _report(
    context: Context | None,
    base: Base,
    state: TargetState | None,
    config: Path | None,
    progress: Progress | None,
) -> LintReport:
    if isinstance(base, BucketPath):
        raise InputError(
            f"{base} is in a bucket, which is not looked into here",
            hint=f"hold its bytes against the store: mstore audit {base}",
        )
    report = lint(base, progress)
    there = set(numbers(base))
    found: list[LintFinding] = list(lint_space(str(base), _largest(base), _free(base)))
    target = None if state is None else state.site.target
    file = config or (Path(target.config) if target is not None and target.config else None)
    if file is not None:
        found += _lint_config(file, base, None if state is None else state.model)
    if there:
        found += _lint_bytes(base, context, progress)
    if context is not None and state is not None:
        if state.placed.present or target is not None:
            found += lint_ledger(str(base), there, state.placed)
        with reading(context.engine) as connection:
            found += lint_unfinished(str(base), target_queries.intent(connection, str(base)))
        live = _live(state)
        found += _lint_server(state.site, state.model, there, live)
        if target is not None and target.policy == "specific":
            versions = tuple(replace(item, live=item.version == live) for item in report.versions)
            report = replace(report, versions=versions)
    return replace(report, findings=(*report.findings, *found))


def _live(state: TargetState) -> int | None:
    """Return the version that should be served, None where the config file does not say."""
    try:
        return live_number(state.site, state.model or "")
    except InputError:  # a finding of its own
        return None


def _lint_bytes(
    base: Path, context: Context | None, progress: Progress | None
) -> tuple[LintFinding, ...]:
    """Hold the bytes against the store, or without one against the directories' own statements."""
    try:
        return tuple(lint_audit(audit(base, context, progress).versions))
    except InputError as error:  # this user may not read them, which the server may
        cure = "run it as a user who may read them"
        return (finding("unreadable-file", str(base), error.message, cure),)


def _largest(base: Path) -> int:
    sizes = [_size(base / name) for names in numbers(base).values() for name in names]
    return max(sizes, default=0)


def _size(path: Path) -> int:
    return sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())


def _free(base: Path) -> int:
    status = os.statvfs(base)
    return status.f_bavail * status.f_frsize


def _lint_config(file: Path, base: Path, model: str | None) -> Iterator[LintFinding]:
    try:
        entries = read(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, InputError) as error:
        why = str(getattr(error, "message", None) or getattr(error, "strerror", None) or error)
        yield unreadable_config(str(file), why)
        return
    for entry in entries.values():
        place = _place(entry, base, model)
        if place is not None and not os.path.isdir(place):  # noqa: PTH112 - says no, never raises
            yield missing_base(str(file), entry)
            place = None
        yield from lint_entry(str(file), entry, None if place is None else set(numbers(place)))


def _place(entry: ModelEntry, base: Path, model: str | None) -> Path | None:
    """Return where the versions of an entry are on this machine; None where nobody can know."""
    if entry.name == model:
        return base
    path = Path(entry.base_path)
    return path if "://" not in entry.base_path and path.is_absolute() else None


def _lint_server(
    site: Site, model: str | None, there: set[int], live: int | None
) -> Iterator[LintFinding]:
    address = None if site.target is None else site.target.server
    if address is None or model is None:
        return
    try:
        server = connect(ServerAddress.parse(address), _PATIENCE)
        try:
            found = server.status(model)
        finally:
            server.close()
    except Error as error:
        yield silent_server(address, error.message)
        return
    yield from lint_server(address, there, live, found)
