"""Circuit breakers of agent types; unmet dependencies are counted, not kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table, and drop what the edges tell."""
    op.drop_column("task_states", "unmet_dependencies")
    op.create_table(
        "circuit_breakers",
        sa.Column("tenant_id", sa.Text(), server_default="local", nullable=False),
        sa.Column("agent_type", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "agent_type", name=op.f("pk_circuit_breakers")),
    )
