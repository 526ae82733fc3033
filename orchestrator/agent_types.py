"""What an agent type is, wherever its file came from: the one shape that is routed by, stored and shown."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.views import View

#: What the `tools` of an agent type may name, in the words of Claude Code. Notes and the report are not among
#: them: every session has these.
TOOLS = ("Bash", "Edit", "Glob", "Grep", "Read", "Write")

#: The agent type that takes what no other does, and that stands in for names which no file defines.
GENERAL = "general-purpose"


class AgentLimits(View):
    """Bounds of the sessions of an agent type. They narrow those of the settings; None leaves them alone.

    Attributes:
        sessions: live at once.
        timeout_s, idle_timeout_s: longest time of a session, and longest time without output.
        turns: of a conversation with a model.
        cost_micros: spend of a session, in millionths of a US dollar.
    """

    sessions: int | None = None
    timeout_s: float | None = None
    idle_timeout_s: float | None = None
    turns: int | None = None
    cost_micros: int | None = None


class AgentType(View):
    """A kind of agent.

    Attributes:
        domains: fields of work, in the words of plan/classify.py.
        keywords: words of a task's title that point to it, lower case.
        tracks: first parts of the keys of tasks that are its own unless something says otherwise.
        backend: of its work that no `run:` line says, where the plan leaves the choice; `auto` = ours.
        model: id of the model; empty = the default of the settings.
        tools: those of TOOLS that it may use.
        prompt: who the agent is and how it works, for the model.
        file: where it is written.
        lines: where in the file each field stands that the file gives; the others have their defaults.
        fault: what is wrong with the file, and where, if it cannot be read: only the name is known then,
            and no task goes to it, because whatever stood in for it might do more than was meant.
    """

    name: str
    description: str = ""
    domains: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    tracks: tuple[str, ...] = ()
    backend: str = "auto"
    model: str = ""
    tools: tuple[str, ...] = TOOLS
    limits: AgentLimits = AgentLimits()
    prompt: str = ""
    file: str = ""
    lines: Mapping[str, int] = {}
    fault: str = ""


class LiveAgentType(View):
    """How an agent type stands where an orchestrator runs.

    Attributes:
        running: sessions that are live; `queued`: that could be.
        sessions_max: most that may be live at once, by whoever says it.
        breaker: `closed`, `open` or `half-open`.
    """

    running: int
    queued: int
    sessions_max: int
    breaker: str


class AgentTypeView(AgentType):
    """An agent type as readers see it.

    Attributes:
        pool: what it is called among those of everybody and of all plans, such as in `limits`.
        plan_id: of the plan that brought it along; None = of everybody.
        live: None where nothing runs, or the scheduler is away.
    """

    pool: str
    plan_id: int | None = None
    live: LiveAgentType | None = None


def own_name(name: str, plan_id: int) -> str:
    """Return what an agent type that a plan brings along is called beside those of everybody."""
    return f"{name}@{plan_id}"


def name_and_plan(own: str) -> tuple[str, int]:
    """Return the name and the plan of what `own_name` made; plan 0 for an agent type of everybody."""
    name, _, plan_id = own.partition("@")
    return name, int(plan_id) if plan_id else 0
