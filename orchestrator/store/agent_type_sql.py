"""What executors and the scheduler ask of stored agent types.

It stands apart from the rest so that an executor, which starts often, does not load SQLAlchemy.
"""

from __future__ import annotations

from orchestrator.agent_types import GENERAL, name_and_plan

#: By which an agent type works: its own definition, that of its name, or the general one.
DEFINITION_SQL = """
SELECT definition FROM agent_types WHERE name = ANY(%(names)s::text[]) AND definition IS NOT NULL
ORDER BY array_position(%(names)s::text[], name) LIMIT 1
"""

#: What the scheduler must know of agent types: everybody's, those of unfinished plans, and those of one plan.
SCHEDULED_SQL = """
SELECT name, plan_id, definition->>'backend' AS backend, (definition->'limits'->>'sessions')::int AS sessions
FROM agent_types WHERE definition IS NOT NULL AND (
    plan_id IS NULL OR plan_id = %(plan)s
    OR plan_id IN (SELECT id FROM plans WHERE state NOT IN ('done', 'cancelled'))
)
"""


def lookup_names(pool: str) -> list[str]:
    """Return the names under which DEFINITION_SQL looks for the agent type of a pool."""
    return [pool, name_and_plan(pool)[0], GENERAL]
