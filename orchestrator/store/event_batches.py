"""The events of a batch as rows: one for each plan of which it says something (docs/adr/0023)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from pydantic_core import to_json

from orchestrator.core.commands import RecordEvent
from orchestrator.core.values import value
from orchestrator.store.arrays import array


@value
class EventBatch:
    """A row of `event_batches`: its lists as array literals, its payloads as one JSON document.

    Attributes:
        first, last: place of its first and last event among those of the batch, from 1.
    """

    first: int
    last: int
    tenant_id: str
    plan_id: int
    types: str
    task_ids: str
    tokens: str
    payloads: str


def events_in(rows: Sequence[EventBatch]) -> int:
    """Return how many events the rows of a batch hold."""
    return rows[-1].last if rows else 0


def event_batches(events: Iterable[RecordEvent]) -> list[EventBatch]:
    """Sort the events of a batch by plan; those of one plan stay in their order."""
    by_plan: dict[tuple[str, int], list[RecordEvent]] = defaultdict(list)
    for event in events:
        by_plan[event.tenant_id, event.plan_id].append(event)
    rows: list[EventBatch] = []
    for (tenant_id, plan_id), of_plan in by_plan.items():
        before = rows[-1].last if rows else 0
        rows.append(
            EventBatch(
                first=before + 1,
                last=before + len(of_plan),
                tenant_id=tenant_id,
                plan_id=plan_id,
                types="{" + ",".join([event.type for event in of_plan]) + "}",
                task_ids=array([event.task_id for event in of_plan]),
                tokens=array([event.token for event in of_plan]),
                payloads=to_json([event.payload for event in of_plan]).decode(),
            )
        )
    return rows
