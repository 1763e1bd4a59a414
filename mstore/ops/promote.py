"""Place a version of the store in a serving directory and write that into the ledger."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import sqlalchemy as sa

from mstore import disk
from mstore.catalog import versions as ledger
from mstore.catalog.engine import reading
from mstore.catalog.versions import VersionRow
from mstore.domain.compatibility import breaking_changes
from mstore.domain.names import check_tag
from mstore.domain.records import Deployment
from mstore.domain.servers import Confirmation
from mstore.domain.signatures import Signature
from mstore.domain.targets import Site
from mstore.errors import Error, InputError, NotServedError, RefusedError, UsageError
from mstore.formats.saved_model import read_saved_model
from mstore.ops.confirming import Watch, watch_site
from mstore.ops.context import Context
from mstore.ops.deploying import Move, find_site, history, put, record_moves, same_version
from mstore.ops.resolve import resolve_version
from mstore.ops.unfinished import Plan, carry_out, finish
from mstore.ops.withdrawing import keep_only
from mstore.serving.publish import numbers, prepare_base

REASONS: Mapping[str, str] = {
    "checks": "its checks have not passed",
    "failed": "the server could not serve it from there",
    "not-live": "a server would go on with a higher number that is there",
    "rolled-back": "it was rolled back from there",
    "signature": "clients of the live version could not go on with it",
}
"""Why a promotion is refused, and what ``allow`` takes: word to what it means."""


@dataclass(frozen=True, slots=True)
class PromoteOptions:
    """How to promote.

    Attributes:
        message: why, for the ledger.
        alias: a name that the version gets, or None.
        allow: reasons of `REASONS` that shall not hold it back.
        confirm: how the target's server is asked; None does not ask it.
    """

    message: str | None = None
    alias: str | None = None
    allow: tuple[str, ...] = ()
    confirm: Confirmation | None = field(default_factory=Confirmation)

    def __post_init__(self) -> None:
        """Check the words.

        Raises:
            UsageError: ``alias`` cannot be one, or ``allow`` has another word.
        """
        if self.alias is not None:
            check_tag(self.alias)
        unknown = sorted(set(self.allow) - set(REASONS))
        if unknown:
            raise UsageError(
                f"{unknown[0]!r} is no reason to refuse a promotion",
                hint=f"reasons: {', '.join(REASONS)}",
            )


def promote(
    context: Context, reference: str, where: str | Path, options: PromoteOptions
) -> Deployment:
    """Publish a version in a target or a directory.

    Returns:
        The deployment; ``new`` is False if the same version was there already and recorded.

    Raises:
        RefusedError: for a reason of `REASONS`.
        ConflictError: its number is there with other content.
        DamagedStoreError: the store cannot give its files.
        InputError: the base path of a target is gone.
        StoreLockedError: another process holds the base path.
        ServerError: the target's server does not answer; nothing was done.
        NotServedError: the server does not serve it, or not with the outputs that were recorded;
            it was taken out again.
    """
    with reading(context.engine) as connection:
        row = resolve_version(connection, reference)
        site = find_site(connection, where, row.version.model)
    return promote_row(context, row, site, options)


def promote_row(
    context: Context, row: VersionRow, site: Site, options: PromoteOptions
) -> Deployment:
    """Publish a version that was looked up already; see `promote`."""
    ensure_base(site)
    disk.sweep(context.tmp)
    try:
        watch = watch_site(context, site, row.version.model, options.confirm)
    except Error as error:
        error.hint += "; nothing was done: where it starts only afterwards, add --no-wait"
        raise
    try:
        with disk.os_errors(f"publishing in {site.base} failed"), disk.locked(site.base):
            return _promote(context, row, site, options, watch)
    finally:
        if watch is not None:
            watch.close()


def _promote(
    context: Context, row: VersionRow, site: Site, options: PromoteOptions, watch: Watch | None
) -> Deployment:
    """Publish a version in a base path whose lock is held."""
    version = row.version
    finish(context, site)
    with reading(context.engine) as connection:
        past = history(connection, site.base)
        there = str(version.version) in map(str, numbers(site.base))
        if not there:
            _ensure_welcome(connection, row, site, past, options.allow)
    fresh = put(context, row, site.base)
    last = next((item for item in reversed(past) if item.version == version.version), None)
    known = last is not None and last.event in {"promoted", "restored"}
    alias = (options.alias, row) if options.alias else None
    if not fresh and known and last is not None and same_version(last, version):
        made, moves = last.repeated(), []
    else:
        # An alias moves to what is served, not to what may turn out not to be.
        moves = [Move(row, "promoted")]
        now = None if watch else alias
        (made,) = record_moves(context, site, moves, message=options.message, alias=now)
    if watch is not None:
        made = replace(made, served=_confirmed(context, row, site, watch, fresh=fresh))
    if alias and (watch or not moves):
        record_moves(context, site, (), message=options.message, alias=alias)
    if moves and site.target is not None and site.target.keep is not None:
        keep_only(context, site, site.target.keep)
    return made


def _confirmed(
    context: Context, row: VersionRow, site: Site, watch: Watch, *, fresh: bool
) -> dict[str, object]:
    """Return what the server says; take a version out again that has just come and is not served.

    Raises:
        NotServedError: it is not served as it should be.
        ServerError: the server does not answer, and the version was there before.
    """
    version = row.version
    name = f"{version.model}:{version.version}"
    try:
        return watch.confirm(row)
    except Error as error:
        if not fresh:
            error.hint = f"{name} was there before and stays; go back: mstore rollback {site.name}"
            raise
        plan = Plan("fail", version.model, None, (version.version,), error.message)
        carry_out(context, site, plan)
        live = max(numbers(site.base), default=None)
        left = f"{live} is the highest again" if live else "nothing else was there"
        raise NotServedError(
            f"{error.message}\n{name} was taken out of {site.base} again; {left}",
            state=error.state if isinstance(error, NotServedError) else "",
            hint=f"see the server's log; to try once more: mstore promote {name} {site.name} "
            "--allow failed",
        ) from error


def ensure_base(site: Site) -> None:
    """Make the base path of a plain directory if need be; that of a target must be there.

    Raises:
        InputError: it is a file, or a target's is gone.
    """
    if site.target is not None and not site.base.is_dir():
        raise InputError(
            f"the base path {site.base} of the target {site.name} is not there",
            hint=f"is its file system mounted? If it is to be made anew: mkdir {site.base}",
        )
    prepare_base(site.base)


def _ensure_welcome(
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
    live = max(numbers(site.base), default=None)
    if live is None:
        return
    if site.target is not None and live > version.version and "not-live" not in allow:
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
    if not (path / "saved_model.pb").is_file():
        return {}
    return read_saved_model(path).signatures
