"""Agent types: those of everybody, as their files say, and those that plans brought along."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Make the table and its index."""
    op.create_table(
        "agent_types",
        sa.Column("tenant_id", sa.Text(), server_default="local", nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("plan_id", sa.BigInteger()),
        sa.Column("definition", JSONB()),
        sa.Column("fault", sa.Text(), server_default="", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["plan_id"], ["plans.id"], name=op.f("fk_agent_types_plan_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "name", name=op.f("pk_agent_types")),
    )
    op.create_index(op.f("ix_agent_types_plan_id"), "agent_types", ["plan_id"])
