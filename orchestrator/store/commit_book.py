"""The book of commits: what attempts left in the repository of their plan, on the executor's side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.rows import dict_row

from orchestrator.repository_ports import AttemptCommits, EarlierWork
from orchestrator.store.hot import PLAN_ONCE, HotConnection

#: Of the tasks that the task or a container around it waits for, all those in them: the last work that
#: succeeded. Of the task itself the last work, however it ended. What others did comes first.
_EARLIER_SQL = """
WITH RECURSIVE mine AS (
    SELECT token, task_id, kind FROM attempts WHERE token = %(token)s
), around AS (
    SELECT t.id, t.parent_id FROM mine JOIN tasks AS t ON t.id = mine.task_id
    UNION ALL
    SELECT t.id, t.parent_id FROM around JOIN tasks AS t ON t.id = around.parent_id
), needed AS (
    SELECT e.on_task_id AS id FROM around JOIN task_dependencies AS e ON e.task_id = around.id
    WHERE e.kind = 'blocks'
    UNION
    SELECT t.id FROM needed JOIN tasks AS t ON t.parent_id = needed.id AND NOT t.is_removed
)
SELECT did.token, did.head_sha, t.key, t.id = mine.task_id AS is_own
FROM mine CROSS JOIN LATERAL (
    SELECT id FROM needed WHERE mine.kind = 'work' UNION SELECT mine.task_id
) AS of_task JOIN tasks AS t ON t.id = of_task.id CROSS JOIN LATERAL (
    SELECT a.token, c.head_sha FROM attempts AS a JOIN attempt_commits AS c ON c.token = a.token
    WHERE a.task_id = of_task.id AND a.kind = 'work' AND a.token < mine.token AND c.head_sha != c.base_sha
        AND (a.state = 'succeeded' OR a.task_id = mine.task_id)
    ORDER BY a.token DESC LIMIT 1
) AS did
ORDER BY is_own, did.token
"""

_SAVE_SQL = """
INSERT INTO attempt_commits (token, tenant_id, base_sha, head_sha, branch, files)
SELECT token, tenant_id, %(base)s, %(head)s, %(branch)s, %(files)s FROM attempts WHERE token = %(token)s
ON CONFLICT (token) DO NOTHING
"""


class PostgresCommitBook:
    """Implements repository_ports.CommitBook.

    Args:
        url: libpq URL of the service role.
        name: how the server's activity view shows the connection; it is opened for the first clone.
    """

    def __init__(self, url: str, *, name: str) -> None:
        self._connection = HotConnection(
            url, name=name, row_factory=dict_row, options=PLAN_ONCE, autocommit=True
        )

    async def earlier(self, token: int) -> Sequence[EarlierWork]:
        """Return what an attempt begins with: what its task depends on, then the last attempt at it."""
        async with self._connection.use() as connection:
            cursor = await connection.execute(_EARLIER_SQL, {"token": token})
            rows: list[Mapping[str, Any]] = await cursor.fetchall()
        return [EarlierWork(**row) for row in rows]

    async def save(self, commits: AttemptCommits) -> None:
        """Keep what an attempt left; the first word on it counts."""
        values = {
            "token": commits.token,
            "base": commits.base_sha,
            "head": commits.head_sha,
            "branch": commits.branch,
            "files": json.dumps(commits.files),
        }
        async with self._connection.use() as connection:
            await connection.execute(_SAVE_SQL, values)

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()
