"""Checkpoints that were pruned, and the events that say so."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_COLUMNS = "seq, id, event, model, checkpoint, version, at, by, path, message"


def upgrade() -> None:
    """Add the mark and the table; an event need not be about one checkpoint alone any more."""
    op.add_column("checkpoints", sa.Column("pruned_at", sa.String(length=32)))
    op.create_index(
        "ix_checkpoints_pruned",
        "checkpoints",
        ["run", "step"],
        sqlite_where=sa.text("pruned_at IS NOT NULL"),
    )
    op.create_table(
        "events_new",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("event", sa.String(length=16), nullable=False),
        sa.Column("model", sa.Integer(), sa.ForeignKey("models.seq"), nullable=False),
        sa.Column("checkpoint", sa.Integer(), sa.ForeignKey("checkpoints.seq")),
        sa.Column("version", sa.Integer(), sa.ForeignKey("versions.seq")),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("path", sa.Text()),
        sa.Column("message", sa.Text()),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    op.execute(f"INSERT INTO events_new ({_COLUMNS}) SELECT {_COLUMNS} FROM events")  # noqa: S608
    op.drop_table("events")
    op.rename_table("events_new", "events")
    for column in ("model", "checkpoint", "version"):
        op.create_index(f"ix_events_{column}", "events", [column])
    op.create_table(
        "prunings",
        sa.Column("event", sa.Integer(), sa.ForeignKey("events.seq"), nullable=False),
        sa.Column("checkpoint", sa.Integer(), sa.ForeignKey("checkpoints.seq"), nullable=False),
        sa.PrimaryKeyConstraint("event", "checkpoint"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_prunings_checkpoint", "prunings", ["checkpoint"])
