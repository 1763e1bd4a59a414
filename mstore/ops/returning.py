"""Go back to an earlier version by the config file of a target, with the policy ``specific``."""

from mstore import disk
from mstore.catalog import versions as ledger
from mstore.catalog.engine import reading
from mstore.catalog.versions import VersionRow
from mstore.domain.model_configs import selections
from mstore.domain.places import base_of
from mstore.domain.records import Deployment
from mstore.domain.servers import Confirmation
from mstore.domain.targets import PRESENT, Rollback, Site
from mstore.errors import ConflictError, PartialError, RefusedError, ServerError
from mstore.errors import UnknownReferenceError as UnknownError
from mstore.ops.configuring import ConfigFile, lead, live_number
from mstore.ops.confirming import watch_site
from mstore.ops.context import Context
from mstore.ops.deploying import Move, history, hold, is_version, put, record_moves
from mstore.ops.unfinished import finish
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
        finish(context, site)
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
        entry = config.entry()
        labels = [label for label, number in entry.labels.items() if number == live]
        if to == live and entry.versions == (to,):
            raise RefusedError(
                f"{model}:{to} is live in {site.base} already", reason="live", hint=""
            )
        row = wanted_row(context, model, to, site)
        restored = to not in numbers(site.base)
        steps = selections(entry, to, labels)
        if restored:
            put(context, row, site.base)
        else:
            ensure_unchanged(site, row)
        named = None if alias is None else (alias, row)
        problem: ServerError | PartialError | None = None
        try:
            watch = watch_site(context, site, model, confirm)
        except ServerError as error:
            watch, problem = None, error
        try:
            served = lead(config, steps, watch, row, parity=False)
        except PartialError as error:
            served, problem = None, problem or error
        finally:
            if watch is not None:
                watch.close()
        (made,) = record_moves(context, site, [Move(row, "restored")], message=message, alias=named)
    if problem is not None:
        raise PartialError(
            f"{config.path} names {model}:{to} now, and its server does not confirm it: "
            f"{problem.message}",
            hint=problem.hint,
        ) from problem
    return Rollback(
        target=site.name,
        path=str(site.directory(to)),
        model=model,
        version=to,
        before=live,
        restored=restored,
        removed=(),
        at=made.at,
        by=made.by,
        message=made.message,
        served=served,
        way="config",
    )


def _before(past: list[Deployment], live: int, site: Site) -> int:
    """Return the version that was chosen last before ``live``.

    Raises:
        UnknownReferenceError: there was none.
    """
    for item in reversed(past):
        if PRESENT[item.event] and item.version != live:
            return item.version
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
