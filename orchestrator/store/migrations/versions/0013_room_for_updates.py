"""Room on each page of attempts for both updates of their rows."""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """An attempt is written three times; pages that are full by then cost each index an entry a time."""
    op.execute("ALTER TABLE attempts SET (fillfactor = 40)")
