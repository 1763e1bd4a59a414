"""Write damaged objects of a checkpoint again, from the same files added once more."""

from dataclasses import dataclass

import sqlalchemy as sa

from mstore.catalog import checkpoints as queries
from mstore.catalog import damage, objects
from mstore.catalog.checkpoints import CheckpointRow
from mstore.objects.packs import PackWriter
from mstore.ops.context import Context


@dataclass(frozen=True, slots=True)
class Healing:
    """A checkpoint that is added once more.

    Attributes:
        row: the checkpoint.
        manifest: id of the manifest that was made of its files now.
        record: id of the record that was made now.
        at: time, ISO 8601 in UTC.
    """

    row: CheckpointRow
    manifest: bytes
    record: bytes
    at: str


def heal(context: Context, connection: sa.Connection, made: Healing, writer: PackWriter) -> bool:
    """Put the objects of a sealed pack in the place of those of a checkpoint that are damaged.

    Args:
        context: the store.
        connection: in a transaction.
        made: the checkpoint.
        writer: the pack: what the store lacks of its files, the manifest and the new record.

    Returns:
        Whether anything was damaged; if not, the pack is not needed.
    """
    row = made.row
    rotten = set(damage.noted(connection))
    chunks = set() if row.manifest in rotten else context.manifest(row.manifest).chunks()
    if row.checkpoint.example is not None:
        chunks |= {bytes.fromhex(row.checkpoint.example)}
    hurt = rotten & {row.manifest, row.record, *chunks}
    if not hurt:
        return False
    before = objects.packs_of(connection, hurt)
    writer.publish(context.packs)
    assert writer.name is not None  # noqa: S101 - publish looked
    objects.add_pack(connection, writer.name, writer.size, writer.entries.values(), made.at)
    left = set(damage.noted(connection))
    # Cut in another way than today, or the record's own bytes: nobody can write these again.
    lost = {key for key in (row.manifest, row.record) if key in left}
    queries.point(
        connection,
        row.seq,
        manifest=made.manifest if row.manifest in lost or chunks & left else row.manifest,
        record=made.record if row.record in lost else row.record,
    )
    damage.drop_objects(connection, lost)
    damage.drop_empty_packs(connection, before)
    return True
