"""Targets: name a serving directory, list what is in it, forget it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import sqlalchemy as sa

from mstore import disk
from mstore.catalog import checkpoints as queries
from mstore.catalog import targets
from mstore.catalog import versions as ledger
from mstore.catalog.engine import reading, writing
from mstore.domain.names import check_name
from mstore.domain.places import Base, base_of
from mstore.domain.records import Deployment
from mstore.domain.servers import ServerAddress
from mstore.domain.targets import Policy, Site, Target, TargetState, replay
from mstore.errors import ConflictError, InputError, UnknownReferenceError, UsageError
from mstore.ops.configuring import ConfigFile
from mstore.ops.context import Context, now
from mstore.ops.deploying import find_site, history
from mstore.serving.publish import prepare_base


def add_target(
    context: Context,
    name: str,
    base: Base,
    *,
    models: Sequence[str],
    keep: int | None = None,
    server: str | None = None,
    policy: Policy = "latest",
    config: Path | None = None,
) -> Target:
    """Give a serving directory a name; it is made if need be.

    A target of one model serves it from ``base`` itself, one of several from ``base/MODEL``.

    Args:
        context: the store.
        name: what it is called.
        base: the directory.
        models: what it serves.
        keep: how many versions stay, or None for all.
        server: where the server of that directory listens, as `ServerAddress.parse` reads it. It is
            not asked now: it may start only when there is something to serve.
        policy: ``latest`` where the server takes the highest number, ``specific`` where its
            config file names what it serves.
        config: that file, for ``specific``; it may not be there yet.

    Raises:
        UsageError: the name or the server's address cannot be one, or no model is named.
        ConflictError: there is a target of that name or with that directory.
        UnknownReferenceError: the store has no such model.
        SystemIOError: the directory cannot be made.
    """
    check_name("target", name)
    if not models or len(set(models)) < len(models):
        raise UsageError("a target serves one or more models", hint="name each once: --model NAME")
    if keep is not None and keep < 1:
        raise UsageError(f"a target keeps 1 or more versions, not {keep}")
    base = base_of(base)
    if isinstance(base, Path):
        if base.exists() and not base.is_dir():
            raise InputError(f"{base} is not a directory", hint="name that of the versions")
        base = base.resolve()
    paths = {model: str(base if len(models) == 1 else base / model) for model in models}
    if (policy == "specific") != (config is not None):
        raise UsageError(
            "the policy specific needs the server's config file, and only it has one",
            hint="--policy specific --config models.config",
        )
    if config is not None:
        config = _checked_config(config)
    address = None if server is None else str(ServerAddress.parse(server))
    where = None if config is None else str(config)
    target = Target(name, str(base), paths, policy, where, keep, address, now())
    with reading(context.engine) as connection:
        _ensure_free(target, targets.find_targets(connection))
        known = queries.model_names(connection)
    for model in models:
        if model not in known:
            raise UnknownReferenceError(
                f"the store has no model {model!r}",
                reference=model,
                candidates=known,
                hint=f"models in the store: {', '.join(known) or 'none yet; add a checkpoint'}",
            )
    # A server that is told of a base path that is not there updates nothing else either.
    for path in paths.values():
        prepare_base(base_of(path))
    with disk.os_errors("recording the target failed"), writing(context.engine) as connection:
        _ensure_free(target, targets.find_targets(connection))
        keys = {model: queries.ensure_model(connection, model) for model in models}
        targets.insert_target(connection, target, keys)
    return target


def _checked_config(config: Path) -> Path:
    """Return the path of a config file that can be worked with.

    Raises:
        InputError: it cannot, or its directory is not there.
    """
    config = config.absolute()
    if not config.parent.is_dir():
        raise InputError(
            f"{config.parent} is not there", hint="the config file is made, its directory is not"
        )
    ConfigFile(config, config.parent, "").entry()
    return config


def _ensure_free(target: Target, others: Sequence[Target]) -> None:
    for other in others:
        if other.name == target.name:
            raise ConflictError(
                f"there is a target {target.name} already, in {other.base}",
                hint=f"choose another name, or: mstore target remove {target.name}",
            )
        taken = set(target.paths.values()) & set(other.paths.values())
        if taken:
            raise ConflictError(
                f"{min(taken)} belongs to the target {other.name}",
                hint="one directory is one model's in one target",
            )


def list_targets(context: Context) -> tuple[Target, ...]:
    """Return all targets by name."""
    with reading(context.engine) as connection:
        return tuple(targets.find_targets(connection))


def get_target(context: Context, name: str) -> Target:
    """Return a target by its name.

    Raises:
        UnknownReferenceError: there is none.
    """
    with reading(context.engine) as connection:
        return _get(connection, name)


def _get(connection: sa.Connection, name: str) -> Target:
    found = targets.find_targets(connection, name=name)
    if found:
        return found[0]
    known = [target.name for target in targets.find_targets(connection)]
    raise UnknownReferenceError(
        f"there is no target {name}",
        reference=name,
        candidates=known,
        hint=f"targets: {', '.join(known)}" if known else "make one: mstore target add NAME BASE",
    )


def remove_target(context: Context, name: str) -> Target:
    """Forget a target; its directory and its history stay.

    Raises:
        UnknownReferenceError: there is none of that name.
    """
    with disk.os_errors("removing the target failed"), writing(context.engine) as connection:
        target = _get(connection, name)
        targets.delete_target(connection, name)
    return target


def states(
    context: Context,
    where: str | Path | None = None,
    *,
    model: str | None = None,
    at: str | None = None,
) -> tuple[TargetState, ...]:
    """Return what the ledger says is, or was, in base paths.

    Args:
        context: the store.
        where: a target's name or a directory; None for every base path of the ledger.
        model: only of this model.
        at: time, ISO 8601 in UTC with microseconds; None for now.

    Raises:
        UnknownReferenceError: ``where`` is neither a target nor a directory, or nothing was there.
    """
    if where is None:
        return tuple(
            TargetState(site, owner, replay(past, until=at, policy=site.policy))
            for site, owner, past in _every(context)
            if model in {None, owner}
        )
    with reading(context.engine) as connection:
        named = targets.find_targets(connection, name=str(where))
        models = sorted(named[0].paths) if named and model is None else [model]
        sites = [(find_site(connection, where, each), each) for each in models]
        found = [
            TargetState(
                site,
                each,
                replay(history(connection, site.base), until=at, policy=site.policy),
            )
            for site, each in sites
        ]
    return tuple(found)


def _every(context: Context) -> list[tuple[Site, str | None, list[Deployment]]]:
    """Return every base path that is a target's or that the ledger has events of."""
    with reading(context.engine) as connection:
        known = targets.find_targets(connection)
        past: dict[Base, list[Deployment]] = {}
        for item in reversed(ledger.find_deployments(connection)):
            past.setdefault(base_of(item.path).parent, []).append(item)
    owners = {
        base_of(path): (target, model) for target in known for model, path in target.paths.items()
    }
    found: list[tuple[Site, str | None, list[Deployment]]] = []
    for base in sorted(owners.keys() | past.keys(), key=str):
        target, model = owners.get(base, (None, None))
        events = past.get(base, [])
        if model is None and events:
            model = events[-1].model
        found.append((Site(base, target.name if target else str(base), target), model, events))
    return found


def paths_of(context: Context, where: str) -> Mapping[str, Base] | None:
    """Return the base paths of a target by model; None where it is no target's name."""
    with reading(context.engine) as connection:
        found = targets.find_targets(connection, name=where)
    return {model: base_of(path) for model, path in found[0].paths.items()} if found else None
