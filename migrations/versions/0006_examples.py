"""The golden example that is recorded with a checkpoint."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column; checkpoints that are there have none."""
    op.add_column("checkpoints", sa.Column("example", sa.String(length=64)))
