"""What readers see of the service as a whole: its state, its pools and its limits."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.views import View


class PoolView(View):
    """Executors of one agent type. `waits_for` says what keeps another one from starting.

    Attributes:
        breaker: `closed`, `open` or `half-open`.
        breaker_failures: tasks that failed since the last success, as far as the scheduler knows.
        breaker_probe_in_s: seconds until an open breaker lets its probe through; None if it is not open.
    """

    agent_type: str
    executors: int
    slots: int
    running: int
    queued: int
    breaker: str = "closed"
    breaker_failures: int = 0
    breaker_probe_in_s: float | None = None
    waits_for: str = ""


class LimitView(View):
    """How many sessions may be live at once, and how many are.

    Attributes:
        scope: `total`, `agent`, `tenant` or `plan`; `name` says which one, a plan by its id.
        sessions_max: None = no limit of its own.
        is_set: a person has set it while the scheduler ran; else the settings give it.
    """

    scope: str
    name: str
    live: int
    sessions_max: int | None
    is_set: bool


class BudgetView(View):
    """What may be spent of a budget that plans share, in millionths of a US dollar.

    Attributes:
        scope: `day` (of everybody, by UTC) or `tenant`; `name` says which tenant.
        spent_micros: by attempts that have ended; `reserved_micros`: set aside for those that are live.
        is_short: it cannot bear another attempt now.
    """

    scope: str
    name: str
    spent_micros: int
    reserved_micros: int
    budget_micros: int
    is_short: bool


class GovernorView(View):
    """How requests to one provider of models stand. Counts are of all executors, as they last said.

    Attributes:
        credential: the provider whose key it is.
        is_away: it does not answer now; the rest is unknown.
        in_flight: requests that are under way, of `at_once_max`; `waiting`: for leave; `granted`: may begin.
        per_s: how many may begin in a second, as far as it goes by itself; it doubles while it is used.
        pause_s: the provider wants nothing sent for so long; `refused`: how often it has said so.
        left: what is left of each limit, by model and kind, such as `requests`, as the headers told.
    """

    credential: str
    is_away: bool = False
    in_flight: int = 0
    at_once_max: int = 0
    waiting: int = 0
    granted: int = 0
    per_s: float = 0.0
    pause_s: float = 0.0
    refused: int = 0
    left: Mapping[str, Mapping[str, int]] = {}


class StatusView(View):
    """The whole service at a glance.

    Attributes:
        is_paused: a person has paused everything; nothing starts. `pause_reason`: what that person said.
        unknown_commits: commits of this scheduler whose answer was lost and whose outcome was looked up.
    """

    version: str
    epoch: int
    is_ready: bool
    is_paused: bool = False
    pause_reason: str = ""
    uptime_s: float
    sessions_max: int
    sessions: int
    plans: Mapping[str, int]
    tasks: Mapping[str, int]
    pools: tuple[PoolView, ...]
    limits: tuple[LimitView, ...] = ()
    budgets: tuple[BudgetView, ...] = ()
    governors: tuple[GovernorView, ...] = ()
    unknown_commits: int = 0
    backend_note: str
