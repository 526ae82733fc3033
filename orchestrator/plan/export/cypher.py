"""Cypher for Neo4j: the plan as nodes `(:Task)` below a `(:Plan)`, written so that it may be run again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from orchestrator.plan.export.parts import known_edges
from orchestrator.plan.model import DependencyKind, Plan, PlanTask

#: So many rows stand in one statement, so that none is larger than a server takes.
_ROWS_MAX = 1000

_ESCAPES = str.maketrans(
    {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
)
_RELATIONS = {
    DependencyKind.BLOCKS: "BLOCKS",
    DependencyKind.INFORMS: "INFORMS",
    DependencyKind.RELATES: "RELATES",
}

_TASKS = "MATCH (p:Plan {name: %s})\nMERGE (t:Task {plan: p.name, key: row.key})\nSET t += row\n"
_TASKS += "MERGE (p)-[:HAS]->(t);"
_EDGES = "MATCH (a:Task {plan: %s, key: row.first})\nMATCH (b:Task {plan: %s, key: row.then})\n"


def to_cypher(plan: Plan) -> str:
    """Write statements that make the plan, or bring it up to date: every node and edge is merged.

    `(a)-[:BLOCKS]->(b)` says that b waits for a; `(a)-[:CONTAINS]->(b)` that a is the container of b.
    """
    name = _literal(plan.name or plan.title or "plan")
    statements = [
        "CREATE CONSTRAINT task_key IF NOT EXISTS FOR (t:Task) REQUIRE (t.plan, t.key) IS UNIQUE;",
        f"MERGE (p:Plan {{name: {name}}})\nSET p.title = {_literal(plan.title)};",
        *_batches([_task_values(task) for task in plan.tasks], _TASKS % name),
    ]
    ends = _EDGES % (name, name)
    inside = [{"first": task.parent, "then": task.key} for task in plan.tasks if task.parent]
    statements += _batches(inside, f"{ends}MERGE (a)-[:CONTAINS]->(b);")
    for kind, relation in _RELATIONS.items():
        rows = [
            {
                "first": edge.on,
                "then": edge.task,
                "is_explicit": edge.is_explicit,
                "confidence": edge.confidence,
                "evidence": edge.evidence,
            }
            for edge in known_edges(plan)
            if edge.kind is kind
        ]
        said = (
            "SET r.is_explicit = row.is_explicit, r.confidence = row.confidence, r.evidence = row.evidence;"
        )
        statements += _batches(rows, f"{ends}MERGE (a)-[r:{relation}]->(b)\n{said}")
    return "\n".join(statements) + "\n"


def _batches(rows: Sequence[Mapping[str, object]], then: str) -> Iterator[str]:
    for first in range(0, len(rows), _ROWS_MAX):
        maps = ",\n  ".join(map(_map, rows[first : first + _ROWS_MAX]))
        yield f"UNWIND [\n  {maps}\n] AS row\n{then}"


def _task_values(task: PlanTask) -> dict[str, object]:
    return {
        "key": task.key,
        "title": task.title,
        "kind": task.kind.value,
        "mark": task.mark.value,
        "priority": task.priority,
        "estimate_ms": task.estimate_ms,
        "agent": task.agent,
        "task_type": task.task_type,
        "domain": task.domain,
        "body": task.body,
    }


def _map(row: Mapping[str, object]) -> str:
    return "{" + ", ".join(f"{name}: {_literal(value)}" for name, value in row.items()) + "}"


def _literal(value: object) -> str:
    if isinstance(value, str):
        return f"'{value.translate(_ESCAPES)}'"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
