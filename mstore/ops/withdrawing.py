"""Take versions out of a serving directory: roll back, retire, keep only some."""

from pathlib import Path

from mstore import disk
from mstore.catalog.engine import reading
from mstore.domain.names import check_tag
from mstore.domain.places import base_of
from mstore.domain.records import Deployment
from mstore.domain.servers import Confirmation
from mstore.domain.targets import PRESENT, Rollback, Site, replay
from mstore.errors import ConflictError, Error, InputError, RefusedError, UnknownReferenceError
from mstore.ops.configuring import ConfigFile
from mstore.ops.confirming import Watch, confirm_return, watch_site
from mstore.ops.context import Context
from mstore.ops.deploying import find_site, history, hold
from mstore.ops.returning import ensure_unchanged, rollback_by_config, wanted_row
from mstore.ops.unfinished import Plan, carry_out, finish, version_row
from mstore.serving.publish import numbers


def rollback(
    context: Context,
    where: str | Path,
    *,
    to: int | None = None,
    model: str | None = None,
    message: str | None = None,
    alias: str | None = None,
    confirm: Confirmation | None = None,
) -> Rollback:
    """Make an earlier version the live one of a base path.

    Under the policy ``latest`` the highest number is live, so all higher ones leave; the earlier
    one is there before the first of them goes, complete and checked byte by byte.

    Args:
        context: the store.
        where: a target's name or a directory.
        to: the version; by default the one that was live before.
        model: whose base path, where the target serves several.
        message: why.
        alias: a name that the version gets.
        confirm: how the target's server is asked; None does not ask it. A rollback does not wait
            for its word to begin.

    Raises:
        RefusedError: nothing is live there, or ``to`` is live already.
        UnknownReferenceError: there was no version before, or ``to`` is none of the store.
        ConflictError: what stands in the way is not of the store.
        StoreLockedError: another process holds the base path.
        PartialError: it is done, and the server does not confirm that it serves the version.
    """
    if alias is not None:
        check_tag(alias)
    with reading(context.engine) as connection:
        site = find_site(connection, where, model)
    _ensure_there(site)
    disk.sweep(context.tmp)
    if site.policy == "specific":
        return rollback_by_config(context, site, to, message, alias, confirm)
    with disk.os_errors(f"rolling back {site.base} failed"), hold(context, site.base):
        done = finish(context, site)
        plan = None if done is None else done.plan
        if plan is None or plan.verb != "rollback" or to not in {None, plan.to}:
            plan, done = _plan(context, site, to, message, alias), None
        watch = _watch(context, site, plan.model, confirm)
        done = done or carry_out(context, site, plan)
        assert plan.to is not None  # noqa: S101 - a rollback has an end
        served = confirm_return(watch, version_row(context, plan.model, plan.to))
    leaving = [item for item in done.deployments if item.event == "rolled-back"]
    return Rollback(
        target=site.name,
        path=str(site.directory(plan.to)),
        model=plan.model,
        version=plan.to,
        before=max(plan.leave),
        restored=plan.restore is not None,
        removed=plan.leave,
        at=leaving[0].at,
        by=leaving[0].by,
        message=leaving[0].message,
        served=served,
    )


def _watch(
    context: Context, site: Site, model: str, confirm: Confirmation | None
) -> Watch | Error | None:
    try:
        return watch_site(context, site, model, confirm)
    except Error as error:
        return error


def _plan(
    context: Context, site: Site, to: int | None, message: str | None, alias: str | None
) -> Plan:
    there = numbers(site.base)
    live = max(there, default=None)
    if live is None:
        raise RefusedError(
            f"there is no version in {site.base}, so there is nothing to roll back",
            reason="nothing-live",
            hint="see what was there: mstore log --deployed",
        )
    with reading(context.engine) as connection:
        past = history(connection, site.base)
    model = _model_of(past, live, site)
    known = replay(past).present
    if to is None:
        to = _before(past, live, site)
    strange = sorted(number for number in there if number > to and number not in known)
    if to >= live:
        raise RefusedError(
            f"{model}:{live} is live in {site.base}, and {to} is not lower",
            reason="not-lower",
            hint=f"promote it: mstore promote {model}:{to} {site.name}",
        )
    row = wanted_row(context, model, to, site)
    if strange:
        listing = ", ".join(map(str, strange))
        raise ConflictError(
            f"{listing} in {site.base} did not come from this store, and would have to leave",
            hint=f"see what it is: mstore audit {site.base}; then move it away by hand",
        )
    present = to in there
    if present:
        ensure_unchanged(site, row)
    leave = tuple(sorted(number for number in there if number > to))
    return Plan("rollback", model, None if present else to, leave, message, alias, to)


def _model_of(past: list[Deployment], live: int, site: Site) -> str:
    for item in reversed(past):
        if item.version == live:
            return item.model
    models = {item.model for item in past}
    if len(models) == 1:
        return models.pop()
    if site.target is not None:
        for model, path in site.target.paths.items():
            if base_of(path) == site.base:
                return model
    raise UnknownReferenceError(
        f"this store has put nothing into {site.base}",
        reference=str(site.base),
        candidates=[],
        hint="promote a version there first: mstore promote MODEL:N DIR",
    )


def _before(past: list[Deployment], live: int, site: Site) -> int:
    """Return the version that was live before ``live``, and is lower.

    Raises:
        UnknownReferenceError: there was none.
    """
    seen: list[int] = []
    present: set[int] = set()
    for item in past:
        if PRESENT[item.event]:
            present.add(item.version)
        else:
            present.discard(item.version)
        seen.append(max(present, default=live))
    for number in reversed(seen):
        if number < live:
            return number
    raise UnknownReferenceError(
        f"{live} is the first version that was live in {site.base}",
        reference=str(site.base),
        candidates=[],
        hint="name a version with --to N; see: mstore list --versions",
    )


def retire(
    context: Context,
    where: str | Path,
    number: int,
    *,
    model: str | None = None,
    message: str | None = None,
) -> Deployment:
    """Take a version out of a base path that is not served any more; it stays in the store.

    Raises:
        RefusedError: it is the last one there, the live one, or it has an alias.
        UnknownReferenceError: it is not there.
        ConflictError: it did not come from this store.
        StoreLockedError: another process holds the base path.
    """
    with reading(context.engine) as connection:
        site = find_site(connection, where, model)
    _ensure_there(site)
    disk.sweep(context.tmp)
    with disk.os_errors(f"retiring from {site.base} failed"), hold(context, site.base):
        done = finish(context, site)
        if done is None or done.plan.verb != "retire" or number not in done.plan.leave:
            done = carry_out(context, site, _retirement(context, site, (number,), message))
    return next(item for item in done.deployments if item.version == number)


def _retirement(context: Context, site: Site, leave: tuple[int, ...], message: str | None) -> Plan:
    there = numbers(site.base)
    with reading(context.engine) as connection:
        past = history(connection, site.base)
    known = replay(past).present
    for number in leave:
        if number not in there:
            listing = ", ".join(map(str, sorted(there)))
            raise UnknownReferenceError(
                f"version {number} is not in {site.base}",
                reference=str(number),
                candidates=list(map(str, sorted(there))),
                hint=f"there are {listing or 'none'}",
            )
        if number not in known:
            raise ConflictError(
                f"{site.directory(number)} did not come from this store",
                hint=f"see what it is: mstore audit {site.directory(number)}",
            )
        reason = _needed(context, site, number, known[number].model)
        if reason is not None:
            raise RefusedError(
                f"version {number} stays in {site.base}: {reason}",
                reason="needed",
                hint=f"bring another one first: mstore promote {known[number].model}:N {site.name}",
            )
    models = {known[number].model for number in leave}
    return Plan("retire", models.pop(), None, leave, message)


def _needed(context: Context, site: Site, number: int, model: str) -> str | None:
    """Return why a version that is there must stay, or None."""
    there = numbers(site.base)
    if len(there) == 1:
        return "it is the only one"
    config = ConfigFile.of(site, model)
    if config is not None and number in config.entry().named:
        return f"{config.path} names it"
    if config is None and number == max(there):
        return "it is live"
    aliases = version_row(context, model, number).version.aliases
    return f"it has the alias {', '.join(aliases)}" if aliases else None


def keep_only(context: Context, site: Site, keep: int) -> None:
    """Retire what goes beyond the ``keep`` highest numbers; what is needed stays."""
    with reading(context.engine) as connection:
        known = replay(history(connection, site.base)).present
    old = sorted(set(numbers(site.base)) & set(known))[:-keep]
    leave = tuple(n for n in old if _needed(context, site, n, known[n].model) is None)
    if leave:
        reason = f"the target keeps {keep}"
        carry_out(context, site, _retirement(context, site, leave, reason))


def _ensure_there(site: Site) -> None:
    if isinstance(site.base, Path) and not site.base.is_dir():
        raise InputError(
            f"{site.base} is not there" if not site.base.exists() else f"{site.base} is a file",
            hint="name a target or a serving directory; see: mstore target list",
        )
