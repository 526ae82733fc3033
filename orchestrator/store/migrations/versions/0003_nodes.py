"""Where an attempt runs stands with its start; what a person has let through stands with the task."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

#: What was let through could so far be told from what became of it.
_RELEASED_SQL = """
UPDATE task_states AS s SET is_released = true FROM tasks AS t
WHERE t.id = s.task_id AND (t.manual <> '' OR t.approve <> '')
  AND (s.state = 'ready' OR s.reason IN ('released', 'budget', 'no credentials')
       OR EXISTS (SELECT FROM attempts AS a WHERE a.task_id = s.task_id))
"""


def upgrade() -> None:
    """Add both columns; of old starts the node is not known."""
    op.add_column("starts", sa.Column("node_id", sa.Text(), server_default="", nullable=False))
    op.add_column(
        "task_states", sa.Column("is_released", sa.Boolean(), server_default="false", nullable=False)
    )
    op.execute(_RELEASED_SQL)
