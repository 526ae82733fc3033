"""What executors write and read: starts, results, transcripts and beats, all fenced by token.

A start and a result are updates of the attempt's own row, each of which requires the state before it; so
neither can slip past the scheduler's verdict (store/scheduler.py `fate`), which locks the same row. Each is
one statement and its own transaction. Where it stores less than was sent, a second one reads what stands
there already: its snapshot also shows what came from a connection of ours that broke.
"""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import psycopg
from psycopg.rows import dict_row

from orchestrator.agent_types import GENERAL, AgentType
from orchestrator.backends import PROVIDERS
from orchestrator.core.words import AttemptKind
from orchestrator.plan.amounts import duration_ms
from orchestrator.ports import Assignment, Outcome, Repository, SessionLimits, TranscriptChunk
from orchestrator.store.agent_type_sql import DEFINITION_SQL, lookup_names
from orchestrator.store.arrays import array, words
from orchestrator.store.crypto import NO_KEYS, FieldKeys
from orchestrator.store.hot import PLAN_ONCE, UNACKNOWLEDGED_MS, HotConnection, hang_up, unavailable
from orchestrator.store.surroundings import SURROUNDINGS_SQL, surroundings_of
from orchestrator.store.transcript_chunks import fold
from orchestrator.surroundings import Surroundings

#: Once more, for whoever did not hear the answer.
_STARTED_SQL = """
SELECT * FROM attempts
WHERE token = ANY(%(tokens)s::bigint[]) AND state = 'started' AND incarnation = %(incarnation)s
"""

_START_SQL = """
UPDATE attempts
SET state = 'started', started_at = now(), incarnation = %(incarnation)s, node_id = %(node)s
WHERE token = ANY(%(tokens)s::bigint[]) AND state = 'leased' AND executor = %(executor)s
RETURNING *
"""

#: What they are to do. Most tasks leave most of it empty, and NULL is read faster than empty JSON.
_TO_DO = """
WITH a AS (STARTED)
SELECT a.token, a.number, a.kind, a.tenant_id, a.plan_id, a.task_id, a.agent_type, a.backend,
       a.reserved_micros, p.name AS plan_name, p.workdir, p.repository, t.key, t.title, t.body,
       nullif(t.acceptance, '[]') AS acceptance, nullif(t.run, '[]') AS run,
       nullif(t.verify, '[]') AS verify, nullif(t.options, '{}') AS options,
       coalesce(f.feedback, '') AS feedback
FROM a JOIN tasks AS t ON t.id = a.task_id JOIN plans AS p ON p.id = a.plan_id
    LEFT JOIN LATERAL (
        SELECT b.summary || E'\\n' || b.detail AS feedback FROM attempts AS b
        WHERE (a.number > 1 OR a.kind = 'review') AND b.task_id = a.task_id AND b.token < a.token
            AND CASE WHEN a.kind = 'review' THEN b.kind = 'work' AND b.state = 'succeeded'
                ELSE b.state IN ('failed', 'timed_out') END
        ORDER BY b.token DESC LIMIT 1
    ) AS f ON true
"""

_RESULTS_SQL = """
UPDATE attempts AS a
SET state = u.state, end_reason = 'reported', ended_at = now(), reserved_micros = 0, failure_class = u.class,
    summary = u.summary, detail = u.detail, exit_code = u.exit_code, report = u.report,
    input_tokens = u.input, output_tokens = u.output, cache_read_tokens = u.cache_read,
    cache_write_tokens = u.cache_write, cost_micros = u.cost, requests = u.requests
FROM unnest(%(tokens)s::bigint[], %(words0)s::text[], %(words1)s::text[], %(words2)s::text[],
            %(words3)s::text[], %(words4)s::jsonb[], %(number0)s::int[], %(number1)s::bigint[],
            %(number2)s::bigint[], %(number3)s::bigint[], %(number4)s::bigint[], %(number5)s::bigint[],
            %(number6)s::int[])
    AS u(token, state, class, summary, detail, report, exit_code, input, output, cache_read, cache_write,
         cost, requests)
WHERE a.token = u.token AND a.state = 'started'
RETURNING a.token
"""

_STORED_SQL = """
SELECT token FROM attempts WHERE token = ANY(%(tokens)s::bigint[]) AND end_reason = 'reported'
"""

_CHUNKS_SQL = """
INSERT INTO transcript_chunks (token, tenant_id, seq, key_id, bytes)
SELECT u.token, a.tenant_id, u.seq, u.key_id, u.bytes
FROM unnest(%(tokens)s::bigint[], %(seqs)s::int[], %(key_ids)s::text[], %(bytes)s::bytea[])
    AS u(token, seq, key_id, bytes)
    JOIN attempts AS a USING (token)
ON CONFLICT (token, seq) DO NOTHING
"""

_BEAT_SQL = """
UPDATE leases SET beat = beat + 1 WHERE token = ANY(%(tokens)s::bigint[]) RETURNING token, cancel_reason
"""

#: Characters of transcripts that are compressed and encrypted on the loop; more would hold it up. A chunk
#: costs as much as so many characters, however small it is.
_FOLDED_AT_ONCE_MAX = 50_000
_CHUNK_CHARS = 1_000

#: How old what is known of the agent type may be.
_AGENT_TYPE_S = 2.0

#: Backends that no context pack is made for.
_NO_MODEL = frozenset(name for name, provider in PROVIDERS.items() if not provider)

#: Options of a task → the limits of a session that they set.
_OWN_LIMITS = {"timeout": "total_timeout_s", "idle timeout": "idle_timeout_s", "grace": "grace_s"}

_RESULT_WORDS: tuple[Callable[[Outcome], str | None], ...] = (
    lambda o: o.state,
    lambda o: o.failure_class,
    lambda o: o.summary,
    lambda o: o.detail,
    lambda o: json.dumps(dict(o.report)) if o.report is not None else None,
)
_RESULT_NUMBERS: tuple[Callable[[Outcome], int | None], ...] = (
    lambda o: o.exit_code,
    lambda o: o.usage.input_tokens,
    lambda o: o.usage.output_tokens,
    lambda o: o.usage.cache_read_tokens,
    lambda o: o.usage.cache_write_tokens,
    lambda o: o.usage.cost_micros,
    lambda o: o.usage.requests,
)


class ExecutorStore:
    """The connection of an executor; one caller at a time.

    Args:
        url: libpq URL of the service role.
        executor: name of the executor; `incarnation` tells its processes apart.
        node_id: Ray's id of the node where its sessions run.
        agent_type: its pool; the definition is read where it is stored, every few seconds.
        limits: of an attempt whose task and agent type name none of their own.
        keys: encrypt transcripts; without any they are compressed only.
    """

    def __init__(
        self,
        url: str,
        *,
        executor: str,
        incarnation: str,
        node_id: str,
        limits: SessionLimits,
        agent_type: str = GENERAL,
        keys: FieldKeys = NO_KEYS,
    ) -> None:
        self._executor = executor
        self._incarnation = incarnation
        self._node_id = node_id
        self._limits = limits
        self._agent_type = AgentType(name=agent_type)
        self._read_at_s = -math.inf
        self._keys = keys
        self._connection = HotConnection(
            url, name=f"orchestrator-{executor}", row_factory=dict_row, options=PLAN_ONCE, autocommit=True
        )

    async def start(self, tokens: Sequence[int]) -> list[Assignment]:
        """Store the starts and return what they are to do; a token that is refused is left out.

        Repeating it is harmless: this incarnation gets the same assignments again, any other gets nothing.
        """
        values = {
            "tokens": array(tokens),
            "executor": self._executor,
            "incarnation": self._incarnation,
            "node": self._node_id,
        }
        await self._read_agent_type()
        rows = await self._rows(_TO_DO.replace("STARTED", _START_SQL), values)
        if len(rows) < len(tokens):
            rows = await self._rows(_TO_DO.replace("STARTED", _STARTED_SQL), values)
        around = await self._surroundings([row["task_id"] for row in rows if row["backend"] not in _NO_MODEL])
        return [self._assignment(row, around.get(row["task_id"], Surroundings())) for row in rows]

    async def _read_agent_type(self) -> None:
        """Know what the file of the agent type says now, or lately; without a word the last one holds."""
        now_s = time.monotonic()
        if now_s - self._read_at_s < _AGENT_TYPE_S:
            return
        rows = await self._rows(DEFINITION_SQL, {"names": words(lookup_names(self._agent_type.name))})
        if rows:
            self._agent_type = AgentType(**{**rows[0]["definition"], "name": self._agent_type.name})
        self._read_at_s = now_s

    async def _surroundings(self, task_ids: Sequence[int]) -> dict[int, Surroundings]:
        """Return what stands around tasks that a model is to work on."""
        if not task_ids:
            return {}
        rows = await self._rows(SURROUNDINGS_SQL, {"tasks": array(task_ids)})
        return {row["id"]: surroundings_of(row) for row in rows}

    def _assignment(self, row: Mapping[str, Any], surroundings: Surroundings) -> Assignment:
        options = row["options"] or {}
        return Assignment(
            token=row["token"],
            number=row["number"],
            kind=AttemptKind(row["kind"]),
            tenant_id=row["tenant_id"],
            plan_id=row["plan_id"],
            plan_name=row["plan_name"],
            task_id=row["task_id"],
            key=row["key"],
            title=row["title"],
            body=row["body"],
            acceptance=tuple(row["acceptance"] or ()),
            agent_type=row["agent_type"],
            backend=row["backend"],
            model=self._agent_type.model,
            prompt=self._agent_type.prompt,
            tools=self._agent_type.tools,
            run=tuple(row["run"] or ()),
            verify=tuple(row["verify"] or ()),
            workdir=row["workdir"],
            repository=_repository(row["repository"]),
            feedback=row["feedback"],
            limits=self._limits_of(options, reserved_micros=row["reserved_micros"]),
            surroundings=surroundings,
            options=options,
        )

    def _limits_of(self, options: Mapping[str, str], *, reserved_micros: int) -> SessionLimits:
        limits = self._limits.narrowed(self._agent_type.limits)
        if not reserved_micros and options.keys().isdisjoint(_OWN_LIMITS):
            return limits
        reserved = min(reserved_micros or limits.cost_micros_max, limits.cost_micros_max)
        own: dict[str, Any] = {"cost_micros_max": reserved}
        for name, limit in _OWN_LIMITS.items():
            if (time_ms := duration_ms(options.get(name, ""))) is not None:
                own[limit] = time_ms / 1000
        return replace(limits, **own)

    async def save_results(self, results: Sequence[tuple[int, Outcome]]) -> set[int]:
        """Store results; return the tokens that are stored now, by this call or an earlier one.

        A token that is not returned was fenced: nobody will hear of its outcome.
        """
        values = {"tokens": array([token for token, _ in results])}
        for n, word in enumerate(_RESULT_WORDS):
            values[f"words{n}"] = words([word(outcome) for _, outcome in results])
        for n, number in enumerate(_RESULT_NUMBERS):
            values[f"number{n}"] = array([number(outcome) for _, outcome in results])
        rows = await self._rows(_RESULTS_SQL, values)
        if len(rows) < len(results):
            rows = await self._rows(_STORED_SQL, values)
        return {row["token"] for row in rows}

    async def _rows(self, statement: str, values: Mapping[str, str]) -> list[dict[str, Any]]:
        async with self._connection.use() as connection:
            cursor = await connection.execute(statement.encode(), values)
            return await cursor.fetchall()

    async def save_chunks(self, chunks: Sequence[TranscriptChunk]) -> None:
        """Store pieces of transcripts; losing the last second of one is bearable, so no flush is awaited."""
        stored = await self._folded(chunks)
        async with self._connection.use() as connection, connection.transaction():
            await connection.execute("SET LOCAL synchronous_commit = off")
            await connection.execute(
                _CHUNKS_SQL,
                {
                    "tokens": array([chunk.token for chunk in chunks]),
                    "seqs": array([chunk.seq for chunk in chunks]),
                    "key_ids": words([key_id for key_id, _ in stored]),
                    "bytes": [data for _, data in stored],
                },
            )

    async def _folded(self, chunks: Sequence[TranscriptChunk]) -> list[tuple[str | None, bytes]]:
        """Compress and encrypt; what takes longer than a moment is done beside the loop."""
        chars = sum(len(text) for chunk in chunks for _, _, text in chunk.lines)
        if chars + _CHUNK_CHARS * len(chunks) < _FOLDED_AT_ONCE_MAX:
            return fold(chunks, keys=self._keys)
        return await asyncio.to_thread(fold, chunks, keys=self._keys)

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()


def _repository(fields: Mapping[str, Any] | None) -> Repository | None:
    if fields is None:
        return None
    lists = {name: tuple(fields[name]) for name in ("include", "setup")}
    return Repository(**{**fields, **lists})


class Beats:
    """Renewals, on a blocking connection of their own, for a thread of their own.

    Args:
        url: libpq URL of the service role.
        name: how the server's activity view shows the connection.
        patience_s: longest wait for the server.
    """

    def __init__(self, url: str, *, name: str, patience_s: float = 10.0) -> None:
        self._url = url
        self._name = name
        self._patience_s = patience_s
        self._connection: psycopg.Connection[tuple[int, str | None]] | None = None

    def renew(self, tokens: Sequence[int]) -> dict[int, str | None]:
        """Bump the beats of the tokens; return those still ours, with the reason if a cancel is wished.

        Raises:
            DatabaseUnavailable: nothing was renewed, or nobody knows.
        """
        try:
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(
                    self._url,
                    autocommit=True,
                    connect_timeout=5,
                    tcp_user_timeout=UNACKNOWLEDGED_MS,
                    application_name=self._name,
                    options="-c statement_timeout=5s -c synchronous_commit=off",
                )
            return dict(self._bump(self._connection, tokens))
        except psycopg.Error as error:
            self.close()
            raise unavailable(error, url=self._url) from error

    def _bump(
        self, connection: psycopg.Connection[tuple[int, str | None]], tokens: Sequence[int]
    ) -> list[tuple[int, str | None]]:
        deadline = threading.Timer(self._patience_s, hang_up, [connection])
        deadline.daemon = True
        deadline.start()
        try:
            return connection.execute(_BEAT_SQL, {"tokens": array(tokens)}).fetchall()
        finally:
            deadline.cancel()

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
