"""Notes, of which the core knows only that somebody must be told."""

from __future__ import annotations

from orchestrator.core import events as e
from orchestrator.core.commands import RecordNote
from tests.support.core import World


def test_notes_are_recorded_in_their_order_whatever_plan_they_are_on() -> None:
    commands = World().handle(e.NotesWritten(note_ids=(7, 9)))
    assert commands == [RecordNote(note_id=7), RecordNote(note_id=9)]
