"""What speaks against placing a version in a base path; each reason has a word to override it."""

from collections.abc import Mapping
from pathlib import Path

import sqlalchemy as sa

from mstore.catalog import versions as ledger
from mstore.catalog.versions import VersionRow
from mstore.domain.compatibility import breaking_changes
from mstore.domain.records import Deployment
from mstore.domain.signatures import Signature
from mstore.domain.targets import Site
from mstore.errors import RefusedError
from mstore.formats.saved_model import read_saved_model
from mstore.ops.configuring import live_number

REASONS: Mapping[str, str] = {
    "checks": "its checks have not passed",
    "failed": "the server could not serve it from there",
    "not-live": "a server would go on with a higher number that is there",
    "rolled-back": "it was rolled back from there",
    "signature": "clients of the live version could not go on with it",
}
"""Why a promotion is refused, and what ``allow`` takes: word to what it means."""


def ensure_welcome(
    connection: sa.Connection,
    row: VersionRow,
    site: Site,
    past: list[Deployment],
    allow: tuple[str, ...],
) -> None:
    """Refuse a version that would do harm, or would do nothing, at the base path.

    Raises:
        RefusedError: with the reason.
    """
    version = row.version
    name = f"{version.model}:{version.version}"
    failed = sorted(
        check for check, result in version.checks.items() if result not in _PASSED[check]
    )
    if failed and "checks" not in allow:
        raise _refused("checks", f"{name} has not passed: {', '.join(failed)}")
    last = next((item for item in reversed(past) if item.version == version.version), None)
    if last is not None and last.event in _GONE and last.event not in allow:
        why = f" ({last.message})" if last.message else ""
        raise _refused(last.event, f"{name} {_GONE[last.event]} there at {last.at}{why}")
    live = live_number(site, version.model)
    if live is None:
        return
    if (
        site.policy == "latest"
        and site.target is not None
        and live > version.version
        and "not-live" not in allow
    ):
        raise _refused(
            "not-live",
            f"{name} would not be served: {live} is in {site.base} and the highest number is live",
            f"mstore rollback {site.name} --to {version.version}",
        )
    changes = breaking_changes(_signatures(connection, past, site, live), version.signatures)
    if changes and "signature" not in allow:
        listing = "\n  ".join(map(str, changes))
        raise _refused(
            "signature", f"clients of the live version {live} would break on {name}:\n  {listing}"
        )


_GONE: Mapping[str, str] = {"rolled-back": "was rolled back from", "failed": "failed"}

_PASSED: Mapping[str, frozenset[str]] = {
    "weights": frozenset({"proven"}),
    "load": frozenset({"passed", "skipped"}),
    "parity": frozenset({"passed", "skipped"}),
}


def _refused(reason: str, what: str, instead: str = "") -> RefusedError:
    return RefusedError(
        f"{what}; nothing was changed",
        reason=reason,
        hint=(f"{instead}; or " if instead else "") + f"go on all the same with --allow {reason}",
    )


def _signatures(
    connection: sa.Connection, past: list[Deployment], site: Site, number: int
) -> Mapping[str, Signature]:
    """Return the signatures of the version that is there: from the catalog, else its own files."""
    for item in reversed(past):
        if item.version == number:
            rows = ledger.find_versions(connection, model=item.model, number=number)
            if rows:
                return rows[0].version.signatures
    path = site.directory(number)
    if not isinstance(path, Path) or not (path / "saved_model.pb").is_file():
        return {}
    return read_saved_model(path).signatures
