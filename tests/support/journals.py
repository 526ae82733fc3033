"""Journals in memory. Attempts are lost when a test says so; which one comes before which is their token."""

from __future__ import annotations

from collections import defaultdict

from orchestrator.errors import EnvironmentFault
from orchestrator.journal_ports import JournalEntry, LostSession


class MemoryJournals:
    """Implements journal_ports.Journals for the attempts of one task.

    Attributes:
        lost: tokens of lost attempts.
        fault: raised instead of reading.
    """

    def __init__(self) -> None:
        self.lost: set[int] = set()
        self.fault: EnvironmentFault | None = None
        self._entries: dict[int, dict[int, bytes]] = defaultdict(dict)

    def write(self, entry: JournalEntry) -> None:
        """Keep an entry; one of that number stays as it is."""
        self._entries[entry.token].setdefault(entry.seq, entry.content)

    async def store(self, entry: JournalEntry) -> None:
        """Keep an entry."""
        self.write(entry)

    async def lost_before(self, token: int) -> LostSession | None:
        """Return what the attempt before has left, if it was lost."""
        if self.fault is not None:
            raise self.fault
        before = token - 1
        return LostSession(number=1, entries=self.entries(before)) if before in self.lost else None

    def entries(self, token: int) -> tuple[bytes, ...]:
        """Return what an attempt has written."""
        return tuple(self._entries[token].values())
