"""Aggregated outcomes: `agent_task_affinity`, and how far in the events it reaches.

The row `metrics` of `orchestrator_state` holds the last seq. It is locked first in every transaction, so two
writers (an old incarnation and its successor) take turns and neither counts an event again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, fields
from typing import Any

import psycopg
from psycopg.rows import dict_row

from orchestrator.core.words import AttemptKind, AttemptState, FailureClass
from orchestrator.outcome_ports import Affinity, AffinityKey, EndedAttempt, FoldOutcomes
from orchestrator.store.hot import HotConnection

_FIRST_SQL = """
INSERT INTO orchestrator_state (key, value) VALUES ('metrics', jsonb_build_object('seq', 0))
ON CONFLICT DO NOTHING
"""

_LOCK_SQL = "SELECT (value ->> 'seq')::bigint AS seq FROM orchestrator_state WHERE key = 'metrics' FOR UPDATE"

#: The attempt `w` that an event speaks about: the attempt that ended, or the work before a gate. Tokens grow.
_EVENTS_SQL = """
SELECT e.seq, a.token, a.kind, a.state, a.failure_class, t.verify <> '[]'::jsonb AS has_gate,
       w.tenant_id, w.agent_type, t.task_type, t.domain, w.cost_micros,
       w.input_tokens + w.output_tokens AS tokens,
       coalesce(extract(epoch FROM w.ended_at - w.started_at) * 1000, 0)::bigint AS duration_ms
FROM (
    SELECT b.first_seq + e.n - 1 AS seq, e.type, e.token
    FROM (SELECT * FROM event_batches WHERE last_seq > %(after)s ORDER BY last_seq LIMIT %(limit)s) AS b,
        unnest(b.types, b.tokens) WITH ORDINALITY AS e (type, token, n)
    WHERE b.first_seq + e.n - 1 > %(after)s ORDER BY 1 LIMIT %(limit)s
) AS e
LEFT JOIN attempts AS a ON a.token = e.token AND e.type = 'attempt.ended'
LEFT JOIN tasks AS t ON t.id = a.task_id
LEFT JOIN LATERAL (
    SELECT * FROM attempts AS x
    WHERE x.task_id = a.task_id AND x.kind = 'work' AND x.token <= a.token ORDER BY x.token DESC LIMIT 1
) AS w ON true
ORDER BY e.seq
"""

_HISTORY_SQL = """
SELECT tenant_id, agent_type, task_type, domain, attempts, successes, success, duration_ms, tokens,
       cost_micros
FROM agent_task_affinity
WHERE (tenant_id, agent_type, task_type, domain) IN (
    SELECT * FROM unnest(%(0)s::text[], %(1)s::text[], %(2)s::text[], %(3)s::text[])
)
"""

_SAVE_SQL = """
INSERT INTO agent_task_affinity (tenant_id, agent_type, task_type, domain, attempts, successes, success,
                                 duration_ms, tokens, cost_micros, updated_at)
SELECT u.*, clock_timestamp()
FROM unnest(%(0)s::text[], %(1)s::text[], %(2)s::text[], %(3)s::text[], %(4)s::bigint[],
                     %(5)s::bigint[], %(6)s::float8[], %(7)s::float8[], %(8)s::float8[], %(9)s::float8[]) AS u
ON CONFLICT (tenant_id, agent_type, task_type, domain) DO UPDATE
SET attempts = excluded.attempts, successes = excluded.successes, success = excluded.success,
    duration_ms = excluded.duration_ms, tokens = excluded.tokens, cost_micros = excluded.cost_micros,
    updated_at = clock_timestamp()
"""

_ADVANCE_SQL = """
UPDATE orchestrator_state SET value = jsonb_build_object('seq', %(seq)s::bigint), updated_at = now()
WHERE key = 'metrics'
"""


class PostgresOutcomes:
    """Implements outcome_ports.OutcomeStore on one connection of its own.

    Args:
        url: libpq URL of the service role.
    """

    def __init__(self, url: str) -> None:
        self._connection = HotConnection(
            url, name="orchestrator-metrics", row_factory=dict_row, prepare=_FIRST_SQL
        )

    async def take(self, fold: FoldOutcomes, *, events_max: int) -> int:
        """Fold the next events; see outcome_ports.OutcomeStore."""
        async with self._connection.use() as connection, connection.transaction():
            seq = await _one(connection, _LOCK_SQL)
            cursor = await connection.execute(_EVENTS_SQL, {"after": seq["seq"], "limit": events_max})
            rows = await cursor.fetchall()
            if rows:
                ended = [_ended(row) for row in rows if row["agent_type"] is not None]
                history = await _history(connection, {attempt.key for attempt in ended})
                await _save(connection, fold(history, ended))
                await connection.execute(_ADVANCE_SQL, {"seq": rows[-1]["seq"]})
            return len(rows)

    async def last_seq(self) -> int:
        """Return the seq of the last event taken. Raises DatabaseUnavailable."""
        async with self._connection.use() as connection, connection.transaction():
            return int((await _one(connection, _LOCK_SQL))["seq"])

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()


async def _one(connection: psycopg.AsyncConnection[dict[str, Any]], statement: str) -> dict[str, Any]:
    row = await (await connection.execute(statement.encode())).fetchone()
    assert row is not None
    return row


async def _history(
    connection: psycopg.AsyncConnection[dict[str, Any]], keys: Iterable[AffinityKey]
) -> dict[AffinityKey, Affinity]:
    cursor = await connection.execute(_HISTORY_SQL, _columns([astuple(key) for key in keys], width=4))
    return {
        _key(row): Affinity(**{column.name: row[column.name] for column in fields(Affinity)})
        for row in await cursor.fetchall()
    }


async def _save(
    connection: psycopg.AsyncConnection[dict[str, Any]], changed: Mapping[AffinityKey, Affinity]
) -> None:
    rows = [astuple(key) + astuple(affinity) for key, affinity in changed.items()]
    await connection.execute(_SAVE_SQL, _columns(rows, width=10))


def _columns(rows: Sequence[tuple[Any, ...]], *, width: int) -> dict[str, list[Any]]:
    """Return one array per column, named by its number, as `unnest` takes them."""
    return {str(n): [row[n] for row in rows] for n in range(width)}


def _key(row: Mapping[str, Any]) -> AffinityKey:
    return AffinityKey(
        tenant_id=row["tenant_id"],
        agent_type=row["agent_type"],
        task_type=row["task_type"],
        domain=row["domain"],
    )


def _ended(row: Mapping[str, Any]) -> EndedAttempt:
    return EndedAttempt(
        kind=AttemptKind(row["kind"]),
        state=AttemptState(row["state"]),
        failure_class=FailureClass(row["failure_class"]) if row["failure_class"] else None,
        has_gate=row["has_gate"],
        key=_key(row),
        duration_ms=row["duration_ms"],
        tokens=row["tokens"],
        cost_micros=row["cost_micros"],
    )
