"""What sessions and the tables know of journals; see ports.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """A piece of the journal of an attempt, stored as one row; `seq` counts its pieces from 1."""

    token: int
    seq: int
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CutSession:
    """What is left of a session whose attempt was cut short: lost, or interrupted.

    Attributes:
        number: of the attempt.
        entries: of its journal, in order; none if it had written nothing yet.
    """

    number: int
    entries: tuple[bytes, ...]


class Journals(Protocol):
    """Keeps exact records of conversations, so that one can be continued when its executor is gone.

    An outage of the database is waited out: the lease of an attempt that waits too long ends it.
    """

    def write(self, entry: JournalEntry) -> None:
        """Add an entry; it is stored within a second, with what others have written. Never blocks."""

    async def store(self, entry: JournalEntry) -> None:
        """Add an entry, and return once it is stored with all before it, or refused: the attempt is over."""

    async def cut_before(self, token: int) -> CutSession | None:
        """Return what is left of the session before this attempt; None if that was not cut short.

        Raises:
            EnvironmentFault: its journal cannot be read.
        """
