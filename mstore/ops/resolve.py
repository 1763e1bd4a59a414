"""Find what a reference names."""

from functools import partial

import sqlalchemy as sa

from mstore.catalog import checkpoints, targets, versions
from mstore.catalog.checkpoints import CheckpointRow
from mstore.catalog.versions import VersionRow
from mstore.domain.names import looks_like_hash
from mstore.domain.records import Checkpoint
from mstore.domain.references import (
    Best,
    CheckpointRef,
    Latest,
    Named,
    Step,
    VersionRef,
    WordRef,
    higher_is_better,
    parse_reference,
)
from mstore.errors import AmbiguousReferenceError, UnknownReferenceError, UsageError


def resolve(
    connection: sa.Connection, text: str, *, pruned: bool = False
) -> CheckpointRow | VersionRow:
    """Return what ``text`` names.

    Args:
        connection: the catalog.
        text: the reference.
        pruned: whether it may be a checkpoint that was pruned, whose files are gone or will be.

    Raises:
        UsageError: it is no reference.
        UnknownReferenceError: it names nothing, or what was pruned.
        AmbiguousReferenceError: it names more than one thing.
    """
    found = _resolve(connection, text)
    if not pruned and isinstance(found, CheckpointRow):
        _ensure_not_pruned(found.checkpoint, text)
    return found


def _ensure_not_pruned(checkpoint: Checkpoint, text: str) -> None:
    if checkpoint.pruned_at is None:
        return
    name = f"{checkpoint.model}/{checkpoint.run}@{checkpoint.step}"
    raise UnknownReferenceError(
        f"{text} names {name} ({checkpoint.id[:12]}), which was pruned at {checkpoint.pruned_at}",
        reference=text,
        candidates=[],
        hint=f"who and why: mstore log {checkpoint.id[:12]}; to have it back, add its files again: "
        f"mstore add {checkpoint.source} --model {checkpoint.model} --run {checkpoint.run} "
        f"--step {checkpoint.step}",
    )


def _resolve(connection: sa.Connection, text: str) -> CheckpointRow | VersionRow:
    reference = parse_reference(text)
    if isinstance(reference, VersionRef):
        return _version(connection, reference, text)
    if isinstance(reference, WordRef):
        return _word(connection, reference.word)
    return _checkpoint(connection, reference, text)


def resolve_checkpoint(connection: sa.Connection, text: str) -> CheckpointRow:
    """Return the checkpoint that ``text`` names; of a version, the one it was made of."""
    found = resolve(connection, text)
    if isinstance(found, CheckpointRow):
        return found
    return checkpoints.by_seq(connection, [found.checkpoint])[0]


def resolve_version(connection: sa.Connection, text: str) -> VersionRow:
    """Return the version that ``text`` names.

    Raises:
        UnknownReferenceError: it names none, or a checkpoint.
    """
    found = resolve(connection, text)
    if isinstance(found, VersionRow):
        return found
    checkpoint = found.checkpoint
    candidates = [f"{checkpoint.model}:{number}" for number in checkpoint.versions]
    raise UnknownReferenceError(
        f"{text} names a checkpoint, and a version is needed",
        reference=text,
        candidates=candidates,
        hint=f"name one of its versions: {', '.join(candidates)}"
        if candidates
        else f"make a version of it first: mstore export {text}",
    )


def _version(connection: sa.Connection, reference: VersionRef, text: str) -> VersionRow:
    number = reference.number
    found: list[VersionRow] = []
    if reference.alias is not None:
        number = targets.aliased(connection, reference.model, reference.alias)
    if (reference.alias is None or number is not None) and (number is None or number < 2**63):
        found = versions.find_versions(connection, model=reference.model, number=number, limit=1)
    if found:
        return found[0]
    if checkpoints.model_key(connection, reference.model) is None:
        _unknown_model(connection, reference.model, text)
    rows = versions.find_versions(connection, model=reference.model, limit=8)
    names = [f"{row.version.model}:{row.version.version}" for row in rows]
    raise UnknownReferenceError(
        f"{text} names no version",
        reference=text,
        candidates=names,
        hint=f"versions: {', '.join(names)}"
        if names
        else f"there is none yet; make one: mstore export {reference.model}",
    )


def _word(connection: sa.Connection, word: str) -> CheckpointRow:
    is_model = checkpoints.model_key(connection, word) is not None
    by_hash = _by_hash(connection, word, None) if looks_like_hash(word) else []
    if is_model and by_hash:
        raise AmbiguousReferenceError(
            f"{word} is a model and also begins a content id",
            reference=word,
            candidates=[f"{word}@latest", *(row.checkpoint.id for row in by_hash)],
            hint=f"write {word}@latest, or more digits of the id",
        )
    if is_model:
        return _checkpoint(connection, CheckpointRef(word), word)
    return _one_of(by_hash, word) or _unknown_model(connection, word, word)


def _unknown_model(connection: sa.Connection, model: str, text: str) -> CheckpointRow:
    names = checkpoints.model_names(connection)
    raise UnknownReferenceError(
        f"the store has no model {model!r}"
        + (" and no checkpoint whose id begins so" if looks_like_hash(text) else ""),
        reference=text,
        candidates=names,
        hint=f"models in the store: {', '.join(names)}"
        if names
        else "the store is empty; add a checkpoint: mstore add PATH --model NAME",
    )


def _one_of(rows: list[CheckpointRow], text: str) -> CheckpointRow | None:
    if len(rows) > 1:
        names = [_name(row) for row in rows]
        raise AmbiguousReferenceError(
            f"{text} could be any of {len(names)} checkpoints: {', '.join(names)}",
            reference=text,
            candidates=names,
            hint="name one of them",
        )
    return rows[0] if rows else None


def _name(row: CheckpointRow) -> str:
    checkpoint = row.checkpoint
    return f"{checkpoint.model}/{checkpoint.run}@{checkpoint.step} ({checkpoint.id[:12]})"


def _checkpoint(connection: sa.Connection, reference: CheckpointRef, text: str) -> CheckpointRow:
    if checkpoints.model_key(connection, reference.model) is None:
        return _unknown_model(connection, reference.model, text)
    row = _select(connection, reference, text)
    if row is None:
        candidates = checkpoints.nearby(connection, reference.model)
        raise UnknownReferenceError(
            f"{text} names no checkpoint",
            reference=text,
            candidates=candidates,
            hint=f"the newest are {', '.join(candidates)}; see: mstore list {reference.model}",
        )
    return row


def _select(connection: sa.Connection, reference: CheckpointRef, text: str) -> CheckpointRow | None:
    model, run, selector = reference.model, reference.run, reference.selector
    if isinstance(selector, Latest):
        return checkpoints.newest(connection, model, run)
    if isinstance(selector, Step):
        if selector.step > 2**63 - 1:
            return None
        at_step = partial(checkpoints.at_step, connection, model, run, selector.step)
        return _one_of(at_step() or at_step(pruned=True), text)
    if isinstance(selector, Best):
        return _best(connection, reference, selector, text)
    return _named(connection, reference, selector, text)


def _by_hash(connection: sa.Connection, prefix: str, model: str | None) -> list[CheckpointRow]:
    """Return the checkpoints whose id begins so; those that were pruned where no other does."""
    by_prefix = partial(checkpoints.by_prefix, connection, prefix, model)
    return by_prefix() or by_prefix(pruned=True)


def _named(
    connection: sa.Connection, reference: CheckpointRef, selector: Named, text: str
) -> CheckpointRow | None:
    if looks_like_hash(selector.name):
        found = _by_hash(connection, selector.name, reference.model)
    else:
        tagged = checkpoints.tagged(connection, reference.model, selector.name)
        found = [tagged] if tagged else []
    run = reference.run
    return _one_of([row for row in found if run in {None, row.checkpoint.run}], text)


def _best(
    connection: sa.Connection, reference: CheckpointRef, selector: Best, text: str
) -> CheckpointRow | None:
    names = checkpoints.metric_names(connection, reference.model)
    metric = selector.metric or _main_metric(names)
    if metric is None or metric not in names:
        raise UnknownReferenceError(
            f"{text}: which metric? {reference.model} has "
            + (f"no metric {metric!r}" if metric else f"{len(names)} metrics"),
            reference=text,
            candidates=[f"{reference.model}@best:{name}" for name in names],
            hint=f"metrics recorded: {', '.join(names) or 'none; give --metric NAME=VALUE to add'}",
        )
    highest = selector.highest if selector.highest is not None else higher_is_better(metric)
    return checkpoints.best(connection, reference.model, reference.run, metric, highest=highest)


def _main_metric(names: list[str]) -> str | None:
    """Return ``val_loss``, else ``loss``, else the only one there is."""
    for name in ("val_loss", "loss"):
        if name in names:
            return name
    return names[0] if len(names) == 1 else None


def model_of(text: str) -> tuple[str, str | None]:
    """Return model and run of a text such as ``mnist`` or ``mnist/lr3e4``.

    Raises:
        UsageError: it is something else.
    """
    reference = parse_reference(text)
    if isinstance(reference, WordRef):
        return reference.word, None
    if isinstance(reference, CheckpointRef) and "@" not in text:
        return reference.model, reference.run
    raise UsageError(f"{text!r} is no model", hint="write MODEL or MODEL/RUN")
