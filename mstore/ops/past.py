"""What was live then: audits told from the ledger, without looking at the directory."""

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from mstore.catalog import checkpoints
from mstore.catalog import versions as ledger
from mstore.catalog.engine import reading
from mstore.domain.records import AuditReport, Checkpoint, Deployment, Finding, VersionAudit
from mstore.domain.targets import TargetState
from mstore.errors import UnknownReferenceError, UsageError
from mstore.ops.context import Context
from mstore.ops.targets import states

_UNCHECKED = "told from the ledger; the bytes of that time cannot be looked at"


def moment_of(text: str) -> str:
    """Return a time as the ledger writes it, ISO 8601 in UTC with microseconds.

    Args:
        text: ISO 8601; without an offset it is local time. A date alone means its end.

    Raises:
        UsageError: it is no such time.
    """
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise UsageError(
            f"{text!r} is no time", hint="write 2026-11-03T09:00, local time, or with +01:00 or Z"
        ) from error
    if len(text) == len("2026-11-03"):
        moment = moment.replace(hour=23, minute=59, second=59, microsecond=999_999)
    utc = moment.astimezone(timezone.utc)
    return utc.isoformat(timespec="microseconds").replace("+00:00", "Z")


def audit_at(
    context: Context, where: str | Path | None, *, at: str, model: str | None = None
) -> tuple[AuditReport, ...]:
    """Return what was in base paths at a time, and which version was live.

    Args:
        context: the store.
        where: a target's name or a directory; None for all.
        at: ISO 8601, local time unless it has an offset.
        model: only of this model.

    Raises:
        UsageError: ``at`` is no time.
        UnknownReferenceError: the ledger has nothing of ``where`` until then.
    """
    found = states(context, where, model=model, at=(moment := moment_of(at)))
    reports = tuple(_report(context, state, moment) for state in found)
    if where is not None and not any(report.versions for report in reports):
        raise UnknownReferenceError(
            f"nothing was in {where} at {moment}, as far as this store knows",
            reference=str(where),
            candidates=[],
            hint="see when something came: mstore log --deployed",
        )
    return reports


def _report(context: Context, state: TargetState, at: str) -> AuditReport:
    versions = tuple(
        _version(context, item, live=number == state.placed.live)
        for number, item in sorted(state.placed.present.items())
    )
    return AuditReport(str(state.site.base), state.model, versions, target=state.site.name, at=at)


def _version(context: Context, item: Deployment, *, live: bool) -> VersionAudit:
    checkpoint = _checkpoint(context, item)
    body = None if checkpoint is None else checkpoint.to_json()
    return VersionAudit(
        version=item.version,
        path=item.path,
        verdict="unknown",
        basis="ledger",
        checkpoint=body,
        candidates=() if body is None else (body,),
        statement=None,
        deployment=item,
        findings=(Finding("past", item.path, _UNCHECKED),),
        live=live,
    )


def _checkpoint(context: Context, item: Deployment) -> Checkpoint | None:
    with reading(context.engine) as connection:
        rows = ledger.find_versions(connection, model=item.model, number=item.version)
        keys: Sequence[int] = [row.checkpoint for row in rows]
        found = checkpoints.by_seq(connection, keys) if keys else []
    return found[0].checkpoint if found else None
