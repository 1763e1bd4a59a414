"""Queries about targets, aliases, and what was begun in a base path."""

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from mstore.catalog.tables import aliases, intents, models, target_models, targets, versions
from mstore.domain.targets import Target


def insert_target(connection: sa.Connection, target: Target, keys: Mapping[str, int]) -> None:
    """Insert a target; ``keys`` are those of its models by name."""
    result = connection.execute(
        sa.insert(targets).values(
            name=target.name,
            base=target.base,
            policy=target.policy,
            config=target.config,
            keep=target.keep,
            server=target.server,
            created_at=target.created_at,
        )
    )
    assert result.inserted_primary_key is not None  # noqa: S101 - returned for a single row
    seq = int(result.inserted_primary_key[0])
    rows = [
        {"target": seq, "model": keys[model], "path": path} for model, path in target.paths.items()
    ]
    connection.execute(sa.insert(target_models), rows)


def delete_target(connection: sa.Connection, name: str) -> None:
    """Delete a target; what happened in it stays on record."""
    seq = connection.scalar(sa.select(targets.c.seq).where(targets.c.name == name))
    connection.execute(sa.delete(target_models).where(target_models.c.target == seq))
    connection.execute(sa.delete(targets).where(targets.c.seq == seq))


def find_targets(
    connection: sa.Connection, *, name: str | None = None, path: str | None = None
) -> list[Target]:
    """Return targets by name: all, the one called ``name``, or that of a model's base path."""
    query = (
        sa.select(targets, models.c.name.label("model_name"), target_models.c.path)
        .join(target_models, target_models.c.target == targets.c.seq)
        .join(models, models.c.seq == target_models.c.model)
        .order_by(targets.c.name, models.c.name)
    )
    if name is not None:
        query = query.where(targets.c.name == name)
    if path is not None:
        of_path = sa.select(target_models.c.target).where(target_models.c.path == path)
        query = query.where(targets.c.seq.in_(of_path))
    rows: dict[str, list[Any]] = {}
    for row in connection.execute(query):
        rows.setdefault(row.name, []).append(row)
    return [
        Target(
            name=found[0].name,
            base=found[0].base,
            paths={row.model_name: row.path for row in found},
            policy=found[0].policy,
            config=found[0].config,
            keep=found[0].keep,
            server=found[0].server,
            created_at=found[0].created_at,
        )
        for found in rows.values()
    ]


def set_alias(connection: sa.Connection, model: int, name: str, version: int) -> None:
    """Give an alias to a version, taking it from the one that has it."""
    values = insert(aliases).values(model=model, name=name, version=version)
    connection.execute(values.on_conflict_do_update(set_={"version": version}))


def aliased(connection: sa.Connection, model: str, name: str) -> int | None:
    """Return the number of the version of a model that has an alias, or None."""
    query = (
        sa.select(versions.c.number)
        .join(aliases, aliases.c.version == versions.c.seq)
        .join(models, models.c.seq == aliases.c.model)
        .where(models.c.name == model, aliases.c.name == name)
    )
    return connection.scalar(query)


def alias_names(connection: sa.Connection, keys: list[int]) -> dict[int, tuple[str, ...]]:
    """Return the aliases of versions: key of the version to names in order."""
    query = (
        sa.select(aliases.c.version, aliases.c.name)
        .where(aliases.c.version.in_(keys))
        .order_by(aliases.c.name)
    )
    found: dict[int, tuple[str, ...]] = {}
    for row in connection.execute(query):
        found[row.version] = (*found.get(row.version, ()), row.name)
    return found


def set_intent(connection: sa.Connection, base: str, body: Mapping[str, Any], at: str) -> None:
    """Write down what is about to be done in a base path."""
    values = {"base": base, "body": json.dumps(body, sort_keys=True), "at": at}
    connection.execute(sa.insert(intents).values(values))


def intent(connection: sa.Connection, base: str) -> dict[str, Any] | None:
    """Return what was begun in a base path, or None."""
    body = connection.scalar(sa.select(intents.c.body).where(intents.c.base == base))
    return None if body is None else dict(json.loads(body))


def clear_intent(connection: sa.Connection, base: str) -> None:
    """Take what was begun in a base path as done."""
    connection.execute(sa.delete(intents).where(intents.c.base == base))
