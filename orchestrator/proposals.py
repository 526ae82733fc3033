"""What a model may propose as the subtasks of a task, and the proposal that readers see.

The models are the schema that the model is given, the check of what it answers, and a part of the API. Texts
stand on one line each, so that no proposal can say more in a plan than it shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from orchestrator.views import View

SUBTASKS_MIN = 2
SUBTASKS_MAX = 12
#: A subtask takes less than four hours.
ESTIMATE_MIN_MAX = 239


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it must be one line without control characters")
    return text


_Line = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    AfterValidator(_one_line),
]
_Path = Annotated[str, StringConstraints(max_length=200, pattern=r"^[\w./*@+-]+$")]


class Subtask(BaseModel):
    """One subtask: what one agent can do on its own in one sitting."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: _Line = Field(
        description="What to do, beginning with a verb, in one sentence without a full stop."
    )
    acceptance: tuple[_Line, ...] = Field(
        min_length=1, max_length=6, description="How anyone can tell that it is done, one line each."
    )
    estimate_min: int = Field(ge=5, le=ESTIMATE_MIN_MAX, description="Minutes that it takes.")
    depends_on: tuple[int, ...] = Field(
        default=(), max_length=SUBTASKS_MAX, description="Numbers, from 1, of the subtasks that it waits for."
    )
    agent: str = Field(default="", max_length=64, description="Agent type; empty leaves the choice open.")
    touches: tuple[_Path, ...] = Field(
        default=(), max_length=12, description="Files that it changes: paths or patterns such as `src/*.py`."
    )


class Subtasks(BaseModel):
    """Propose the subtasks that together are the whole task, in the order in which one would do them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    subtasks: tuple[Subtask, ...] = Field(min_length=SUBTASKS_MIN, max_length=SUBTASKS_MAX)

    @model_validator(mode="after")
    def _hang_together(self) -> Self:
        titles = [subtask.title.casefold() for subtask in self.subtasks]
        if len(set(titles)) < len(titles):
            raise ValueError("two subtasks have the same title")
        waiting = dict(enumerate((set(subtask.depends_on) for subtask in self.subtasks), start=1))
        for number, numbers in waiting.items():
            if strange := numbers - waiting.keys():
                raise ValueError(f"subtask {number} depends on {min(strange)}, which no subtask is")
        while free := {number for number, numbers in waiting.items() if not numbers}:
            waiting = {number: on - free for number, on in waiting.items() if number not in free}
        if waiting:
            raise ValueError(f"the subtasks {', '.join(map(str, waiting))} wait for each other")
        return self


class Proposal(View):
    """Subtasks for one task, as a model proposes them; nothing of the plan is changed by it.

    Attributes:
        is_new: the model was asked for it now; else it was kept, and cost nothing more.
        keys: of the subtasks, in their order.
        base_digest: of the plan's text that `files` is an edit of.
        file: path of the file that is edited, as in `files`.
        files: the texts of the plan with the subtasks in them; to be handed in as a revision.
        diff: what is edited, as a unified diff.
        model: which proposed it; the tokens and the cost are those of all its answers.
    """

    id: int
    is_new: bool
    plan_id: int
    task_key: str
    keys: tuple[str, ...]
    subtasks: tuple[Subtask, ...]
    format: str
    base_digest: str
    file: str
    files: Mapping[str, str]
    diff: str
    model: str
    input_tokens: int
    output_tokens: int
    cost_micros: int
