"""Which task is next: one heap per (plan, pool), ordered totally, with lazy deletion.

Order inside a plan: priority, then the longest downstream time first, then the order in which tasks became
ready. A heap's entry counts only while the task still carries the entry's ticket.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush


@dataclass(slots=True)
class PlanQueue:
    """The startable tasks of one plan, by pool.

    `heaps[pool]` holds (priority, -rank, ticket, task id); `tickets[task id]` is the ticket that counts.
    """

    heaps: dict[str, list[tuple[int, int, int, int]]] = field(default_factory=dict)
    tickets: dict[int, tuple[int, str]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def push(self, *, pool: str, task_id: int, priority: int, rank: int, ticket: int) -> None:
        """Add a task; it must not be queued."""
        assert task_id not in self.tickets, f"task {task_id} is queued already"
        heappush(self.heaps.setdefault(pool, []), (priority, -rank, ticket, task_id))
        self.tickets[task_id] = (ticket, pool)
        self.sizes[pool] = self.sizes.get(pool, 0) + 1

    def discard(self, task_id: int) -> None:
        """Take a task out; harmless if it is not queued."""
        found = self.tickets.pop(task_id, None)
        if found is not None:
            self._shrink(found[1])

    def top(self, pool: str) -> tuple[int, int, int, int] | None:
        """Return the next entry of a pool without taking it, or None."""
        heap = self.heaps.get(pool)
        while heap:
            entry = heap[0]
            if self.tickets.get(entry[3], (0, ""))[0] == entry[2]:
                return entry
            heappop(heap)
        return None

    def pop(self, pool: str) -> int:
        """Take the next task of a pool; there must be one."""
        entry = self.top(pool)
        assert entry is not None, f"pool {pool} has no startable task"
        heappop(self.heaps[pool])
        del self.tickets[entry[3]]
        self._shrink(pool)
        return entry[3]

    def _shrink(self, pool: str) -> None:
        left = self.sizes[pool] - 1
        if left:
            self.sizes[pool] = left
        else:
            del self.sizes[pool]
            self.heaps[pool].clear()
