"""The repository of a plan, and what each attempt left in it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add the column and the table; no plan has a repository yet."""
    op.add_column("plans", sa.Column("repository", postgresql.JSONB()))
    op.create_table(
        "attempt_commits",
        sa.Column("token", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tenant_id", sa.Text(), server_default="local", nullable=False),
        sa.Column("base_sha", sa.Text(), nullable=False),
        sa.Column("head_sha", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("files", postgresql.JSONB(), nullable=False),
        sa.ForeignKeyConstraint(
            ["token"], ["attempts.token"], name=op.f("fk_attempt_commits_token"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("token", name=op.f("pk_attempt_commits")),
    )
