"""Reads what stands around tasks, in one statement for any number of them.

Executors run it on their own connection and front ends on theirs, so it is plain SQL, and every step goes by
an index: what it costs depends on the task and not on the size of the plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.surroundings import Ancestor, FailedAttempt, Surroundings, TaskOutcome
from orchestrator.views import NoteView

#: Most that is read of each kind; a pack holds less.
BELOW_MAX = 100
FAILED_MAX = 10
NOTES_MAX = 100

#: How a task of the alias `o` with the state `s` came out, as the fields of TaskOutcome.
OUTCOME_FIELDS = """
'key', o.key, 'title', o.title, 'state', s.state,
'summary', coalesce(nullif(did.report->>'summary', ''), nullif(did.summary, ''), s.reason),
'files', coalesce(did.report->'files', '[]'), 'follow_ups', coalesce(did.report->'follow_ups', '[]')
"""

#: To be joined to `o`: its state, and its last work that succeeded.
OUTCOME_JOINS = """
JOIN task_states AS s ON s.task_id = o.id
LEFT JOIN LATERAL (
    SELECT a.summary, a.report FROM attempts AS a
    WHERE a.task_id = o.id AND a.kind = 'work' AND a.state = 'succeeded' ORDER BY a.number DESC LIMIT 1
) AS did ON true
"""

#: A row of `notes` with the alias `n`, as the fields of NoteView.
NOTE_FIELDS = """
'id', n.id, 'kind', n.kind, 'task_key', coalesce(k.key, ''), 'author', coalesce(w.agent_type, ''),
'text', n.text, 'at', n.created_at
"""

#: To be joined to `n`: its task, and the attempt that wrote it.
NOTE_JOINS = "LEFT JOIN tasks AS k ON k.id = n.task_id LEFT JOIN attempts AS w ON w.token = n.token"

#: Failures that say nothing about the work are left out.
SURROUNDINGS_SQL = f"""
SELECT t.id, coalesce(nullif(p.title, ''), p.name) AS plan, t.touches, above.ancestors, before.dependencies,
       tried.failed, said.notes, said.notes_total
FROM tasks AS t JOIN plans AS p ON p.id = t.plan_id
CROSS JOIN LATERAL (
    WITH RECURSIVE up AS (
        SELECT c.id, c.parent_id, c.key, c.title, c.body, 1 AS height FROM tasks AS c WHERE c.id = t.parent_id
        UNION ALL
        SELECT c.id, c.parent_id, c.key, c.title, c.body, up.height + 1
        FROM up JOIN tasks AS c ON c.id = up.parent_id
    )
    SELECT coalesce(array_agg(id), '{{}}') AS ids, coalesce(jsonb_agg(
        jsonb_build_object('key', key, 'title', title, 'body', body) ORDER BY height DESC), '[]') AS ancestors
    FROM up
) AS above
CROSS JOIN LATERAL (
    WITH RECURSIVE direct AS (
        SELECT DISTINCT c.id, c.kind, c.key
        FROM task_dependencies AS e JOIN tasks AS c ON c.id = e.on_task_id
        WHERE e.task_id = t.id AND e.kind IN ('blocks', 'informs')
    ), below AS (
        SELECT id, kind, key AS within FROM direct WHERE kind = 'container'
        UNION ALL
        SELECT c.id, c.kind, below.within
        FROM below JOIN tasks AS c ON c.parent_id = below.id AND NOT c.is_removed
    ), wanted AS (
        SELECT id, '' AS within FROM direct
        UNION ALL
        (SELECT id, within FROM below WHERE kind = 'leaf' LIMIT {BELOW_MAX})
    )
    SELECT coalesce(array_agg(o.id), '{{}}') AS ids, coalesce(jsonb_agg(
        jsonb_build_object('within', within, {OUTCOME_FIELDS}) ORDER BY within != '', o.ordinal DESC
        ), '[]') AS dependencies
    FROM wanted JOIN tasks AS o ON o.id = wanted.id {OUTCOME_JOINS}
) AS before
CROSS JOIN LATERAL (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'number', b.number, 'kind', b.kind, 'failure_class', coalesce(b.failure_class, ''),
        'summary', b.summary, 'detail', CASE WHEN b.age = 1 THEN b.detail ELSE '' END
        ) ORDER BY b.age), '[]') AS failed
    FROM (
        SELECT a.*, row_number() OVER (ORDER BY a.token DESC) AS age FROM attempts AS a
        WHERE a.task_id = t.id AND a.state IN ('failed', 'timed_out')
            AND coalesce(a.failure_class, '') NOT IN ('infrastructure', 'rate_limited', 'workspace')
        ORDER BY a.token DESC LIMIT {FAILED_MAX}
    ) AS b
) AS tried
CROSS JOIN LATERAL (
    SELECT coalesce(jsonb_agg(jsonb_build_object({NOTE_FIELDS}) ORDER BY n.id DESC), '[]') AS notes,
           coalesce(max(n.total), 0) AS notes_total
    FROM (
        SELECT f.*, count(*) OVER () AS total FROM (
            SELECT * FROM notes WHERE plan_id = t.plan_id AND (kind = 'decision' OR task_id IS NULL)
            UNION ALL
            SELECT * FROM notes
            WHERE task_id = ANY(above.ids || before.ids || t.id) AND kind = 'note'
        ) AS f ORDER BY f.id DESC LIMIT {NOTES_MAX}
    ) AS n {NOTE_JOINS}
) AS said
WHERE t.id = ANY(%(tasks)s::bigint[])
"""  # noqa: S608 - our own words


def surroundings_of(row: Mapping[Any, Any]) -> Surroundings:
    """Return a row of SURROUNDINGS_SQL as what it says."""
    return Surroundings(
        plan=row["plan"],
        ancestors=tuple(Ancestor(**each) for each in row["ancestors"]),
        touches=tuple(row["touches"]),
        dependencies=tuple(outcome_of(each) for each in row["dependencies"]),
        failed=tuple(FailedAttempt(**each) for each in row["failed"]),
        notes=tuple(NoteView(**each) for each in row["notes"]),
        notes_total=row["notes_total"],
    )


def outcome_of(fields: Mapping[str, Any]) -> TaskOutcome:
    """Return OUTCOME_FIELDS as what they say; a report may hold anything where lists of words belong."""
    lists = {name: tuple(map(str, fields[name] or ())) for name in ("files", "follow_ups")}
    return TaskOutcome(**{**fields, **lists})
