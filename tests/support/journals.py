"""Journals in memory. Attempts are cut short when a test says so; their tokens tell which comes first."""

from __future__ import annotations

from collections import defaultdict

from orchestrator.errors import EnvironmentFault
from orchestrator.journal_ports import CutSession, JournalEntry


class MemoryJournals:
    """Implements journal_ports.Journals for the attempts of one task.

    Attributes:
        cut: tokens of attempts that were cut short.
        fault: raised instead of reading.
    """

    def __init__(self) -> None:
        self.cut: set[int] = set()
        self.fault: EnvironmentFault | None = None
        self._entries: dict[int, dict[int, bytes]] = defaultdict(dict)

    def write(self, entry: JournalEntry) -> None:
        """Keep an entry; one of that number stays as it is."""
        self._entries[entry.token].setdefault(entry.seq, entry.content)

    async def store(self, entry: JournalEntry) -> None:
        """Keep an entry."""
        self.write(entry)

    async def cut_before(self, token: int) -> CutSession | None:
        """Return what the attempt before has left, if it was cut short."""
        if self.fault is not None:
            raise self.fault
        before = token - 1
        return CutSession(number=1, entries=self.entries(before)) if before in self.cut else None

    def entries(self, token: int) -> tuple[bytes, ...]:
        """Return what an attempt has written."""
        return tuple(self._entries[token].values())
