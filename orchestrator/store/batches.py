"""What a batch writes: for every kind of row command its table, in the order of the transaction.

A task's live attempt ends before its next one is leased.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from operator import attrgetter
from typing import Any

from orchestrator.core.commands import (
    AskCancel,
    EndAttempt,
    EndRevision,
    LeaseAttempt,
    RecordEvent,
    RecordNote,
    ReleaseTask,
    RowCommand,
    SaveAnswer,
    SaveBreaker,
    SaveControls,
    SaveDependency,
    SavePlan,
    SaveTask,
    SaveTaskBudget,
    TakeResult,
)
from orchestrator.core.words import FINISHED
from orchestrator.store.commit_call import CommitCall, Table
from orchestrator.store.event_batches import EventBatch, event_batches

#: Key of what people have set for everything, in `orchestrator_state`.
CONTROLS = "controls"

_SAVED = Table(
    "task_states",
    SaveTask,
    """
UPDATE task_states AS t
SET state = u.state, reason = u.reason,
    not_before = CASE WHEN u.not_before = 0 THEN NULL ELSE to_timestamp(u.not_before / 1000.0) END,
    attempts_used = u.used, losses = u.losses, wants = u.wants, version = u.version, updated_at = now()
FROM unnest({columns}) AS u(id, state, reason, not_before, used, losses, wants, expected, version)
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

_RELEASED = Table(
    "task_states released",
    ReleaseTask,
    "UPDATE task_states AS t SET is_released = true FROM unnest({columns}) AS u(id) WHERE t.task_id = u.id",
    (("bigint", lambda r: r.task_id),),
    is_guarded=True,
)

_BUDGETS = Table(
    "task_states with a budget",
    SaveTaskBudget,
    """
UPDATE task_states AS t SET budget_micros = u.budget FROM unnest({columns}) AS u(id, budget)
WHERE t.task_id = u.id
""",
    (("bigint", attrgetter("task_id")), ("bigint", attrgetter("budget_micros"))),
    is_guarded=True,
)

#: Its executor has written the end of the attempt itself.
_TAKEN = Table(
    "attempts with a result",
    TakeResult,
    """
DELETE FROM leases AS l USING unnest({columns}) AS u(token), attempts AS a
WHERE l.token = u.token AND a.token = u.token AND a.end_reason = 'reported'
""",
    (("bigint", attrgetter("token")),),
    is_guarded=True,
)

_ENDED = Table(
    "attempts ended",
    EndAttempt,
    """
UPDATE attempts AS a
SET state = u.state, end_reason = u.reason, failure_class = u.class, ended_at = now(),
    reserved_micros = u.kept
FROM unnest({columns}) AS u(token, state, reason, class, kept) JOIN leases AS l USING (token)
WHERE a.token = u.token
  AND (a.state IN ('leased', 'started') OR (a.state = 'lost' AND u.state IN ('lost', 'timed_out')))
""",
    (
        ("bigint", attrgetter("token")),
        ("text", attrgetter("state")),
        ("text", attrgetter("end_reason")),
        ("text", attrgetter("failure_class")),
        ("bigint", attrgetter("kept_micros")),
    ),
    is_guarded=True,
    then="DELETE FROM leases WHERE token = ANY({0})",
)

_LEASED = Table(
    "attempts leased",
    LeaseAttempt,
    """
INSERT INTO attempts (token, tenant_id, plan_id, task_id, kind, number, agent_type, backend, executor,
                      reserved_micros, cluster_id, epoch, state)
SELECT u.*, {cluster_id}, {epoch}, 'leased' FROM unnest({columns}) AS u
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
    then="INSERT INTO leases (token, tenant_id, task_id) SELECT * FROM unnest({0}, {1}, {3})",
)

_CANCELS = Table(
    "leases",
    AskCancel,
    """
UPDATE leases AS l SET cancel_reason = u.reason
FROM unnest({columns}) AS u(token, reason) WHERE l.token = u.token
""",
    (("bigint", attrgetter("token")), ("text", attrgetter("reason"))),
    is_guarded=False,
)

_PLANS = Table(
    "plans",
    SavePlan,
    """
UPDATE plans AS p
SET state = u.state, ended_at = CASE WHEN u.is_over THEN coalesce(p.ended_at, now()) END,
    until_key = coalesce(t.key, ''),
    budget_micros = u.budget, fruitless_micros = u.fruitless
FROM unnest({columns}) AS u(id, state, is_over, until_task, budget, fruitless)
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

_REVISIONS = Table(
    "plan_revisions",
    EndRevision,
    """
UPDATE plan_revisions AS r SET state = 'applied', ended_at = now()
FROM unnest({columns}) AS u(id) WHERE r.id = u.id
""",
    (("bigint", lambda r: r.revision_id),),
    is_guarded=True,
)

#: The evidence of what a person has decided begins with "by hand"; the words that were read follow.
_DEPENDENCIES = Table(
    "task_dependencies",
    SaveDependency,
    """
WITH decided AS (
    SELECT * FROM unnest({columns}) AS u(tenant_id, plan_id, task_id, on_task_id, decision)
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

_BREAKERS = Table(
    "circuit_breakers",
    SaveBreaker,
    """
INSERT INTO circuit_breakers (agent_type, state, failures, opened_at)
SELECT u.agent_type, u.state, u.failures, to_timestamp(u.opened_at / 1000.0)
FROM unnest({columns}) AS u(agent_type, state, failures, opened_at)
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


_CONTROLS = Table(
    "controls",
    SaveControls,
    """
INSERT INTO orchestrator_state (key, value) SELECT u.key, u.value FROM unnest({columns}) AS u(key, value)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = now()
""",
    (
        ("text", lambda r: CONTROLS),
        ("jsonb", lambda r: json.dumps(_controls(r))),
    ),
    is_guarded=True,
)

#: A key that a submission took in the same moment stays that submission's.
_ANSWERS = Table(
    "answers",
    SaveAnswer,
    """
INSERT INTO idempotency_keys (tenant_id, key, body_digest, response) SELECT u.* FROM unnest({columns}) AS u
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

_EVENTS = Table(
    "events",
    EventBatch,
    """
INSERT INTO event_batches (first_seq, last_seq, tenant_id, plan_id, epoch, types, task_ids, tokens, payloads)
SELECT seq_before + u.first, seq_before + u.last, u.tenant_id, nullif(u.plan_id, 0), {epoch},
       u.types::text[], u.task_ids::bigint[], u.tokens::bigint[], u.payloads::json
FROM unnest({columns}) AS u(first, last, tenant_id, plan_id, types, task_ids, tokens, payloads)
""",
    (
        ("bigint", attrgetter("first")),
        ("bigint", attrgetter("last")),
        ("text", attrgetter("tenant_id")),
        ("bigint", attrgetter("plan_id")),
        ("text", attrgetter("types")),
        ("text", attrgetter("task_ids")),
        ("text", attrgetter("tokens")),
        ("text", attrgetter("payloads")),
    ),
    is_guarded=False,
    then="PERFORM pg_notify({channel}, {batch}::text)",
)

#: A note that was read twice before its event was committed gets one event.
_NOTES = Table(
    "notes",
    RecordNote,
    """
WITH told AS (
    UPDATE notes AS n SET is_told = true FROM unnest({columns}) AS u(id) WHERE n.id = u.id AND NOT n.is_told
    RETURNING n.*
), numbered AS (
    SELECT *, row_number() OVER (ORDER BY id) AS place FROM told
), counted AS (
    UPDATE scheduler_term AS t SET last_seq = t.last_seq + c.count FROM (SELECT count(*) FROM told) AS c
    RETURNING t.last_seq - c.count AS before
)
INSERT INTO event_batches (first_seq, last_seq, tenant_id, plan_id, epoch, types, task_ids, tokens, payloads)
SELECT before + place, before + place, tenant_id, plan_id, {epoch}, ARRAY['note.written'],
       ARRAY[coalesce(task_id, 0)], ARRAY[coalesce(token, 0)],
       json_build_array(json_build_object('note', id, 'kind', kind))
FROM numbered, counted
""",
    (("bigint", lambda r: r.note_id),),
    is_guarded=False,
    then="PERFORM pg_notify({channel}, {batch}::text)",
)

#: In the order of the transaction.
TABLES = (
    *(_SAVED, _RELEASED, _BUDGETS, _TAKEN, _ENDED, _LEASED, _CANCELS),
    *(_PLANS, _REVISIONS, _DEPENDENCIES, _BREAKERS, _CONTROLS, _ANSWERS, _EVENTS, _NOTES),
)

COMMIT = CommitCall(TABLES)


def rows_by_kind(rows: Iterable[RowCommand]) -> dict[type[Any], list[Any]]:
    """Sort the rows of a batch by kind; several of one row are folded into what they come to.

    Of events there is one row for each plan, an EventBatch.
    """
    by_kind: dict[type[Any], list[Any]] = defaultdict(list)
    for row in rows:
        by_kind[type(row)].append(row)
    by_kind[SaveTask] = _last_saves(by_kind[SaveTask])
    by_kind[SavePlan] = list({save.plan_id: save for save in by_kind[SavePlan]}.values())
    by_kind[SaveTaskBudget] = list({save.task_id: save for save in by_kind[SaveTaskBudget]}.values())
    by_kind[AskCancel] = list({ask.token: ask for ask in by_kind[AskCancel]}.values())
    by_kind[SaveDependency] = list(
        {(save.task_id, save.on_task_id): save for save in by_kind[SaveDependency]}.values()
    )
    by_kind[SaveBreaker] = list({save.agent_type: save for save in by_kind[SaveBreaker]}.values())
    by_kind[SaveControls] = by_kind[SaveControls][-1:]
    by_kind[EventBatch] = event_batches(by_kind.pop(RecordEvent, ()))
    return by_kind


def _last_saves(saves: Iterable[SaveTask]) -> list[SaveTask]:
    """Fold the writes of one task into one: the last values, guarded by the first version."""
    folded: dict[int, SaveTask] = {}
    for save in saves:
        first = folded.get(save.task_id)
        folded[save.task_id] = save if first is None else replace(save, expected=first.expected)
    return list(folded.values())
