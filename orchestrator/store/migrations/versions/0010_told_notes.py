"""Which notes have become events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the column and its index; the notes that there are have no event and get none."""
    op.add_column("notes", sa.Column("is_told", sa.Boolean(), server_default=sa.text("true"), nullable=False))
    op.alter_column("notes", "is_told", server_default=sa.text("false"))
    op.create_index(op.f("ix_notes_untold"), "notes", ["id"], postgresql_where=sa.text("NOT is_told"))
