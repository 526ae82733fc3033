"""What an attempt may spend, and what a plan has spent without progress."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the columns; what is live then has reserved nothing."""
    for table, name in (("attempts", "reserved_micros"), ("plans", "fruitless_micros")):
        op.add_column(table, sa.Column(name, sa.BigInteger(), server_default="0", nullable=False))
