"""Go back to an earlier version by the config file of a target, with the policy ``specific``."""

from collections.abc import Sequence
from dataclasses import replace

from mstore import disk
from mstore.catalog import versions as ledger
from mstore.catalog.engine import reading
from mstore.catalog.versions import VersionRow
from mstore.domain.model_configs import Selection, selections
from mstore.domain.places import base_of
from mstore.domain.records import Deployment
from mstore.domain.servers import Confirmation
from mstore.domain.targets import Rollback, Site, choices
from mstore.errors import ConflictError, PartialError, RefusedError, ServerError
from mstore.errors import UnknownReferenceError as UnknownError
from mstore.ops.configuring import ConfigFile, lead, live_number
from mstore.ops.confirming import watch_site
from mstore.ops.context import Context
from mstore.ops.deploying import Move, history, hold, is_version, put, record_moves
from mstore.ops.unfinished import Plan, begin, finish
from mstore.serving.publish import numbers


def rollback_by_config(
    context: Context,
    site: Site,
    to: int | None,
    message: str | None,
    alias: str | None,
    confirm: Confirmation | None,
) -> Rollback:
    """Name an earlier version in the config file; nothing leaves the directory.

    The version is in the base path, complete and unchanged, before the file names it. The labels of
    the version that was live move to it once the server serves it.

    Raises:
        RefusedError: nothing is live there, or ``to`` is live already.
        UnknownReferenceError: there was no version before, or ``to`` is none of the store.
        ConflictError: ``to`` is there with other content.
        NotServedError: the server does not serve it; the file is as it was.
        PartialError: the server does not answer, or there is none, and the labels wait.
    """
    assert site.target is not None  # noqa: S101 - a policy is a target's
    model = next(m for m, path in site.target.paths.items() if base_of(path) == site.base)
    config = ConfigFile.of(site, model)
    assert config is not None  # noqa: S101 - so is a config file
    with disk.os_errors(f"rolling back {site.base} failed"), hold(context, site.base):
        done = finish(context, site)
        again = done is not None and done.plan.verb == "return" and to in {None, done.plan.to}
        if again and done is not None:
            plan = done.plan
        else:
            plan = replace(_plan(context, site, config, to), message=message, alias=alias)
        assert plan.to is not None  # noqa: S101 - a return has an end
        row = wanted_row(context, model, plan.to, site)
        entry = config.entry()
        labels = [label for label, number in entry.labels.items() if number == plan.before]
        steps = selections(entry, plan.to, labels)
        if plan.restore is None:
            ensure_unchanged(site, row)
        if not again:
            begin(context, site, plan)
        if plan.restore is not None:
            put(context, row, site.base)
        try:
            served, problem = _led(context, site, config, steps, row, confirm)
        except ServerError:
            finish(context, site)  # the file tells what became of it
            raise
        if again and done is not None:  # it is in the ledger since `finish`
            made = done.deployments[0]
        else:
            named = None if plan.alias is None else (plan.alias, row)
            moves = [Move(row, "restored")]
            (made,) = record_moves(context, site, moves, message=plan.message, alias=named)
    if problem is not None:
        raise PartialError(
            f"{config.path} names {model}:{plan.to} now, and its server does not confirm it: "
            f"{problem.message}",
            hint=problem.hint,
        ) from problem
    assert plan.before is not None  # noqa: S101 - nor has it no beginning
    return Rollback(
        target=site.name,
        path=str(site.directory(plan.to)),
        model=model,
        version=plan.to,
        before=plan.before,
        restored=plan.restore is not None,
        removed=(),
        at=made.at,
        by=made.by,
        message=made.message,
        served=served,
        way="config",
    )


def _led(
    context: Context,
    site: Site,
    config: ConfigFile,
    steps: Sequence[Selection],
    row: VersionRow,
    confirm: Confirmation | None,
) -> tuple[dict[str, object] | None, ServerError | PartialError | None]:
    """Write the file step by step; return what the server says, and why it does not if so."""
    problem: ServerError | PartialError | None = None
    try:
        watch = watch_site(context, site, config.model, confirm)
    except ServerError as error:
        watch, problem = None, error
    try:
        return lead(config, steps, watch, row, parity=False), problem
    except PartialError as error:
        return None, problem or error
    finally:
        if watch is not None:
            watch.close()


def _plan(context: Context, site: Site, config: ConfigFile, to: int | None) -> Plan:
    """Return what is to be done; see `rollback_by_config`."""
    model = config.model
    live = live_number(site, model)
    if live is None:
        raise RefusedError(
            f"{config.path} names no version of {model}, so there is nothing to roll back",
            reason="nothing-live",
            hint="see what was there: mstore log --deployed",
        )
    with reading(context.engine) as connection:
        past = history(connection, site.base)
    to = _before(past, live, site) if to is None else to
    if to == live and config.entry().versions == (to,):
        raise RefusedError(f"{model}:{to} is live in {site.base} already", reason="live", hint="")
    restore = None if to in numbers(site.base) else to
    return Plan("return", model, restore, (), None, None, to, live)


def _before(past: list[Deployment], live: int, site: Site) -> int:
    """Return the version that was chosen before ``live``, and not left by going back since.

    Raises:
        UnknownReferenceError: there was none.
    """
    for number in reversed(choices(past)):
        if number != live:
            return number
    raise UnknownError(
        f"{live} is the first version that was live in {site.base}",
        reference=str(site.base),
        candidates=[],
        hint="name a version with --to N; see: mstore list --versions",
    )


def ensure_unchanged(site: Site, row: VersionRow) -> None:
    """Hold a version that is in a base path against its record, byte by byte.

    Raises:
        ConflictError: it is another one.
    """
    version = row.version
    path = site.directory(version.version)
    if not is_version(path, version.files):
        raise ConflictError(
            f"{path} is not {version.model}:{version.version} any more, so nothing was rolled "
            "back to it",
            hint=f"see what differs: mstore audit {path}; name another one with --to",
        )


def wanted_row(context: Context, model: str, number: int, site: Site) -> VersionRow:
    """Return the version that somebody wants back.

    Raises:
        UnknownReferenceError: the store has no such version.
    """
    with reading(context.engine) as connection:
        rows = ledger.find_versions(connection, model=model, number=number)
        every = ledger.find_versions(connection, model=model, limit=8)
    if rows:
        return rows[0]
    names = [f"{model}:{row.version.version}" for row in every]
    raise UnknownError(
        f"the store has no version {model}:{number} for {site.name}",
        reference=f"{model}:{number}",
        candidates=names,
        hint=f"versions: {', '.join(names)}",
    )
