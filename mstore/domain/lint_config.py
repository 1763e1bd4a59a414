"""Rules about a server's config file and what is in the base path that it names.

The server's rules: tensorflow_serving/model_servers/server_core.cc and
tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc.
"""

from collections.abc import Collection, Iterator
from pathlib import PurePath

from mstore.domain.lint import LintFinding, finding
from mstore.domain.model_configs import ModelEntry


def lint_entry(
    config: str, entry: ModelEntry, there: Collection[int] | None
) -> Iterator[LintFinding]:
    """Yield what is wrong with one entry.

    Args:
        config: the file.
        entry: the entry.
        there: the versions in its base path; None where that is not on this machine.
    """
    subject = f"{config}: {entry.name}"
    if "://" not in entry.base_path and not PurePath(entry.base_path).is_absolute():
        yield finding(
            "config-relative-base",
            subject,
            f"the base path {entry.base_path!r} is not absolute: the server refuses the whole file",
            "write the absolute path of the directory above the versions",
        )
    if not entry.platform:
        yield finding(
            "config-no-platform",
            subject,
            "there is no model_platform: the server refuses the whole file",
            'add model_platform: "tensorflow"',
        )
    if entry.policy == "specific" and not entry.versions:
        yield finding(
            "config-names-none",
            subject,
            "the policy specific names no version: the server unloads all it has of this model",
            "name a version: specific { versions: N }",
        )
    if there is not None:
        if not there and entry.policy != "specific":
            yield finding(
                "config-no-versions",
                subject,
                f"no version is in {entry.base_path}: a server that starts with this file waits "
                "for one, and answers for no model until then",
                "name the directory above the numbered ones, or promote a version to it",
            )
        yield from _absent(subject, entry, there)
    unlisted = {label: n for label, n in entry.labels.items() if n not in entry.versions}
    if entry.policy == "specific" and unlisted:
        label, number = min(unlisted.items())
        yield finding(
            "config-label-unlisted",
            subject,
            f"the label {label} is on {number}, which specific does not name: the server refuses "
            "the file, as that version is not available",
            f"add versions: {number}, or move the label to one that is named",
        )


def _absent(subject: str, entry: ModelEntry, there: Collection[int]) -> Iterator[LintFinding]:
    gone = sorted(set(entry.versions) - set(there))
    if entry.policy == "specific" and gone:
        listed = ", ".join(map(str, gone))
        everything = set(gone) == set(entry.versions)
        detail = (
            "none of the versions it names is there: the server unloads all it has of this model"
            if everything
            else f"{listed} is not there: the server only logs that, and serves the others"
        )
        yield finding(
            "config-absent-version",
            subject,
            detail,
            "put it back: mstore promote MODEL:N TARGET; or take it out of the file",
        )
    for label, number in sorted(entry.labels.items()):
        if number not in there:
            yield finding(
                "config-label-absent",
                subject,
                f"the label {label} is on {number}, which is not there: the server refuses the "
                "whole file",
                "move the label to a version that is served",
            )


def unreadable_config(config: str, why: str) -> LintFinding:
    """Return the finding that a server would not take a config file."""
    return finding(
        "config-unreadable",
        config,
        f"a server does not start with it, and one that runs keeps its old one: {why}",
        "mend it by hand; then: mstore doctor",
    )


def missing_base(config: str, entry: ModelEntry) -> LintFinding:
    """Return the finding that a base path in a config file is not there."""
    return finding(
        "config-base-missing",
        f"{config}: {entry.name}",
        f"{entry.base_path} is not on this machine: a server that sees the same stops looking at "
        "the models after it in the file",
        f"mkdir {entry.base_path}; in a container the path may be another one, then all is well",
    )
