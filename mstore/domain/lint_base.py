"""Rules about a base path: what the server takes for versions in it, and what it does not see.

The server's rules: tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mstore.domain.lint import LintFinding, VersionLint, finding
from mstore.domain.serving_names import canonical_number, server_number

_NUMBER = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Child:
    """A file or directory in a base path.

    Attributes:
        name: its name.
        is_directory: whether it is a directory, or a link to one.
        is_saved_model: whether it holds a ``saved_model.pb``.
        versions: names of directories in it that a server would take for versions.
    """

    name: str
    is_directory: bool
    is_saved_model: bool = False
    versions: tuple[str, ...] = ()


def by_number(children: Sequence[Child]) -> Mapping[int, list[Child]]:
    """Return the children whose names a server reads as numbers, by number, in name order."""
    found: dict[int, list[Child]] = {}
    for child in sorted(children, key=lambda child: child.name):
        number = server_number(child.name)
        if number is not None:
            found.setdefault(number, []).append(child)
    return found


def lint_base(path: str, children: Sequence[Child], staging: str) -> Iterator[LintFinding]:
    """Yield what is wrong with a base path as such.

    Args:
        path: how it was named.
        children: everything in it.
        staging: prefix of the names of half written versions.
    """
    numbered = by_number(children)
    if any(child.is_directory for same in numbered.values() for child in same):
        yield from _strays(children)
    else:
        yield from _no_versions(path, children)
    for number, same in sorted(numbered.items()):
        yield from _number(number, same)
    for child in children:
        if child.name.startswith(staging):
            yield finding(
                "leftover",
                child.name,
                "it is a version that was never finished; no server takes it for one",
                "the next promote to this base path removes it, unless one is at work now",
            )


def saved_model_in_base(path: str) -> LintFinding:
    """Return the finding that a SavedModel lies where a base path is expected."""
    return finding(
        "saved-model-in-base",
        path,
        "it is a SavedModel itself and its name is no number: a server with this base path looks "
        "for numbered directories in it and says 'No versions of servable found'",
        "move the SavedModel into BASE/1 and name BASE as the base path",
    )


def inside_version(path: str) -> LintFinding:
    """Return the finding that a path is the ``variables`` of a version."""
    return finding(
        "inside-version",
        path,
        "it is a part of a SavedModel: a server with this base path says 'No versions of servable "
        "found'",
        "name the directory two levels up as the base path, which holds 1, 2, ...",
    )


def _no_versions(path: str, children: Sequence[Child]) -> Iterator[LintFinding]:
    higher = [child.name for child in children if child.versions]
    if higher:
        listed = ", ".join(sorted(higher)[:5])
        yield finding(
            "base-too-high",
            path,
            f"the numbered directories are one level further down, in {listed}: a server with this "
            "base path says 'No versions of servable found'",
            f"name {path.rstrip('/')}/{min(higher)} as the base path",
        )
        return
    yield finding(
        "no-versions",
        path,
        "it holds no directory with a number for a name: a server with this base path says 'No "
        "versions of servable found' and serves nothing",
        "name each version's directory by a number: 1, 2, ...",
    )
    yield from _strays(children)


def _strays(children: Sequence[Child]) -> Iterator[LintFinding]:
    """Yield findings about SavedModels that no server sees for their names."""
    for child in children:
        if child.is_saved_model and server_number(child.name) is None and child.name[:1] != ".":
            digits = _NUMBER.search(child.name)
            yield finding(
                "name-not-number",
                child.name,
                "it is a SavedModel that the server does not see: its name is no whole number",
                f"rename it to a number that is free{f', such as {digits[0]}' if digits else ''}",
            )
        elif child.name in {"saved_model.pb", "saved_model.pbtxt"}:
            yield finding(
                "saved-model-in-base",
                child.name,
                "a SavedModel lies directly in the base path, where the server does not look",
                "remove it, or move it into a directory with a number for a name",
            )


def _number(number: int, same: Sequence[Child]) -> Iterator[LintFinding]:
    names = [child.name for child in same]
    if len(same) > 1:
        listed = ", ".join(repr(name) for name in names)
        yield finding(
            "duplicate-number",
            names[0],
            f"{listed} are all version {number}: the server serves the last of these names and "
            "warns of 'Duplicate version directories'",
            "keep one of them",
        )
    for child in same:
        if number < 0:
            yield finding(
                "unservable-number",
                child.name,
                f"the server takes it for version {number}, and a version cannot be negative",
                "rename it to a number from 1 on",
            )
        elif canonical_number(child.name) is None:
            yield finding(
                "odd-name",
                child.name,
                f"the server takes it for version {number}, while other tools do not, and a "
                f"policy that names {number} does not find it at once",
                f"rename it to {number or 'a number from 1 on'}",
            )


def file_as_version(name: str, number: int) -> LintFinding:
    """Return the finding that something other than a directory has a version's name."""
    return finding(
        "file-as-version",
        name,
        f"it is no directory, and the server takes it for version {number} and fails to load it",
        "move it elsewhere",
    )


def broken_newest(newest: VersionLint) -> LintFinding | None:
    """Return the finding that the version which a server serves first is broken, if it is."""
    kinds = {item.kind for item in newest.findings}
    if kinds & _NOT_LOADED:
        kind = min(kinds & _NOT_LOADED)
        detail = (
            f"the highest version does not load ({kind}): a server that runs keeps the version "
            "before it, and a server that is restarted ends at once"
        )
    elif kinds & _NOT_RUN:
        kind = min(kinds & _NOT_RUN)
        detail = (
            f"the highest version loads and has no weights ({kind}): the server puts it in the "
            "place of the version before it and fails every request"
        )
    else:
        return None
    cure = "repair or remove it, or put a sound version with a higher number beside it"
    return finding("broken-newest", newest.path, detail, cure)


_NOT_LOADED = frozenset(
    {
        "custom-op",
        "damaged-file",
        "file-as-version",
        "graph-too-big",
        "missing-graph",
        "no-serve-tag",
        "table-file",
        "unreadable-file",
        "warmup",
    }
)
_NOT_RUN = frozenset({"missing-variables", "no-restore"})
