"""Targets, the models they serve, aliases of versions, and what was begun in a base path."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "targets",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("policy", sa.String(length=16), nullable=False),
        sa.Column("config", sa.Text()),
        sa.Column("keep", sa.Integer()),
        sa.Column("server", sa.Text()),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "target_models",
        sa.Column("target", sa.Integer(), sa.ForeignKey("targets.seq"), nullable=False),
        sa.Column("model", sa.Integer(), sa.ForeignKey("models.seq"), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("target", "model"),
        sqlite_with_rowid=False,
    )
    op.create_index("ux_target_models_path", "target_models", ["path"], unique=True)
    op.create_table(
        "aliases",
        sa.Column("model", sa.Integer(), sa.ForeignKey("models.seq"), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("version", sa.Integer(), sa.ForeignKey("versions.seq"), nullable=False),
        sa.PrimaryKeyConstraint("model", "name"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_aliases_version", "aliases", ["version"])
    op.create_table(
        "intents",
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("base"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_deployments_target", "deployments", ["target", "seq"])
