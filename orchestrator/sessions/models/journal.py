"""The journal of a conversation: written as it goes, so that another executor can continue it.

Each entry is JSON: how many of the messages before it stay, what follows them, and how the conversation
stands; so each message is written once. The first tells besides what the conversation was begun with. See
docs/adr/0021.
"""

from __future__ import annotations

import hashlib
import json
import socket
from dataclasses import dataclass, fields
from pathlib import Path

from orchestrator.errors import EnvironmentFault
from orchestrator.journal_ports import CutSession, JournalEntry, Journals
from orchestrator.ports import Assignment, Transcript
from orchestrator.sessions.models.answer import Block
from orchestrator.sessions.models.api import Message, Request

#: Changes when what is written here is no longer read as it was meant.
_FORMAT = 1

_INTERRUPTED = (
    "Interrupted: the process that carried this out is gone, and nobody knows whether it took effect, or how"
    " much of it. Look before you do it again."
)
_GOES_ON = (
    "This session was interrupted and goes on in a new process. The files of the workspace are as they were"
    " left. The shell is a new one: the folder, the variables and the background processes of the old one are"
    " gone, and so is what was in its temporary folder."
)


@dataclass(slots=True)
class Standing:
    """How a conversation stands: all that its next request depends on, and that changes.

    Attributes:
        messages: of both sides, oldest first. The first begins with the task.
        is_long: whether the service is asked to leave out old tool results.
        size: tokens of the conversation up to the last answer, as the service counts.
        is_handing_over: whether the model was asked to write down what a new conversation must know.
        reminders: how often it was told to report.
        continuations: how many of the last answers in a row reached their length limit.
    """

    messages: list[Message]
    is_long: bool = False
    size: int = 0
    is_handing_over: bool = False
    reminders: int = 0
    continuations: int = 0

    @classmethod
    def of_task(cls, task: str) -> Standing:
        """Return the standing of a conversation that begins."""
        standing = cls([])
        standing.say([{"type": "text", "text": task}])
        return standing

    @property
    def task(self) -> Block:
        """The words that it was begun with."""
        task: Block = self.messages[0]["content"][0]
        return task

    def say(self, blocks: list[Block]) -> None:
        """Add to our side; two messages of one side in a row are one message."""
        if self.messages and self.messages[-1]["role"] == "user":
            self.messages[-1]["content"] += blocks
        else:
            self.messages.append({"role": "user", "content": list(blocks)})


class Journal:
    """The journal of one session.

    Args:
        journals: keeps it.
        assignment: of the session.
        terms: what decides about all of its requests; see ModelApi.
        folder: where it works.
    """

    def __init__(self, journals: Journals, assignment: Assignment, *, terms: Request, folder: Path) -> None:
        self._journals = journals
        self._token = assignment.token
        self._is_first_attempt = assignment.number == 1
        self._origin = {"format": _FORMAT, "digest": _digest(assignment, terms), "place": _place(folder)}
        self._seq = 0
        self._told: list[tuple[Message, int]] = []  #: what is written: each message, and its blocks by then

    async def take_up(self, transcript: Transcript) -> Standing | None:
        """Return how the conversation stands that was cut short before this attempt; None: begin anew.

        The transcript is told if it is continued, and why not if there was one.
        """
        if self._is_first_attempt:
            return None
        try:
            cut = await self._journals.cut_before(self._token)
        except EnvironmentFault as fault:
            transcript.write("note", f"The session begins anew. {fault}\n")
            return None
        if cut is None:
            return None
        if reason := self._reason_against(cut):
            begins_anew = f"Attempt {cut.number} was cut short; the session begins anew: {reason}.\n"
            transcript.write("note", begins_anew)
            return None
        standing = _restored(cut)
        answers = sum(message["role"] == "assistant" for message in standing.messages)
        transcript.write(
            "note",
            f"The session of attempt {cut.number}, which was cut short, goes on after {answers} answers.\n",
        )
        _mend(standing)
        return standing

    def _reason_against(self, cut: CutSession) -> str:
        """Return why a session cannot be continued; empty if it can."""
        if not cut.entries:
            return "it had written nothing yet"
        origin = json.loads(cut.entries[0])
        if origin.get("format") != _FORMAT:
            return "its journal was written by another version"
        if origin["digest"] != self._origin["digest"]:
            return "its task, its tools or its model are no longer the same"
        if not origin["place"] or origin["place"] != self._origin["place"]:
            return "it worked in another folder, or on another machine"
        return ""

    def write(self, standing: Standing) -> None:
        """Add what is new; nobody waits until it is stored."""
        self._journals.write(self._entry(standing))

    async def store(self, standing: Standing) -> None:
        """Add what is new, and return once it is stored."""
        await self._journals.store(self._entry(standing))

    def _entry(self, standing: Standing) -> JournalEntry:
        kept = self._unchanged(standing.messages)
        content = {field.name: getattr(standing, field.name) for field in fields(standing)}
        content |= {"kept": kept, "messages": standing.messages[kept:]}
        self._told = [(message, len(message["content"])) for message in standing.messages]
        self._seq += 1
        if self._seq == 1:
            content |= self._origin
        return JournalEntry(token=self._token, seq=self._seq, content=json.dumps(content).encode())

    def _unchanged(self, messages: list[Message]) -> int:
        """Return how many messages are as they were written; the last of ours may have grown since."""
        count = 0
        for (told, blocks), message in zip(self._told, messages, strict=False):
            if message is not told or len(message["content"]) != blocks:
                break
            count += 1
        return count


def _restored(cut: CutSession) -> Standing:
    """Return the conversation as it stood with the last entry."""
    standing = Standing([])
    for entry in map(json.loads, cut.entries):
        messages = [*standing.messages[: entry["kept"]], *entry["messages"]]
        standing = Standing(**{field.name: entry[field.name] for field in fields(Standing)})
        standing.messages = messages
    return standing


def _mend(standing: Standing) -> None:
    """Answer the calls whose results are lost, and tell the model what has changed around it."""
    last = standing.messages[-1]
    calls = [block["id"] for block in last["content"] if block["type"] == "tool_use"]
    if calls and last["role"] == "assistant":
        standing.say(
            [
                {"type": "tool_result", "tool_use_id": call, "content": _INTERRUPTED, "is_error": True}
                for call in calls
            ]
        )
    if standing.messages[-1]["role"] == "user":  # else the model goes on from its own words
        standing.say([{"type": "text", "text": _GOES_ON}])


def _digest(assignment: Assignment, terms: Request) -> str:
    """Return what changes when the words of the task, or the terms of its requests, do."""
    a = assignment
    words = [terms, a.kind, a.key, a.title, a.body, a.acceptance, a.feedback]
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()


def _place(folder: Path) -> str:
    """Return what names a folder and the machine where it is; empty if it is not there.

    Its inode tells it from another one that was made later under the same name.
    """
    try:
        return f"{socket.gethostname()}:{folder.resolve()}:{folder.stat().st_ino}"
    except OSError:
        return ""
