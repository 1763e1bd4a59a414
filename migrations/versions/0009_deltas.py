"""Objects that are stored as the difference to another one."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the columns; objects that are there have no base, and none was tried."""
    op.add_column("objects", sa.Column("base", sa.LargeBinary(length=32)))
    op.add_column("objects", sa.Column("tried", sa.LargeBinary(length=32)))
