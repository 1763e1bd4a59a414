"""Place a version of the store in a serving directory and write that into the ledger."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from mstore import disk
from mstore.catalog.engine import reading
from mstore.catalog.versions import VersionRow
from mstore.domain.model_configs import Selection, selections
from mstore.domain.names import check_label, check_tag
from mstore.domain.records import Deployment
from mstore.domain.servers import Confirmation
from mstore.domain.targets import Site, replay
from mstore.errors import (
    Error,
    InputError,
    NotServedError,
    ParityError,
    PartialError,
    ServerError,
    SystemIOError,
    UsageError,
)
from mstore.ops.configuring import ConfigFile, lead, live_number
from mstore.ops.confirming import Watch, watch_site
from mstore.ops.context import Context
from mstore.ops.deploying import (
    Move,
    find_site,
    history,
    hold,
    put,
    record_moves,
    same_version,
)
from mstore.ops.resolve import resolve_version
from mstore.ops.unfinished import Plan, carry_out, finish
from mstore.ops.welcome import REASONS, ensure_welcome
from mstore.ops.withdrawing import keep_only
from mstore.serving.publish import numbers, prepare_base, withdraw


@dataclass(frozen=True, slots=True)
class PromoteOptions:
    """How to promote.

    Attributes:
        message: why, for the ledger.
        alias: a name that the version gets, or None.
        allow: reasons of `REASONS` that shall not hold it back.
        confirm: how the target's server is asked; None does not ask it.
        labels: labels of the server's config that move to the version, under ``specific``.
    """

    message: str | None = None
    alias: str | None = None
    allow: tuple[str, ...] = ()
    confirm: Confirmation | None = field(default_factory=Confirmation)
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the words.

        Raises:
            UsageError: ``alias`` cannot be one, or ``allow`` has another word.
        """
        for label in self.labels:
            check_label(label)
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
        first = "nothing was done; where the server starts only afterwards, add --no-wait"
        error.hint = "; ".join(filter(None, (error.hint, first)))
        raise
    try:
        with disk.os_errors(f"publishing in {site.base} failed"), hold(context, site.base):
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
    config = ConfigFile.of(site, version.model)
    if options.labels and config is None:
        raise UsageError(
            f"{site.name} has no config file with labels",
            hint="make the target with --policy specific --config FILE; or give an --alias",
        )
    with reading(context.engine) as connection:
        past = history(connection, site.base)
        there = str(version.version) in map(str, numbers(site.base))
        if not there:
            ensure_welcome(connection, row, site, past, options.allow)
    steps = _steps(config, version.version, options.labels)
    fresh = put(context, row, site.base)
    last = next((item for item in reversed(past) if item.version == version.version), None)
    way = _Way(site, watch, config, steps)
    known = last is not None and last.event in {"promoted", "restored"}
    repeats = not fresh and known and last is not None and same_version(last, version)
    served: dict[str, object] | None = None
    # What a server takes by its number it may serve from now on; what a file has to name, not yet.
    waiting: PartialError | None = None
    if config is not None:
        try:
            served = _confirmed(context, row, way, fresh=fresh)
        except PartialError as error:  # named by the file, and a label has to wait
            waiting = error
        repeats = repeats and live_number(site, version.model) == _chosen_last(past)
    alias = (options.alias, row) if options.alias else None
    if repeats and last is not None:
        made = last.repeated()
    else:
        # An alias moves to what is served, not to what may turn out not to be.
        now = None if watch is not None and config is None else alias
        move = Move(row, "promoted")
        (made,) = record_moves(context, site, [move], message=options.message, alias=now)
        alias = None if now else alias
    if watch is not None and config is None:
        served = _confirmed(context, row, way, fresh=fresh)
    if alias:
        record_moves(context, site, (), message=options.message, alias=alias)
    if not repeats and site.target is not None and site.target.keep is not None:
        keep_only(context, site, site.target.keep)
    if waiting is not None:
        raise waiting
    return made if served is None else replace(made, served=served)


def _chosen_last(past: list[Deployment]) -> int | None:
    """Return the version that a config file named last, as far as the ledger knows."""
    return replay(past, policy="specific").live


@dataclass(frozen=True, eq=False)
class _Way:
    """How a server comes to serve what is in a base path."""

    site: Site
    watch: Watch | None
    config: ConfigFile | None
    steps: tuple[Selection, ...]

    def names(self, number: int) -> bool:
        """Return whether the config file names a version."""
        return self.config is not None and number in self.config.entry().named

    def go(self, row: VersionRow) -> dict[str, object] | None:
        """Return what the server says of a version, None where it is not asked."""
        if self.config is not None:
            return lead(self.config, self.steps, self.watch, row)
        return None if self.watch is None else self.watch.confirm(row)


def _steps(
    config: ConfigFile | None, number: int, labels: tuple[str, ...]
) -> tuple[Selection, ...]:
    """Return the steps of the config file, each of which can be made."""
    if config is None:
        return ()
    steps = selections(config.entry(), number, labels)
    for step in steps:
        config.changed(step, number)
    return steps


def _confirmed(
    context: Context, row: VersionRow, way: _Way, *, fresh: bool
) -> dict[str, object] | None:
    """Return what the server says; take a version out again that has just come and is not served.

    Raises:
        NotServedError: it is not served as it should be.
        ServerError: the server does not answer, and the version was there before.
        PartialError: a label has to wait.
        SystemIOError: the config file cannot be written.
    """
    version, site = row.version, way.site
    name = f"{version.model}:{version.version}"
    try:
        return way.go(row)
    except SystemIOError:
        if fresh and way.config is not None and not way.names(version.version):
            withdraw(site.base, [version.version])
        raise
    except (ServerError, ParityError) as error:
        if not fresh or way.names(version.version):
            error.hint = f"{name} was there before and stays; go back: mstore rollback {site.name}"
            raise
        plan = Plan("fail", version.model, None, (version.version,), error.message)
        carry_out(context, site, plan)
        live = live_number(site, version.model)
        left = f"{live} is live as before" if live else "nothing else was there"
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
    if site.target is not None and isinstance(site.base, Path) and not site.base.is_dir():
        raise InputError(
            f"the base path {site.base} of the target {site.name} is not there",
            hint=f"is its file system mounted? If it is to be made anew: mkdir {site.base}",
        )
    prepare_base(site.base)
