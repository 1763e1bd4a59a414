"""Rules about a base path that need more than the directory: the ledger, the disk, the server."""

from collections.abc import Collection, Iterator, Mapping

from mstore.domain.lint import LintFinding, finding
from mstore.domain.records import VersionAudit
from mstore.domain.servers import VersionStatus
from mstore.domain.targets import Placed


def lint_ledger(base: str, there: Collection[int], placed: Placed) -> Iterator[LintFinding]:
    """Yield where a base path and what the ledger says is in it differ.

    Args:
        base: the base path.
        there: the numbers in it.
        placed: what should be in it.
    """
    for number in sorted(placed.present.keys() - set(there)):
        model = placed.present[number].model
        yield finding(
            "missing-version",
            f"{base}/{number}",
            "the ledger says that it is here, and it is gone; a server that has it in memory lets "
            "it go",
            f"put it back: mstore promote {model}:{number} {base} --allow not-live; or let the "
            f"ledger know: mstore retire {base} {number}",
        )
    for number in sorted(set(there) - placed.present.keys()):
        yield finding(
            "foreign-version",
            f"{base}/{number}",
            "this store has not put it here, or has taken it out since",
            f"see what it is: mstore audit {base}/{number}",
        )


def lint_audit(audits: Collection[VersionAudit]) -> Iterator[LintFinding]:
    """Yield the versions whose bytes are not what was published."""
    for item in audits:
        if item.verdict == "modified":
            first = item.findings[0] if item.findings else None
            what = f": {first.subject} {first.detail}" if first else ""
            yield finding(
                "modified-version",
                item.path,
                f"it is not what was published{what}; a server does not notice until it restarts",
                f"see all: mstore audit {item.path}; then export it to a new number",
            )


def lint_space(base: str, largest: int, free: int) -> Iterator[LintFinding]:
    """Yield whether the file system has room for another version like the largest."""
    if largest > free:
        yield finding(
            "no-space",
            base,
            f"{free / 1e6:.0f} MB are free, and the largest version has {largest / 1e6:.0f} MB",
            "free some space, or let the target keep fewer: mstore target add --keep N",
        )


def lint_unfinished(base: str, body: Mapping[str, object] | None) -> Iterator[LintFinding]:
    """Yield what was begun in a base path and not finished."""
    if body is not None:
        yield finding(
            "unfinished",
            base,
            f"a {body.get('verb')} was begun here and broken off",
            "the next promote, rollback or retire here finishes it",
        )


def lint_server(
    server: str, there: Collection[int], live: int | None, found: Mapping[int, VersionStatus]
) -> Iterator[LintFinding]:
    """Yield where a server is not where its directory is.

    Args:
        server: its address.
        there: the numbers in the base path.
        live: the one that it should give.
        found: what it says of the versions that it knows.
    """
    if live is not None:
        status = found.get(live)
        state = status.state if status else "not known to it"
        if state != "AVAILABLE":
            why = f": {status.error}" if status and status.error else ""
            yield finding(
                "not-served",
                server,
                f"version {live} should be served, and is {state}{why}",
                "see the server's log; go back: mstore rollback TARGET",
            )
    for number, status in sorted(found.items()):
        if status.state == "AVAILABLE" and number not in there:
            yield finding(
                "served-from-elsewhere",
                server,
                f"it serves version {number}, which is not in the base path",
                "is this the server of that directory? Look at its --model_base_path",
            )


def silent_server(server: str, why: str) -> LintFinding:
    """Return the finding that a server does not answer."""
    return finding(
        "server-silent",
        server,
        why,
        "start it; or correct the address: mstore target remove, then target add --server",
    )
