"""Notes and decisions, and the way from a container to the tasks in it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the table and the indexes."""
    op.create_table(
        "notes",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("tenant_id", sa.Text(), server_default="local", nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=False),
        sa.Column("task_id", sa.BigInteger()),
        sa.Column("token", sa.BigInteger()),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_notes_plan_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_notes_task_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notes")),
    )
    op.create_index(op.f("ix_notes_plan_id"), "notes", ["plan_id", "id"])
    op.create_index(op.f("ix_notes_task_id"), "notes", ["task_id"])
    is_shared = sa.text("kind = 'decision' OR task_id IS NULL")
    op.create_index(op.f("ix_notes_shared"), "notes", ["plan_id", "id"], postgresql_where=is_shared)
    op.create_index(op.f("ix_tasks_parent_id"), "tasks", ["parent_id"])
