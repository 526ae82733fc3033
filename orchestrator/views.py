"""What readers see of plans, tasks, attempts and events: the one set of models that the store fills,
the API serves, and the clients return.

Times are UTC; money is in millionths of a US dollar; states and reasons are the words of core/words.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from orchestrator.money import BUDGET_MICROS_MAX

T = TypeVar("T")

#: Longest note: whoever comes next reads it with every task that it concerns.
NOTE_CHARS_MAX = 2_000

NoteText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=NOTE_CHARS_MAX)]


class View(BaseModel):
    """Base of all read models: frozen, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AgentTypeProgress(View):
    """Counts of one agent type within a plan."""

    agent_type: str
    tasks: int
    done: int
    failed: int
    running: int


class PlanView(View):
    """A plan with its roll-up.

    Attributes:
        repository: folder or address, in whose clones its attempts work; empty = they work in `workdir`.
        tasks: leaves by state, such as `{"done": 3, "running": 1}`.
        cost_micros: what its attempts that have ended, and proposals, have cost.
        sessions: attempts that are live; `reserved_micros` is what these may spend, 0 = no bound or nothing.
        eta_s: estimated seconds to the end, from estimates, history and the current width; None if unknown.
        read_at: when this was true, by the clock of `created_at` and of the events.
    """

    id: int
    name: str
    title: str
    format: str
    state: str
    backend: str
    workdir: str
    repository: str = ""
    tasks_total: int
    tasks: Mapping[str, int]
    agent_types: tuple[AgentTypeProgress, ...]
    attempts: int
    input_tokens: int
    output_tokens: int
    cost_micros: int
    sessions: int = 0
    reserved_micros: int = 0
    budget_micros: int
    eta_s: float | None
    created_at: datetime
    ended_at: datetime | None
    read_at: datetime
    last_seq: int


class TaskView(View):
    """A task as lists show it. `not_before`: the end of its back-off; None when it is in none."""

    id: int
    plan_id: int
    key: str
    parent_key: str
    kind: str
    title: str
    state: str
    reason: str
    agent_type: str
    priority: int
    unmet_dependencies: int
    not_before: datetime | None
    attempts_used: int
    losses: int
    line: int


class CommitsView(View):
    """What an attempt left in the repository of its plan.

    Attributes:
        base_sha: what it began with; `head_sha` what it left, equal if it changed nothing.
        branch: the name of its commits in the repository.
        files: (path, lines added, lines removed) of each file that changed; None for a binary file.
    """

    base_sha: str
    head_sha: str
    branch: str
    files: tuple[tuple[str, int | None, int | None], ...]


class AttemptView(View):
    """One try of a task. `commits`: what it left; None while it works, and where there is no repository."""

    token: int
    number: int
    kind: str
    agent_type: str
    backend: str
    executor: str
    state: str
    end_reason: str
    failure_class: str | None
    summary: str
    exit_code: int | None
    input_tokens: int
    output_tokens: int
    cost_micros: int
    leased_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    commits: CommitsView | None = None


class DependencyView(View):
    """An edge: this task depends on `key`."""

    key: str
    title: str
    state: str
    kind: str
    is_explicit: bool
    evidence: str


class PlanDependencyView(View):
    """A dependency of a plan: `task` waits for `on`, or as its kind says; both are keys.

    Attributes:
        kind: `blocks`, `informs`, `relates`, or `dropped` for what a person has taken out.
        is_explicit: written by the author or decided by a person; else inferred.
        evidence: the words that say so; with "by hand" in front where a person has decided.
        line: where they stand in the plan; 0 where its format has no lines.
        confidence: 0 to 1.
    """

    task: str
    on: str
    kind: str
    is_explicit: bool
    evidence: str
    line: int
    confidence: float


class TaskDetail(TaskView):
    """A task with everything about it. `options` are its field lines on how it is run, such as `timeout`."""

    body: str
    acceptance: tuple[str, ...]
    run: tuple[str, ...]
    verify: tuple[str, ...]
    manual: str
    approve: str
    estimate_ms: int | None
    task_type: str
    domain: str
    options: Mapping[str, str] = {}
    routing_rule: str
    routing_evidence: str
    depends_on: tuple[DependencyView, ...]
    dependents: tuple[DependencyView, ...]
    attempts: tuple[AttemptView, ...]


class NoteKind(StrEnum):
    """What a note is."""

    NOTE = "note"  #: a remark on its task, for whoever relies on that; on the plan, for all
    DECISION = "decision"  #: holds for the whole plan


class NoteView(View):
    """What a session or a person left for whoever comes next.

    Attributes:
        task_key: of the task that it is on; empty = on the plan.
        author: agent type of the session that wrote it; empty = a person.
    """

    id: int
    kind: NoteKind
    task_key: str
    author: str
    text: str
    at: datetime


class NewNote(BaseModel):
    """A note that a person leaves. `task`: key or id of the task that it is on; empty = on the plan."""

    model_config = ConfigDict(extra="forbid")

    text: NoteText
    kind: NoteKind = NoteKind.NOTE
    task: str = ""


class ContextPackView(View):
    """What a session is told of a task, or whoever asks of a plan.

    Attributes:
        text: Markdown.
        tokens: of the text, estimated; `tokens_max` is what it may have.
        left_out: what did not fit, such as `3 notes`.
    """

    text: str
    tokens: int
    tokens_max: int
    left_out: tuple[str, ...]


class EventView(View):
    """Something that happened. `seq` only grows; it is the cursor of the stream."""

    seq: int
    plan_id: int | None
    task_id: int | None
    task_key: str
    token: int | None
    type: str
    payload: Mapping[str, Any]
    at: datetime


class LogView(View):
    """Text of a transcript. `offset_ms` counts from the start of the attempt; `seq` counts its pieces."""

    token: int
    number: int
    kind: str
    seq: int
    offset_ms: int
    stream: str
    text: str


class FindingView(View):
    """A remark about a plan; see errors.Finding."""

    line: int
    number: str
    code: str
    message: str
    remedy: str
    severity: str
    source: str = ""


class Submitted(View):
    """The answer to a submitted plan. `is_new` is False when the plan was known and goes on."""

    plan_id: int
    name: str
    is_new: bool
    tasks_total: int
    findings: tuple[FindingView, ...]


class SubmitRequest(BaseModel):
    """How a plan is handed in.

    Attributes:
        text: Markdown or JSON of the plan.
        files: instead of `text`: the texts of the files of a folder, by their paths below it.
        agents: files of agent types that the plan brings along, by their paths.
        source: path or name that findings mention.
        name: identity of the plan; by default front matter `name`, else the title, else refused.
        workdir: absolute folder on the server's machine; overrides the front matter.
        repository: absolute folder on the machine of the server, or URL, whose clones it is done in;
            overrides the front matter.
        branch: what the work begins with; by default the front matter's, else the repository's HEAD.
        base_dir: folder that a relative front matter `workdir` is relative to.
        backend: `auto`, or a name of orchestrator/backends.py.
        until_key: work only on this task and what it needs.
        take: also work on tasks marked in progress.
        retry: if the plan is known and has stalled, try again what failed in it.
        is_fresh: rename a known plan of this name to `name@N` and start over.
    """

    model_config = ConfigDict(extra="forbid")

    text: str = ""
    files: dict[str, str] = {}
    agents: dict[str, str] = {}
    format: str = "auto"
    source: str = ""
    name: str = ""
    workdir: str = ""
    repository: str = ""
    branch: str = ""
    base_dir: str = ""
    backend: str = "auto"
    budget_micros: Annotated[int, Field(ge=0, le=BUDGET_MICROS_MAX)] = 0
    until_key: str = ""
    take: bool = False
    retry: bool = False
    is_fresh: bool = False


class ReviseRequest(BaseModel):
    """A new text of a plan.

    Attributes:
        text, files, agents, format: as in SubmitRequest; agent types that are no longer among them stay.
        base_digest: of the text that this one is an edit of; one that is no longer so is refused. Empty = of
            whatever is stored.
        take: also work on new tasks that are marked in progress.
        follow: tasks follow the marks that the text has changed; False: they have done so before.
    """

    model_config = ConfigDict(extra="forbid")

    text: str = ""
    files: dict[str, str] = {}
    agents: dict[str, str] = {}
    format: str = "auto"
    base_digest: str = ""
    take: bool = False
    follow: bool = True


class ChangeView(View):
    """A task that a new text touches; see plan.diff.Change."""

    kind: str
    key: str
    title: str
    reasons: tuple[str, ...]
    line: int


class MarkChangeView(View):
    """A task whose mark is another one in a new text."""

    key: str
    old: str
    new: str


class Revised(View):
    """What a new text of a plan changes.

    Attributes:
        state: `shown` (nothing was stored), `unchanged` (nothing is to be), `submitted` (stored, and the
            scheduler has not taken it yet), `stored`, `applied`, `refused`.
        reason: why it was refused.
        asked: keys of the tasks that are made to follow their marks.
    """

    plan_id: int
    revision_id: int
    state: str
    reason: str
    changes: tuple[ChangeView, ...]
    marks: tuple[MarkChangeView, ...]
    asked: tuple[str, ...]
    findings: tuple[FindingView, ...]


class SourceTask(View):
    """A task of a plan's text, as far as its identity and its mark go, and where it stands."""

    id: int
    key: str
    has_own_key: bool
    parent_key: str
    kind: str
    title: str
    mark: str
    source_file: str
    line: int
    state: str
    reason: str


class SourceView(View):
    """The text of a plan: what the files and the database last agreed on."""

    plan_id: int
    digest: str
    format: str
    files: Mapping[str, str]
    tasks: tuple[SourceTask, ...]


_Limit = Annotated[int, Field(ge=0, le=1_000_000)]
_Micros = Annotated[int, Field(ge=0, le=BUDGET_MICROS_MAX)]
_Name = Annotated[str, Field(pattern=r"^[\w.:@/-]{1,100}$")]


class NewLimits(BaseModel):
    """What holds from now on. What is not named stays; 0 = back to the settings.

    Attributes:
        sessions_max: sessions that may be live at once, in total.
        agents, tenants, plans: the same by agent type, by tenant, and by id of the plan.
        tenant_budgets: what tenants may spend in all their plans, in millionths of a US dollar.
        day_budget: what everybody may spend in a day, by UTC.
    """

    model_config = ConfigDict(extra="forbid")

    sessions_max: _Limit | None = None
    agents: dict[_Name, _Limit] = {}
    tenants: dict[_Name, _Limit] = {}
    plans: dict[int, _Limit] = {}
    tenant_budgets: dict[_Name, _Micros] = {}
    day_budget: _Micros | None = None


class Page(View, Generic[T]):
    """A page of a list. `next` is the cursor of the next page; empty on the last."""

    items: tuple[T, ...]
    next: str = ""
