"""What readers see of the graph of a plan and of its forecast. Times count from now; see views.py."""

from __future__ import annotations

from orchestrator.views import View


class OpenTaskView(View):
    """A task that is left to do.

    Attributes:
        wave: from 1; a task waits for tasks of earlier waves only.
        downstream_ms: the longest time from its start to the end of the plan.
        slack_ms: by how much it may be late without the plan being late; 0 = on a critical path.
    """

    key: str
    title: str
    state: str
    agent_type: str
    estimate_ms: int
    wave: int
    downstream_ms: int
    slack_ms: int


class HeldView(View):
    """A task that only a person can set going, and why."""

    key: str
    reason: str


class BlockedView(View):
    """A task whose dependencies are not met.

    Attributes:
        waits_for: keys of those that it waits for itself; that of a container stands for all in it.
        behind: a task that needs a person before this one can ever start; empty if none does.
    """

    key: str
    waits_for: tuple[str, ...]
    behind: str


class BottleneckView(View):
    """A task that much hangs on: how many others wait for it, directly or not, and their estimates."""

    key: str
    title: str
    tasks_behind: int
    work_behind_ms: int


class GraphView(View):
    """What is left of a plan and how it hangs together.

    Attributes:
        tasks: all that are open, in the order of the plan.
        ready: keys of those that may start now.
        work_ms: their estimates together; critical_path_ms: no number of sessions is faster.
        bottlenecks: those that most hangs on, the worst first.
    """

    tasks: tuple[OpenTaskView, ...]
    ready: tuple[str, ...]
    held: tuple[HeldView, ...]
    blocked: tuple[BlockedView, ...]
    waves: tuple[tuple[str, ...], ...]
    work_ms: int
    critical_path: tuple[str, ...]
    critical_path_ms: int
    bottlenecks: tuple[BottleneckView, ...]


class RangeView(View):
    """The values that half and nine tenths of all draws stay below."""

    p50: float
    p90: float


class WidthView(View):
    """The plan with so many sessions. `speed_up` is against one session, by the middle of all draws."""

    width: int
    finish_s: RangeView
    speed_up: float


class ForecastView(View):
    """When a plan will be done and what it will cost.

    Attributes:
        width: how many sessions it is a forecast for.
        samples, seed: how often the plan was worked through, and from which dice.
        tasks: how many are left; work_s: their estimates together.
        finish_s: seconds from now to the end of the plan.
        cost_micros: of what is left; None while there are tasks of which no attempt has told the cost.
        unpriced: how many tasks those are.
        recommended_width: the least width within 5 % of the best; 1 where more are not worth it.
        advice: the same for people, with the reason.
        touching: how many tasks were made to wait for another one only because both touch the same files.
        attempts_known: how many past attempts it rests on; 0 = on the estimates alone.
    """

    width: int
    samples: int
    seed: int
    tasks: int
    work_s: float
    critical_path_s: float
    finish_s: RangeView
    cost_micros: RangeView | None
    unpriced: int
    widths: tuple[WidthView, ...]
    recommended_width: int
    advice: str
    touching: int
    attempts_known: int
