"""The checkpoints of a run in the order in which they came."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the index; nothing that is recorded changes."""
    op.create_index("ix_checkpoints_run_seq", "checkpoints", ["run", "superseded", "seq"])
