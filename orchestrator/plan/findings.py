"""Everything that can be found in a plan: each finding has a number that never changes, and a name.

The hundreds of the numbers: P1 the text, P2 its tasks, P3 their states, P4 their fields, P5 dependencies,
P6 who runs them. A new code takes the next free number of its hundred; a number is never given twice, not
even after its code is gone. `docs/findings.md` is made from this table by `make docs`.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal

from orchestrator.errors import Finding

Severity = Literal["error", "warning"]


def are(number: int, noun: str) -> str:
    """Return such as `1 box is`, `2 boxes are`."""
    if number == 1:
        return f"1 {noun} is"
    return f"{number} {noun}{'es' if noun.endswith('x') else 's'} are"


class Code(Enum):
    """What can be found, and what becomes of a plan in which it is."""

    EMPTY_PLAN = ("P101", "error", "Nothing is written.")
    NO_TASKS = ("P102", "error", "There are words, and no tasks.")
    REPLACED_CHARACTERS = ("P103", "warning", "Characters that no database stores are replaced by U+FFFD.")
    FRONT_MATTER = ("P104", "warning", "The front matter is no YAML mapping; it is ignored.")
    UNCLOSED_FENCE = ("P105", "warning", "A code fence is never closed; nothing below it is read.")
    UNCLOSED_COMMENT = ("P106", "warning", "An HTML comment is never closed; nothing below it is read.")
    UNKNOWN_FORMAT = ("P107", "error", "It is JSON, and of no format that is known.")
    INVALID_JSON = ("P108", "error", "It begins as JSON and is none.")
    INVALID_FIELD = ("P109", "error", "A field of a JSON plan is unknown, missing or of a wrong type.")
    TOO_DEEP = ("P110", "error", "Tasks are nested too deeply in JSON.")
    STALE_COUNTS = ("P111", "warning", "The front matter counts tasks that are not there; the boxes hold.")
    STRAY_BYTES = ("P112", "warning", "Bytes are no UTF-8; they are read as Windows-1252.")

    DUPLICATE_ID = ("P201", "warning", "Two tasks have the same id; the later one gets a number behind it.")
    RUN_ON_CONTAINER = ("P202", "error", "What contains tasks has work of its own, which nobody would do.")
    EMPTY_TITLE = ("P203", "warning", "A box has no words beside it; it is no task.")
    CRITERIA_BOXES = ("P204", "warning", "Boxes stand under a heading of criteria; they are no tasks.")
    NUMBERED_TASKS = ("P205", "warning", "There is no box; numbered lines in bold are taken as the tasks.")
    ALMOST_BOX = ("P206", "warning", "A box has no blank behind it; it is no task.")
    SHARED_BOX = ("P207", "warning", "Several ids share one box; they are one task.")
    ODD_ID = ("P208", "warning", "An id is not as the standard of tracks has it; it is kept as written.")
    COPIED_FILE = ("P209", "warning", "A file of the folder is a copy of another; it is left out.")
    RESTORED_ID = ("P210", "warning", "An id lost its last zero as a number; its place tells what it was.")
    TAGGED_IDS = ("P211", "warning", "Two tags share ids; those of the later one have its name in front.")
    LEFT_OUT = ("P212", "warning", "Records that are deleted, or are no work, are left out.")
    UNUSABLE_PARENT = ("P213", "warning", "The parent that a task names cannot be one; it stands at the top.")
    VAGUE_TASK = ("P214", "warning", "A task is large, is several things in one, and has no criteria.")

    DONE_PARENT_OPEN_CHILD = ("P301", "warning", "A task is done and tasks in it are open; they will be run.")
    MARK_CONFLICT = ("P302", "warning", "Box and words say different states; the box holds.")
    UNKNOWN_MARK = ("P303", "warning", "The sign in a box is no state; the box is no task.")
    STRUCK_TITLE = ("P304", "warning", "The title is struck out; the task is taken as cancelled.")
    UNKNOWN_STATUS = ("P305", "warning", "A status is none that is known; the task is held.")
    OWN_STATUSES = ("P306", "warning", "The statuses are the project's own; states are not written back.")
    DONE_TOO_EARLY = ("P307", "warning", "A task is done, and one that it was to wait for is not.")
    GIVEN_UP_PARENT = ("P308", "warning", "A task is cancelled or deferred and tasks in it are open.")

    UNKNOWN_VALUE = ("P401", "warning", "The value of a field cannot be read; the field is left out.")
    UNREADABLE_OPTION = ("P402", "error", "How a task is to be run cannot be read, and is not guessed.")
    OUT_OF_BOUNDS = ("P403", "error", "A time or number is one that cannot be meant.")
    NO_FIELD = ("P404", "warning", "A line looks like a field and is none; it is text, and nothing reads it.")

    UNKNOWN_DEPENDENCY = ("P501", "error", "A task depends on an id that no task has.")
    OUTSIDE_DEPENDENCY = ("P502", "warning", "A task depends on something outside the plan; nothing waits.")
    SELF_DEPENDENCY = ("P503", "error", "A task depends on itself.")
    CYCLE = ("P504", "error", "Tasks wait for each other, so none of them can start.")
    INFERRED_CYCLE = ("P505", "warning", "What words imply would close a cycle; it only informs.")
    TOO_MUCH_INFERRED = ("P506", "warning", "The words imply more dependencies than are inferred.")
    LOST_CONDITION = ("P507", "warning", "A task is to run only if another fails; it runs after it instead.")

    UNKNOWN_AGENT = ("P601", "warning", "No file defines the agent type; a general one does the work.")
    UNKNOWN_BACKEND = ("P602", "error", "There is no such backend.")
    NO_COMMAND = ("P603", "error", "The backend is `command`, and a task has no `run:` lines.")
    COMMAND_REVIEW = ("P604", "error", "The backend is `command`, and a task has a `review:`.")
    RESERVED_AGENT = ("P605", "error", "An agent type has the name under which gates run.")
    AGENT_FILE = ("P606", "error", "The file of an agent type cannot be read, so there is no such type.")
    AGENT_FILE_REMARK = ("P607", "warning", "The file of an agent type says something that has no effect.")
    FOREIGN_MODEL = ("P608", "error", "An agent type names a model that the provider it asks does not have.")
    UNLISTED_MODEL = ("P609", "warning", "An agent type names a model that no price list has.")

    def __init__(self, number: str, severity: Severity, meaning: str) -> None:
        self.number = number
        self.severity = severity
        self.meaning = meaning

    @property
    def label(self) -> str:
        """The name in findings, such as `duplicate-id`."""
        return self.name.lower().replace("_", "-")

    def at(self, line: int, message: str, *, remedy: str, source: str = "") -> Finding:
        """Return a finding of this code.

        Args:
            line: 1-based line in the source; 0 when it concerns the whole plan.
            message: the thing and the reason, as a sentence.
            remedy: what the author can do about it, as a sentence.
            source: the file, when the plan is a folder.
        """
        return Finding(
            line=line,
            number=self.number,
            code=self.label,
            message=message,
            remedy=remedy,
            severity=self.severity,
            source=source,
        )
