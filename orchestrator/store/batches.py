"""A batch of row commands as statements: one a table, its rows as one array literal per column.

The order is that of the transaction: a task's live attempt ends before its next one is leased.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from orchestrator.core.commands import (
    AskCancel,
    EndAttempt,
    EndRevision,
    LeaseAttempt,
    MarkStarted,
    RecordEvent,
    ReleaseTask,
    RowCommand,
    SaveAnswer,
    SaveBreaker,
    SaveControls,
    SaveDependency,
    SavePlan,
    SaveTask,
)
from orchestrator.core.words import FINISHED
from orchestrator.store.arrays import array, words

#: Key of what people have set for everything, in `orchestrator_state`.
CONTROLS = "controls"

#: For each column the type of its array, and how a row gives the value.
_Columns = tuple[tuple[str, Callable[[Any], Any]], ...]


#: Types whose values are quoted in an array.
_WORDS = ("text", "jsonb")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A statement to carry out.

    Attributes:
        what: the rows it writes, in the words of an error.
        values: its parameters by name.
        hits: how many rows it must hit; None = any number.
    """

    what: str
    sql: bytes
    values: Mapping[str, object]
    hits: int | None


class _Table:
    """Writes all rows of one kind. `{}` in its SQL stands for the arrays of the columns."""

    def __init__(
        self, what: str, kind: type[RowCommand], sql: str, columns: _Columns, *, is_guarded: bool
    ) -> None:
        self.kind = kind
        self._what = what
        arrays = ", ".join(f"%({n})s::{type_}[]" for n, (type_, _) in enumerate(columns))
        self._sql = sql.format(arrays).encode()
        self._columns = [
            (str(n), words if type_ in _WORDS else array, value) for n, (type_, value) in enumerate(columns)
        ]
        self._is_guarded = is_guarded

    def statement(self, rows: Sequence[RowCommand], constants: Mapping[str, object]) -> Statement:
        """Return the statement that writes the rows."""
        arrays = {name: literal(list(map(value, rows))) for name, literal, value in self._columns}
        hits = len(rows) if self._is_guarded else None
        return Statement(what=self._what, sql=self._sql, values={**constants, **arrays}, hits=hits)


_SAVED = _Table(
    "task_states",
    SaveTask,
    """
UPDATE task_states AS t
SET state = u.state, reason = u.reason,
    not_before = CASE WHEN u.not_before = 0 THEN NULL ELSE to_timestamp(u.not_before / 1000.0) END,
    attempts_used = u.used, losses = u.losses, wants = u.wants, version = u.version, updated_at = now()
FROM unnest({}) AS u(id, state, reason, not_before, used, losses, wants, expected, version)
WHERE t.task_id = u.id AND t.version = u.expected
""",
    (
        ("bigint", attrgetter("task_id")),
        ("text", attrgetter("state")),
        ("text", attrgetter("reason")),
        ("bigint", attrgetter("not_before_ms")),
        ("int", attrgetter("attempts_used")),
        ("int", attrgetter("losses")),
        ("text", attrgetter("wants")),
        ("int", attrgetter("expected")),
        ("int", attrgetter("version")),
    ),
    is_guarded=True,
)

_RELEASED = _Table(
    "task_states released",
    ReleaseTask,
    "UPDATE task_states AS t SET is_released = true FROM unnest({}) AS u(id) WHERE t.task_id = u.id",
    (("bigint", lambda r: r.task_id),),
    is_guarded=True,
)

#: `starts` and `results` stand beside: usage and words come from the stored result.
_ENDED = _Table(
    "attempts ended",
    EndAttempt,
    """
WITH ended AS (
    UPDATE attempts AS a
    SET state = u.state, end_reason = u.reason, failure_class = u.class, ended_at = coalesce(r.at, now()),
        started_at = coalesce(a.started_at, s.at),
        summary = coalesce(r.summary, ''), detail = coalesce(r.detail, ''), exit_code = r.exit_code,
        report = r.report, input_tokens = coalesce(r.input_tokens, 0),
        output_tokens = coalesce(r.output_tokens, 0), cache_read_tokens = coalesce(r.cache_read_tokens, 0),
        cache_write_tokens = coalesce(r.cache_write_tokens, 0), cost_micros = coalesce(r.cost_micros, 0),
        requests = coalesce(r.requests, 0), reserved_micros = u.kept
    FROM unnest({}) AS u(token, state, reason, class, kept)
        LEFT JOIN results AS r ON r.token = u.token
        LEFT JOIN starts AS s ON s.token = u.token
    WHERE a.token = u.token
      AND (a.state IN ('leased', 'started') OR (a.state = 'lost' AND u.state IN ('lost', 'timed_out')))
    RETURNING a.token
), freed AS (
    DELETE FROM leases AS l USING ended AS e WHERE l.token = e.token
)
SELECT FROM ended
""",
    (
        ("bigint", attrgetter("token")),
        ("text", attrgetter("state")),
        ("text", attrgetter("end_reason")),
        ("text", attrgetter("failure_class")),
        ("bigint", attrgetter("kept_micros")),
    ),
    is_guarded=True,
)

_LEASED = _Table(
    "attempts leased",
    LeaseAttempt,
    """
WITH leased AS (
    INSERT INTO attempts (token, tenant_id, plan_id, task_id, kind, number, agent_type, backend, executor,
                          reserved_micros, cluster_id, epoch, state)
    SELECT u.*, %(cluster_id)s, %(epoch)s, 'leased' FROM unnest({}) AS u
    RETURNING token, tenant_id, task_id
)
INSERT INTO leases (token, tenant_id, task_id) SELECT token, tenant_id, task_id FROM leased
""",
    (
        ("bigint", attrgetter("token")),
        ("text", attrgetter("tenant_id")),
        ("bigint", attrgetter("plan_id")),
        ("bigint", attrgetter("task_id")),
        ("text", attrgetter("kind")),
        ("int", attrgetter("number")),
        ("text", attrgetter("agent_type")),
        ("text", attrgetter("backend")),
        ("text", attrgetter("executor")),
        ("bigint", attrgetter("reserved_micros")),
    ),
    is_guarded=True,
)

_STARTED = _Table(
    "attempts started",
    MarkStarted,
    """
UPDATE attempts AS a SET state = 'started', started_at = coalesce(s.at, now())
FROM unnest({}) AS u(token) LEFT JOIN starts AS s ON s.token = u.token
WHERE a.token = u.token AND a.started_at IS NULL AND a.ended_at IS NULL
""",
    (("bigint", attrgetter("token")),),
    is_guarded=False,
)

_CANCELS = _Table(
    "leases",
    AskCancel,
    """
UPDATE leases AS l SET cancel_reason = u.reason
FROM unnest({}) AS u(token, reason) WHERE l.token = u.token
""",
    (("bigint", attrgetter("token")), ("text", attrgetter("reason"))),
    is_guarded=False,
)

_PLANS = _Table(
    "plans",
    SavePlan,
    """
UPDATE plans AS p
SET state = u.state, ended_at = CASE WHEN u.is_over THEN coalesce(p.ended_at, now()) END,
    until_key = coalesce(t.key, ''),
    budget_micros = u.budget, fruitless_micros = u.fruitless
FROM unnest({}) AS u(id, state, is_over, until_task, budget, fruitless)
    LEFT JOIN tasks AS t ON t.id = u.until_task
WHERE p.id = u.id
""",
    (
        ("bigint", attrgetter("plan_id")),
        ("text", attrgetter("state")),
        ("bool", lambda r: r.state in FINISHED),
        ("bigint", attrgetter("until_task")),
        ("bigint", attrgetter("budget_micros")),
        ("bigint", attrgetter("fruitless_micros")),
    ),
    is_guarded=True,
)

_REVISIONS = _Table(
    "plan_revisions",
    EndRevision,
    """
UPDATE plan_revisions AS r SET state = 'applied', ended_at = now() FROM unnest({}) AS u(id) WHERE r.id = u.id
""",
    (("bigint", lambda r: r.revision_id),),
    is_guarded=True,
)

#: The evidence of what a person has decided begins with "by hand"; the words that were read follow.
_DEPENDENCIES = _Table(
    "task_dependencies",
    SaveDependency,
    """
WITH decided AS (
    SELECT * FROM unnest({}) AS u(tenant_id, plan_id, task_id, on_task_id, decision)
), read AS (
    DELETE FROM task_dependencies AS d USING decided AS u
    WHERE d.task_id = u.task_id AND d.on_task_id = u.on_task_id AND d.kind <> u.decision
    RETURNING d.task_id, d.on_task_id, d.evidence, d.line
), told AS (
    SELECT DISTINCT ON (task_id, on_task_id) * FROM read WHERE evidence <> '' ORDER BY task_id, on_task_id
)
INSERT INTO task_dependencies (tenant_id, plan_id, task_id, on_task_id, kind, is_explicit, evidence, line)
SELECT u.tenant_id, u.plan_id, u.task_id, u.on_task_id, u.decision, true,
       concat_ws(': ', 'by hand', nullif(regexp_replace(t.evidence, '^by hand(: )?', ''), '')),
       coalesce(t.line, 0)
FROM decided AS u LEFT JOIN told AS t USING (task_id, on_task_id)
ON CONFLICT (task_id, on_task_id, kind) DO UPDATE
SET is_explicit = true, confidence = 1, evidence = concat_ws(
    ': ', 'by hand', nullif(regexp_replace(task_dependencies.evidence, '^by hand(: )?', ''), '')
)
""",
    (
        ("text", lambda r: r.tenant_id),
        ("bigint", lambda r: r.plan_id),
        ("bigint", lambda r: r.task_id),
        ("bigint", lambda r: r.on_task_id),
        ("text", lambda r: r.decision.value),
    ),
    is_guarded=True,
)

_BREAKERS = _Table(
    "circuit_breakers",
    SaveBreaker,
    """
INSERT INTO circuit_breakers (agent_type, state, failures, opened_at)
SELECT u.agent_type, u.state, u.failures, to_timestamp(u.opened_at / 1000.0)
FROM unnest({}) AS u(agent_type, state, failures, opened_at)
ON CONFLICT (tenant_id, agent_type) DO UPDATE
SET state = excluded.state, failures = excluded.failures, opened_at = excluded.opened_at, updated_at = now()
""",
    (
        ("text", attrgetter("agent_type")),
        ("text", attrgetter("state")),
        ("int", attrgetter("failures")),
        ("bigint", attrgetter("opened_at_ms")),
    ),
    is_guarded=True,
)


def _controls(row: SaveControls) -> dict[str, object]:
    limits = row.overrides.as_json()
    return {"is_paused": row.is_paused, "pause_reason": row.pause_reason, "limits": limits}


_CONTROLS = _Table(
    "controls",
    SaveControls,
    """
INSERT INTO orchestrator_state (key, value) SELECT u.key, u.value FROM unnest({}) AS u(key, value)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = now()
""",
    (
        ("text", lambda r: CONTROLS),
        ("jsonb", lambda r: json.dumps(_controls(r))),
    ),
    is_guarded=True,
)

#: A key that a submission took in the same moment stays that submission's.
_ANSWERS = _Table(
    "answers",
    SaveAnswer,
    """
INSERT INTO idempotency_keys (tenant_id, key, body_digest, response) SELECT u.* FROM unnest({}) AS u
ON CONFLICT DO NOTHING
""",
    (
        ("text", attrgetter("tenant_id")),
        ("text", attrgetter("key")),
        ("text", attrgetter("digest")),
        ("jsonb", lambda r: json.dumps({"result": dict(r.result), "error": r.error, "remedy": r.remedy})),
    ),
    is_guarded=False,
)

_EVENTS = _Table(
    "events",
    RecordEvent,
    """
WITH written AS (
    INSERT INTO events (type, tenant_id, plan_id, task_id, token, payload, epoch)
    SELECT u.type, u.tenant_id, nullif(u.plan_id, 0), nullif(u.task_id, 0), nullif(u.token, 0), u.payload,
           %(epoch)s
    FROM unnest({}) WITH ORDINALITY AS u(type, tenant_id, plan_id, task_id, token, payload, n) ORDER BY u.n
    RETURNING seq
)
SELECT pg_notify(%(channel)s, max(seq)::text) FROM written
""",
    (
        ("text", attrgetter("type")),
        ("text", attrgetter("tenant_id")),
        ("bigint", attrgetter("plan_id")),
        ("bigint", attrgetter("task_id")),
        ("bigint", attrgetter("token")),
        ("jsonb", lambda r: json.dumps(dict(r.payload)) if r.payload else "{}"),
    ),
    is_guarded=False,
)

#: In the order of the transaction.
_TABLES = (
    *(_SAVED, _RELEASED, _ENDED, _LEASED, _STARTED, _CANCELS),
    *(_PLANS, _REVISIONS, _DEPENDENCIES, _BREAKERS, _CONTROLS, _ANSWERS, _EVENTS),
)


def statements(rows: Iterable[RowCommand], constants: Mapping[str, object]) -> list[Statement]:
    """Return what a transaction carries out for the rows.

    Args:
        constants: the parameters `epoch`, `cluster_id` and `channel`.
    """
    by_kind: dict[type[RowCommand], list[Any]] = defaultdict(list)
    for row in rows:
        by_kind[type(row)].append(row)
    by_kind[SaveTask] = _last_saves(by_kind[SaveTask])
    by_kind[MarkStarted] = _still_running(by_kind[MarkStarted], by_kind[EndAttempt])
    by_kind[SavePlan] = list({save.plan_id: save for save in by_kind[SavePlan]}.values())
    by_kind[SaveDependency] = list(
        {(save.task_id, save.on_task_id): save for save in by_kind[SaveDependency]}.values()
    )
    by_kind[SaveBreaker] = list({save.agent_type: save for save in by_kind[SaveBreaker]}.values())
    by_kind[SaveControls] = by_kind[SaveControls][-1:]
    return [table.statement(chosen, constants) for table in _TABLES if (chosen := by_kind[table.kind])]


def _last_saves(saves: Iterable[SaveTask]) -> list[SaveTask]:
    """Fold the writes of one task into one: the last values, guarded by the first version."""
    folded: dict[int, SaveTask] = {}
    for save in saves:
        first = folded.get(save.task_id)
        folded[save.task_id] = save if first is None else replace(save, expected=first.expected)
    return list(folded.values())


def _still_running(started: Iterable[MarkStarted], ended: Iterable[EndAttempt]) -> list[MarkStarted]:
    """Leave out what ends in the same batch: its end also tells when it started."""
    over = {row.token for row in ended}
    return [row for row in started if row.token not in over]
