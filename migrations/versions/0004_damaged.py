"""Objects that a verification found damaged, so that nobody relies on them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the table of damaged objects."""
    op.create_table(
        "damaged",
        sa.Column("id", sa.LargeBinary(length=32), nullable=False),
        sa.Column("found_at", sa.String(length=32), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
