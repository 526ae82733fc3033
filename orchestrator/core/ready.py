"""Which task of a plan is next: one heap per pool, ordered totally, with lazy deletion.

Order inside a plan: priority, then the longest downstream time first, then the order in which tasks became
ready. An entry counts only while its task still carries the entry's ticket.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush

from orchestrator.core.task import Task

#: (priority, -rank, ticket, task); tickets are unique, so tasks are never compared.
Entry = tuple[int, int, int, Task]


@dataclass(slots=True)
class PlanQueue:
    """The startable tasks of one plan. `sizes[pool]` counts them; a pool with none has no key."""

    heaps: dict[str, list[Entry]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def push(self, task: Task, *, ticket: int) -> None:
        """Add a task to the pool of its next attempt; it must not be queued."""
        assert not task.ticket, f"task {task.task_id} is queued already"
        pool = task.pool
        heappush(self.heaps.setdefault(pool, []), (task.priority, -task.rank, ticket, task))
        task.ticket = ticket
        self.sizes[pool] = self.sizes.get(pool, 0) + 1

    def discard(self, task: Task) -> None:
        """Take a task out, before its state changes; harmless if it is not queued."""
        if task.ticket:
            task.ticket = 0
            self._shrink(task.pool)

    def top(self, pool: str) -> Entry | None:
        """Return the next entry of a pool without taking it, or None."""
        heap = self.heaps.get(pool)
        while heap:
            entry = heap[0]
            if entry[3].ticket == entry[2]:
                return entry
            heappop(heap)
        return None

    def _shrink(self, pool: str) -> None:
        left = self.sizes[pool] - 1
        if left:
            self.sizes[pool] = left
        else:
            del self.sizes[pool]
            self.heaps[pool].clear()
