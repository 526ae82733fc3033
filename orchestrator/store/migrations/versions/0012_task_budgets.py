"""What people let all attempts of a task spend."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the column; nobody has set a budget of a task yet."""
    column = sa.Column("budget_micros", sa.BigInteger(), server_default="0", nullable=False)
    op.add_column("task_states", column)
