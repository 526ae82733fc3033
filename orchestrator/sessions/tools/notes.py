"""The tool `notes`: how sessions of one plan leave word for each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from orchestrator.ports import NoteBook
from orchestrator.sessions.context import note_line, outcome_line
from orchestrator.sessions.tools.files import ToolRefused
from orchestrator.surroundings import Recalled
from orchestrator.views import NOTE_CHARS_MAX, NoteKind, NoteView


class Notes(BaseModel):
    """Write or read the notes that all sessions of this plan share.

    Write what whoever relies on your task must know and cannot see in the files: a note is told to them, a
    decision to every task of the plan. Read all of them, or with the key of a task what is known of it.
    """

    model_config = ConfigDict(extra="forbid")

    action: Literal["write", "read"]
    text: str = Field(default="", max_length=NOTE_CHARS_MAX, description="What to write; a few sentences.")
    kind: NoteKind = Field(default=NoteKind.NOTE, description="What to write it as.")
    task: str = Field(default="", description="Key of the task to read about.")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.action == "write" and not self.text.strip():
            raise ValueError("`write` needs `text`")
        return self


async def use_notes(request: Notes, book: NoteBook, *, token: int) -> str:
    """Carry out a call; returns what the model is told.

    Raises:
        ToolRefused: the attempt is over, or the plan has no such task.
        DatabaseUnavailable: nothing is known to be written.
    """
    if request.action == "write":
        if not await book.write(token, kind=request.kind, text=request.text.strip()):
            raise ToolRefused("This attempt is over: nothing more can be written for it.")
        return f"The {request.kind} is written."
    if not request.task:
        return _listed(await book.read(token)) or "There are no notes yet."
    recalled = await book.recall(token, request.task)
    if recalled is None:
        raise ToolRefused(f"The plan has no task {request.task!r}.")
    return "\n\n".join(_known(recalled))


def _known(recalled: Recalled) -> Iterable[str]:
    yield outcome_line(recalled.outcome)
    if recalled.body:
        yield recalled.body
    if recalled.notes:
        yield _listed(recalled.notes)


def _listed(notes: Sequence[NoteView]) -> str:
    return "\n".join(f"{note_line(note)} ({note.kind})" for note in notes)
