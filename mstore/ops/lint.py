"""Lint: what would TensorFlow Serving refuse, or serve otherwise than people think?"""

import os
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from mstore.disk import STAGING_PREFIX
from mstore.domain.graphs import Graph
from mstore.domain.lint import KINDS, LintFinding, LintReport, VersionLint, finding
from mstore.domain.lint_base import (
    Child,
    broken_newest,
    by_number,
    file_as_version,
    inside_version,
    lint_base,
    saved_model_in_base,
)
from mstore.domain.lint_files import Entry, Link, lint_files, lint_modes, lint_warmup
from mstore.domain.lint_graph import (
    Libraries,
    Limits,
    lint_graphs,
    needs_variables,
    served_graph,
)
from mstore.domain.progress import NoProgress, Progress
from mstore.domain.serving_names import server_number
from mstore.domain.warmup import WARMUP_PATH
from mstore.errors import DamagedFileError, Error, InputError, LintError, SystemIOError, UsageError
from mstore.formats.graph_walk import read_graphs
from mstore.formats.saved_model import FILE_NAME, MAX_BYTES, variables_prefix
from mstore.formats.tensor_bundle import index_path, read_table
from mstore.formats.warmup import read_warmup
from mstore.serving.known_ops import tensorflow_ops, text_ops
from mstore.serving.publish import numbers

_OTHER_GRAPHS = ("saved_model.pbtxt", "saved_model.cpb")
_INDEX = "variables/variables.index"
_COPY = "copy the version again from where it was made; it may have been copied in part"


def lint(path: Path, progress: Progress | None = None, limits: Limits | None = None) -> LintReport:
    """Look at a base path, a version directory or a SavedModel; nothing is changed.

    Raises:
        InputError: ``path`` is not a directory, or cannot be listed.
    """
    if not path.is_dir():
        what = "is not a directory" if os.path.lexists(path) else "does not exist"
        raise InputError(f"{path} {what}", hint="name a base path or a version directory")
    watcher = progress or NoProgress()
    watcher.start(f"checking {path}", None)
    try:
        return _lint(path, limits or Limits())
    except OSError as error:
        raise InputError(f"{path} cannot be listed: {error.strerror}") from error
    finally:
        watcher.finish()


def _lint(path: Path, limits: Limits) -> LintReport:
    children = [_child(item) for item in sorted(path.iterdir())]
    name = path.resolve().name
    number = server_number(name)
    names = {child.name for child in children}
    holds_versions = any(
        child.is_directory for same in by_number(children).values() for child in same
    )
    if not holds_versions and (_is_saved_model(path) or number is not None):
        return _lint_one(path, number, limits)
    if "variables.index" in names:
        return LintReport(str(path), (), (inside_version(str(path)),))
    return _lint_base(path, children, limits)


def _lint_one(path: Path, number: int | None, limits: Limits) -> LintReport:
    """Look at one version directory, or at a SavedModel that is none."""
    resolved = path.resolve()
    root = resolved if number is None else resolved.parent
    live = number is not None and number == max(numbers(resolved.parent), default=None)
    findings = lint_version(path, root=root, limits=limits)
    base = () if number is not None else (saved_model_in_base(str(path)),)
    return LintReport(str(path), (VersionLint(number, str(path), findings, live),), base)


def _lint_base(path: Path, children: list[Child], limits: Limits) -> LintReport:
    root, numbered = path.resolve(), by_number(children)
    versions = []
    for number, same in sorted(numbered.items()):
        for child in same:
            place = path / child.name
            found = (
                lint_version(place, root=root, limits=limits)
                if child.is_directory
                else (file_as_version(child.name, number),)
            )
            live = number == max(numbered) and child is same[-1]
            versions.append(VersionLint(number, str(place), found, live))
    findings = list(lint_base(str(path), children, STAGING_PREFIX))
    findings += lint_modes([_entry(path, Path(), root)])
    newest = broken_newest(versions[-1]) if versions else None
    return LintReport(
        str(path), tuple(versions), _sorted([*findings, *([newest] if newest else [])])
    )


def _child(path: Path) -> Child:
    if not os.path.isdir(path):  # noqa: PTH112 - as below
        return Child(path.name, False)
    try:
        below = [item.name for item in path.iterdir() if item.is_dir()]
    except OSError:
        below = []
    versions = tuple(name for name in below if server_number(name) is not None)
    return Child(path.name, True, _is_saved_model(path), versions)


def _is_saved_model(path: Path) -> bool:
    # Where this user may not look, os.path says no instead of raising.
    return any(os.path.exists(path / name) for name in (FILE_NAME, *_OTHER_GRAPHS))  # noqa: PTH110


def ensure_servable(path: Path, allowed: Collection[str] = ()) -> tuple[str, ...]:
    """Lint a SavedModel that is about to become a version; return what is worth knowing.

    Args:
        path: the SavedModel's directory; who may read its files is not looked at.
        allowed: kinds of errors to put up with.

    Returns:
        One sentence for each warning and for each error that is allowed.

    Raises:
        LintError: a server could not serve it.
    """
    findings = lint_version(path, root=path.resolve(), limits=Limits(), staged=True)
    stopping = [f for f in findings if f.severity == "error" and f.kind not in allowed]
    if stopping:
        listing = "\n".join(f"  {item.kind}: {item.subject}: {item.detail}" for item in stopping)
        kinds = " ".join(f"--allow-lint {kind}" for kind in sorted({f.kind for f in stopping}))
        raise LintError(
            f"TensorFlow Serving could not serve this SavedModel:\n{listing}",
            findings=[item.to_json() for item in stopping],
            hint=f"{stopping[0].cure}; to export it all the same: {kinds}",
        )
    return tuple(item.sentence() for item in findings)


def known_kinds(kinds: Iterable[str]) -> tuple[str, ...]:
    """Return the kinds as they are.

    Raises:
        UsageError: one of them is no kind of finding.
    """
    chosen = tuple(kinds)
    errors = ", ".join(kind for kind, severity in KINDS.items() if severity == "error")
    for kind in chosen:
        if kind not in KINDS:
            raise UsageError(f"{kind!r} is no kind of finding", hint=f"errors are: {errors}")
    return chosen


def lint_version(
    path: Path, *, root: Path, limits: Limits, staged: bool = False
) -> tuple[LintFinding, ...]:
    """Return everything found in a version directory, errors first.

    Args:
        path: the directory.
        root: resolved directory that links may lead to.
        limits: sizes that are too large.
        staged: whether it is not in its place yet, so that permissions do not matter.
    """
    findings: list[LintFinding] = []
    graph = _lint_graph(path, limits, findings)
    shards = _lint_variables(path, graph, findings)
    _lint_warmup(path, graph, findings)
    entries = list(_entries(path, root, findings))
    findings += lint_files(entries, shards)
    if not staged:
        findings += lint_modes(entries)
    return _sorted(findings)


def _sorted(findings: Iterable[LintFinding]) -> tuple[LintFinding, ...]:
    return tuple(sorted(findings, key=lambda item: item.severity != "error"))


def _lint_graph(path: Path, limits: Limits, findings: list[LintFinding]) -> Graph | None:
    """Apply the rules about graphs; return the graph that a server would load."""
    file = path / FILE_NAME
    if not os.path.lexists(file):
        findings.append(_no_graph(path))
        return None
    try:
        size = file.stat().st_size if file.is_file() else 0
        if size > MAX_BYTES:
            detail = f"it has {size} bytes, and no program can read more than {MAX_BYTES}"
            cure = "keep large constants in variables or assets"
            findings.append(finding("graph-too-big", FILE_NAME, detail, cure))
            return None
        if size > limits.graph:
            detail = f"it has {size} bytes: many servers take no more than {limits.graph}"
            cure = "keep large constants in variables or assets"
            findings.append(finding("big-graph", FILE_NAME, detail, cure))
        graphs = read_graphs(file)
    except Error as error:
        findings.append(_unread(FILE_NAME, error))
        return None
    findings += lint_graphs(graphs, Libraries(tensorflow_ops(), text_ops()), limits)
    return served_graph(graphs)


def _no_graph(path: Path) -> LintFinding:
    for name in _OTHER_GRAPHS:
        if (path / name).exists():
            return finding(
                "unchecked-graph",
                name,
                "the graph is in a form that is not looked into here",
                f"save it again as {FILE_NAME}",
            )
    return finding(
        "missing-graph",
        FILE_NAME,
        "it is missing, and the server fails to load the version",
        _COPY,
    )


def _unread(name: str, error: Error) -> LintFinding:
    if isinstance(error, SystemIOError):
        return finding("unreadable-file", name, error.message, "let the server's user read it")
    kind = "damaged-file" if isinstance(error, DamagedFileError) else "unreadable-file"
    return finding(kind, name, error.message, error.hint or _COPY)


def _lint_variables(path: Path, graph: Graph | None, findings: list[LintFinding]) -> int | None:
    """Check that the variables are there and complete; return in how many files they are."""
    prefix = variables_prefix(path)
    if not os.path.lexists(index_path(prefix)):
        if graph is not None and needs_variables(graph):
            findings.append(
                finding(
                    "missing-variables",
                    _INDEX,
                    "it is missing though the graph has variables: the server loads the version, "
                    "reports it AVAILABLE and fails every request",
                    _COPY,
                )
            )
        return None
    try:
        return read_table(prefix).num_shards
    except Error as error:
        where = error.path if isinstance(error, DamagedFileError) else str(index_path(prefix))
        findings.append(_unread(where.removeprefix(f"{path}/"), error))
        return None


def _lint_warmup(path: Path, graph: Graph | None, findings: list[LintFinding]) -> None:
    file = path / WARMUP_PATH
    if not os.path.lexists(file):
        return
    try:
        requests = read_warmup(file)
    except Error as error:
        detail = f"{error.message}; a warmup file that cannot be read makes the load fail"
        findings.append(finding("warmup", WARMUP_PATH, detail, error.hint or _COPY))
        return
    if graph is not None:
        findings += lint_warmup(requests, graph.signatures)


def _entries(path: Path, root: Path, findings: list[LintFinding]) -> Iterator[Entry]:
    """Iterate over the directory and what is in it; links are not followed."""

    def failed(error: OSError) -> None:
        name = os.path.relpath(str(error.filename or path), path)
        detail = f"it cannot be listed: {error.strerror}"
        findings.append(finding("unreadable-file", name, detail, "let the server's user read it"))

    yield _entry(path, Path(), root)
    for directory, folders, names in os.walk(path, onerror=failed):
        folders.sort()
        for name in sorted([*folders, *names]):
            yield _entry(path, Path(directory, name).relative_to(path), root)


def _entry(path: Path, relative: Path, root: Path) -> Entry:
    place = path / relative
    link: Link = "none"
    target = ""
    try:
        status = place.lstat()
        if stat.S_ISLNK(status.st_mode):
            target = str(place.readlink())
            real = Path(os.path.realpath(place))
            link = "inside" if real.is_relative_to(root) else "outside"
            status = place.stat()
    except OSError:
        return Entry(str(relative), 0, 0, "broken", target)
    directory = stat.S_ISDIR(status.st_mode)
    return Entry(str(relative), 0 if directory else status.st_size, status.st_mode, link, target)
