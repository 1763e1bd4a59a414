"""What was begun in a base path and broken off: it is finished before anything else is done there.

A rollback or a retirement changes the directory in several steps. What it is about to do is
written into the catalog before the first of them, so that a process that dies leaves a plan: the
next command at the base path carries it out, and the ledger tells what happened. A return by the
config file has one decisive step, the file: it is taken into the ledger if the file was written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mstore.catalog import targets
from mstore.catalog import versions as ledger
from mstore.catalog.engine import reading, writing
from mstore.catalog.versions import VersionRow
from mstore.domain.records import Deployment
from mstore.domain.targets import Site
from mstore.errors import IntegrityError
from mstore.ops.configuring import live_number
from mstore.ops.context import Context, now
from mstore.ops.deploying import Move, put, record_moves
from mstore.serving.publish import withdraw


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done in a base path.

    Attributes:
        verb: ``rollback``, ``retire``, ``return`` for a rollback by the config file, or ``fail``
            for what a server could not serve.
        model: name of the model.
        restore: version that is put there first, or None.
        leave: versions that leave, in this order.
        message: why, or None.
        alias: a name for ``to``, or None.
        to: the version that is live at the end, or None where that does not change.
        before: the version that was live until then, of a ``return``.
    """

    verb: str
    model: str
    restore: int | None
    leave: tuple[int, ...]
    message: str | None
    alias: str | None = None
    to: int | None = None
    before: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return an object that `from_json` reads."""
        return {
            "verb": self.verb,
            "model": self.model,
            "restore": self.restore,
            "leave": list(self.leave),
            "message": self.message,
            "alias": self.alias,
            "to": self.to,
            "before": self.before,
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "Plan":
        """Return the plan that `to_json` wrote."""
        return cls(**{**body, "leave": tuple(body["leave"])})


_LEFT = {"rollback": "rolled-back", "retire": "retired", "fail": "failed"}


@dataclass(frozen=True, slots=True)
class Done:
    """A plan that was carried out, and the events that it gave."""

    plan: Plan
    deployments: Sequence[Deployment]


def finish(context: Context, site: Site) -> Done | None:
    """Carry out what was begun in a base path whose lock is held; None if nothing was."""
    with reading(context.engine) as connection:
        body = targets.intent(connection, str(site.base))
    if body is None:
        return None
    plan = Plan.from_json(body)
    if plan.verb == "return" and live_number(site, plan.model) != plan.to:
        with writing(context.engine) as connection:
            targets.clear_intent(connection, str(site.base))
        return None
    return _carry_out(context, site, plan)


def carry_out(context: Context, site: Site, plan: Plan) -> Done:
    """Write a plan down and carry it out; the lock of the base path is held."""
    begin(context, site, plan)
    return _carry_out(context, site, plan)


def begin(context: Context, site: Site, plan: Plan) -> None:
    """Write a plan down; the lock of the base path is held."""
    with writing(context.engine) as connection:
        targets.set_intent(connection, str(site.base), plan.to_json(), now())


def _carry_out(context: Context, site: Site, plan: Plan) -> Done:
    moves = []
    if plan.verb == "return" and plan.to is not None:
        moves.append(Move(version_row(context, plan.model, plan.to), "restored"))
    elif plan.restore is not None:
        row = version_row(context, plan.model, plan.restore)
        put(context, row, site.base)
        moves.append(Move(row, "restored"))
    withdraw(site.base, plan.leave)
    moves += [
        Move(version_row(context, plan.model, number), _LEFT[plan.verb]) for number in plan.leave
    ]
    alias = None
    if plan.alias is not None and plan.to is not None:
        alias = (plan.alias, version_row(context, plan.model, plan.to))
    return Done(plan, record_moves(context, site, moves, message=plan.message, alias=alias))


def version_row(context: Context, model: str, number: int) -> VersionRow:
    """Return a version that the store has.

    Raises:
        IntegrityError: it is gone.
    """
    with reading(context.engine) as connection:
        rows = ledger.find_versions(connection, model=model, number=number)
    if not rows:
        raise IntegrityError(
            f"the store has no version {model}:{number} any more", hint="run: mstore verify"
        )
    return rows[0]
