"""Circuit breakers; unmet dependencies are counted, not kept; leases say which attempt of a task is live."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Drop what the edges tell, let leases hold the uniqueness, make the table."""
    op.drop_column("task_states", "unmet_dependencies")
    op.add_column("task_states", sa.Column("wants", sa.Text(), server_default="work", nullable=False))
    op.execute("UPDATE task_states SET wants = 'gate' WHERE state = 'verifying'")
    op.drop_index("ix_task_states_ready", "task_states")
    op.drop_index("uq_attempts_live", "attempts")
    op.add_column("leases", sa.Column("task_id", sa.BigInteger(), nullable=True))
    op.execute("UPDATE leases SET task_id = a.task_id FROM attempts AS a WHERE a.token = leases.token")
    op.alter_column("leases", "task_id", nullable=False)
    op.create_unique_constraint(op.f("uq_leases_task_id"), "leases", ["task_id"])
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
