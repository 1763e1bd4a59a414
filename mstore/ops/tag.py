"""Give a checkpoint a name."""

from mstore import disk
from mstore.catalog import checkpoints as queries
from mstore.catalog import liveness
from mstore.catalog import objects as object_queries
from mstore.catalog import versions as ledger
from mstore.catalog.checkpoints import CheckpointRow
from mstore.catalog.engine import reading, writing
from mstore.domain.canonical import canonical
from mstore.domain.names import check_tag
from mstore.domain.records import Checkpoint, Event, Version
from mstore.objects.packs import RECORD, PackWriter
from mstore.ops.context import Context, now, whoami
from mstore.ops.deploying import alias_event, give_alias
from mstore.ops.resolve import resolve_checkpoint, resolve_version


def tag(context: Context, reference: str, name: str) -> Checkpoint:
    """Give a tag to a checkpoint, taking it from the one of the model that has it.

    Raises:
        UsageError: ``name`` cannot be a tag.
    """
    check_tag(name)
    disk.sweep(context.tmp)
    with reading(context.engine) as connection:
        row = resolve_checkpoint(connection, reference)
    return _tag(context, row, name)


def tag_checkpoint(context: Context, row: CheckpointRow, name: str) -> Checkpoint:
    """Give a tag to a checkpoint that was looked up already; see `tag`."""
    check_tag(name)
    return _tag(context, row, name)


def alias(context: Context, reference: str, name: str) -> Version:
    """Give an alias to a version, taking it from the one of the model that has it.

    Raises:
        UsageError: ``name`` cannot be an alias.
        UnknownReferenceError: there is no such version.
    """
    check_tag(name)
    with reading(context.engine) as connection:
        row = resolve_version(connection, reference)
    at = now()
    disk.sweep(context.tmp)
    with disk.os_errors("recording the alias failed"), disk.work_directory(context.tmp) as work:
        writer = PackWriter(work)
        try:
            event = alias_event(writer, name, row, at=at)
            pack = writer.seal()
            with writing(context.engine) as connection:
                writer.publish(context.packs)
                entries = writer.entries.values()
                object_queries.add_pack(connection, pack, writer.size, entries, at)
                give_alias(connection, event, name, row)
        finally:
            writer.close()
    with reading(context.engine) as connection:
        model, number = row.version.model, row.version.version
        return ledger.find_versions(connection, model=model, number=number)[0].version


def _tag(context: Context, row: CheckpointRow, name: str) -> Checkpoint:
    with reading(context.engine) as connection:
        parent = queries.head(connection, row.checkpoint.model)
    checkpoint, at = row.checkpoint, now()
    body = {
        "type": "mstore/tag/1",
        "checkpoint": checkpoint.id,
        "tag": name,
        "at": at,
        "by": whoami(),
        "parent": parent,
    }
    disk.sweep(context.tmp)
    with disk.os_errors("recording the tag failed"), disk.work_directory(context.tmp) as work:
        writer = PackWriter(work)
        try:
            key = writer.add(RECORD, canonical(body)).id
            pack = writer.seal()
            with writing(context.engine) as connection:
                writer.publish(context.packs)
                entries = writer.entries.values()
                object_queries.add_pack(connection, pack, writer.size, entries, at)
                liveness.ensure_live(connection, row.seq)
                model = queries.ensure_model(connection, checkpoint.model)
                queries.set_tag(connection, model, name, row.seq)
                event = Event(
                    id=key.hex(),
                    event="tagged",
                    model=checkpoint.model,
                    at=at,
                    by=whoami(),
                    checkpoint=checkpoint.id,
                    run=checkpoint.run,
                    step=checkpoint.step,
                    version=None,
                    path=None,
                    message=name,
                )
                ledger.insert_event(connection, event, checkpoint=row.seq)
        finally:
            writer.close()
    with reading(context.engine) as connection:
        return queries.by_seq(connection, [row.seq])[0].checkpoint
