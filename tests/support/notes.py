"""Notes in memory, by the rules of the real ones: who is over writes none, the same text is kept once."""

from __future__ import annotations

from datetime import UTC, datetime

from orchestrator.surroundings import Recalled, TaskOutcome
from orchestrator.views import NoteKind, NoteView

AT = datetime(2026, 1, 1, tzinfo=UTC)


class MemoryNoteBook:
    """Implements ports.NoteBook. Attempts are live until they are in `over`; token n works on task `A.n`."""

    def __init__(self) -> None:
        self.over: set[int] = set()
        self._notes: list[NoteView] = []

    async def write(self, token: int, *, kind: NoteKind, text: str) -> bool:
        """Leave a note."""
        if token in self.over:
            return False
        key = f"A.{token}"
        if not any((note.task_key, note.kind, note.text) == (key, kind, text) for note in self._notes):
            number = len(self._notes) + 1
            self._notes.append(NoteView(id=number, kind=kind, task_key=key, author="poet", text=text, at=AT))
        return True

    async def read(self, token: int) -> tuple[NoteView, ...]:
        """Return all of them."""
        del token
        return tuple(reversed(self._notes))

    async def recall(self, token: int, key: str) -> Recalled | None:
        """Return the notes on a task."""
        del token
        notes = tuple(note for note in reversed(self._notes) if note.task_key == key)
        outcome = TaskOutcome(key=key, title="Greet", state="done", summary="said hello")
        return Recalled(outcome=outcome, body="Say it.", notes=notes) if notes else None
