"""The first catalog."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create all tables."""
    op.create_table(
        "models",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("next_version", sa.BigInteger(), nullable=False),
        sa.Column("head", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "packs",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "objects",
        sa.Column("id", sa.LargeBinary(length=32), nullable=False),
        sa.Column("pack", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("codec", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("stored", sa.BigInteger(), nullable=False),
        sa.Column("raw", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["pack"],
            ["packs.seq"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_objects_pack"), "objects", ["pack"], unique=False)
    op.create_table(
        "runs",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("model", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["model"],
            ["models.seq"],
        ),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("model", "name"),
    )
    op.create_table(
        "checkpoints",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("model", sa.Integer(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("step_source", sa.String(length=16), nullable=False),
        sa.Column("step_variable", sa.Text(), nullable=True),
        sa.Column("format", sa.String(length=32), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("tensors", sa.Integer(), nullable=False),
        sa.Column("content", sa.String(length=64), nullable=False),
        sa.Column("manifest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("record", sa.LargeBinary(length=32), nullable=False),
        sa.Column("meta", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("builder", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("added_at", sa.String(length=32), nullable=False),
        sa.Column("superseded", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model"],
            ["models.seq"],
        ),
        sa.ForeignKeyConstraint(
            ["run"],
            ["runs.seq"],
        ),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    op.create_index(op.f("ix_checkpoints_content"), "checkpoints", ["content"], unique=False)
    op.create_index(
        "ix_checkpoints_model_seq", "checkpoints", ["model", "superseded", "seq"], unique=False
    )
    op.create_index(
        "ux_checkpoints_run_step",
        "checkpoints",
        ["run", "step"],
        unique=True,
        sqlite_where=sa.text("superseded = 0"),
    )
    op.create_table(
        "metrics",
        sa.Column("checkpoint", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("model", sa.Integer(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["checkpoint"],
            ["checkpoints.seq"],
        ),
        sa.ForeignKeyConstraint(
            ["model"],
            ["models.seq"],
        ),
        sa.PrimaryKeyConstraint("checkpoint", "name"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_metrics_model_name_value", "metrics", ["model", "name", "value"], unique=False
    )
    op.create_table(
        "tags",
        sa.Column("model", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("checkpoint", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["checkpoint"],
            ["checkpoints.seq"],
        ),
        sa.ForeignKeyConstraint(
            ["model"],
            ["models.seq"],
        ),
        sa.PrimaryKeyConstraint("model", "name"),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_tags_checkpoint"), "tags", ["checkpoint"], unique=False)
    op.create_table(
        "tensors",
        sa.Column("fingerprint", sa.BigInteger(), nullable=False),
        sa.Column("checkpoint", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["checkpoint"],
            ["checkpoints.seq"],
        ),
        sa.PrimaryKeyConstraint("fingerprint", "checkpoint"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "versions",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("model", sa.Integer(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("checkpoint", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("manifest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("record", sa.LargeBinary(length=32), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["checkpoint"],
            ["checkpoints.seq"],
        ),
        sa.ForeignKeyConstraint(
            ["model"],
            ["models.seq"],
        ),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("model", "number"),
    )
    op.create_index(op.f("ix_versions_checkpoint"), "versions", ["checkpoint"], unique=False)
    op.create_index(op.f("ix_versions_digest"), "versions", ["digest"], unique=False)
    op.create_table(
        "deployments",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("event", sa.String(length=16), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("record", sa.LargeBinary(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["version"],
            ["versions.seq"],
        ),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index(op.f("ix_deployments_path"), "deployments", ["path"], unique=False)
    op.create_index(op.f("ix_deployments_version"), "deployments", ["version"], unique=False)
    op.create_table(
        "events",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("event", sa.String(length=16), nullable=False),
        sa.Column("model", sa.Integer(), nullable=False),
        sa.Column("checkpoint", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["checkpoint"],
            ["checkpoints.seq"],
        ),
        sa.ForeignKeyConstraint(
            ["model"],
            ["models.seq"],
        ),
        sa.ForeignKeyConstraint(
            ["version"],
            ["versions.seq"],
        ),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    op.create_index(op.f("ix_events_checkpoint"), "events", ["checkpoint"], unique=False)
    op.create_index(op.f("ix_events_model"), "events", ["model"], unique=False)
    op.create_index(op.f("ix_events_version"), "events", ["version"], unique=False)
