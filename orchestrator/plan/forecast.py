"""When a plan will be done and what it will cost, by how many sessions work on it, and how many are worth it.

The plan is worked through many times with drawn durations (Monte Carlo; Van Slyke, "Monte Carlo methods and
the PERT problem", Operations Research 11, 1963), in the order in which the dispatcher starts tasks. One draw
of a task is

    duration = estimate · A · exp(mu + sigma·z)      cost = mean cost · A · exp(sigma·z - sigma²/2)

with z standard normal, A the number of attempts until one succeeds (geometric, at most the limit of the
task), and mu, sigma, success and mean cost from history.py. A long session costs more than a short one, and
on average what the history says. What waits for a person is taken to be dealt with at once.

Tasks that touch the same files follow each other here: side by side they would end in a conflict, and the
work be done again. The draws are the same for every width, so that widths differ by nothing but themselves.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, exp, log
from statistics import NormalDist

from orchestrator.analysis_views import ForecastView, RangeView, WidthView
from orchestrator.errors import PlanError
from orchestrator.plan.analysis import Analysis, estimate_ms
from orchestrator.plan.history import Belief, History, Kind
from orchestrator.plan.list_scheduling import TaskList, touching_edges
from orchestrator.plan.model import PlanTask
from orchestrator.plan.order import Order
from orchestrator.plan.standing import Standing

#: Widths that are compared, as far as the plan is as wide.
_WIDTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
WIDTH_MAX = 1000

SAMPLES = 200
SAMPLES_MAX = 10_000
_SAMPLES_MIN = 20
#: Ends of tasks that are simulated by default, for the forecast and for the comparison of widths.
_ENDS = 2_000_000
_ENDS_COMPARED = 500_000

#: A width is good enough when it is so close to the best: fewer sessions are less to see to.
_CLOSE = 1.05
#: Below this speed-up one session does as well, and needs nobody to put things together.
_WORTH = 1.2

#: So many outcomes of a kind are made ready, all as likely as each other.
_OUTCOMES = 1000
_ATTEMPTS_MAX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastInput:
    """What is known of a plan.

    Attributes:
        standings: of the leaves, by key; None = what the marks of the file say.
        agent_types: of the leaves, by key; what has none is judged by its task type alone.
    """

    order: Order
    standings: Mapping[str, Standing] | None = None
    agent_types: Mapping[str, str]
    history: History


def forecast(given: ForecastInput, *, width: int = 0, samples: int = 0, seed: int = 0) -> ForecastView:
    """Forecast what is left of a plan.

    Args:
        width: how many sessions run at once; 0 = as many as are recommended.
        samples: how often the plan is worked through; 0 = 200, fewer if the plan is very large.
        seed: the same seed and plan give the same forecast.

    Raises:
        PlanError: width or samples are out of bounds.
    """
    if not (0 <= width <= WIDTH_MAX and 0 <= samples <= SAMPLES_MAX):
        raise PlanError(
            f"A forecast of {samples} samples for {width} sessions is out of bounds.",
            remedy=f"Use up to {SAMPLES_MAX} samples and {WIDTH_MAX} sessions; 0 leaves it to the forecast.",
        )
    simulation = _Simulation(given, seed=seed)
    size = max(1, simulation.size)
    samples = samples or min(SAMPLES, max(_SAMPLES_MIN, _ENDS // size))
    widths = simulation.widths(width)
    draws = [simulation.draw() for _ in range(samples)]
    compared = draws[: max(1, _ENDS_COMPARED // (size * len(widths)))]
    ends_s = {each: simulation.ends_s(compared, each) for each in widths}
    recommended, advice = _recommend(ends_s, is_held_up_by_files=simulation.is_held_up_by_files)
    chosen = width or recommended
    return ForecastView(
        width=chosen,
        samples=samples,
        seed=seed,
        tasks=simulation.size,
        work_s=simulation.analysis.work_ms / 1000,
        critical_path_s=simulation.analysis.critical_path_ms / 1000,
        finish_s=_range(simulation.ends_s(draws, chosen)),
        cost_micros=None if simulation.unpriced else _range([draw.cost_micros for draw in draws]),
        unpriced=simulation.unpriced,
        widths=tuple(_width_view(each, ends, alone=ends_s[1]) for each, ends in ends_s.items()),
        recommended_width=recommended,
        advice=advice,
        touching=simulation.touching,
        attempts_known=given.history.attempts,
    )


@dataclass(frozen=True, slots=True)
class _Draw:
    """One way that the plan may go. `durations_ms` are in the order of the list."""

    durations_ms: list[float]
    cost_micros: float


class _Simulation:
    """What is left of a plan, as a list of tasks in the order of the dispatcher.

    Attributes:
        size: how many tasks are left.
        touching: how many tasks wait for another one only because both touch the same files, each counted.
        unpriced: how many tasks are of a kind whose cost no attempt has told.
    """

    def __init__(self, given: ForecastInput, *, seed: int) -> None:
        order = given.order
        self.analysis = Analysis(order, given.standings)
        self._dice = random.Random(seed)  # noqa: S311  a forecast is to be repeatable
        is_open = self.analysis.slack_ms().keys()
        longest_ms = self.analysis.downstream_ms()
        in_sequence = [n for n in order.sequence if order.tasks[n].key in is_open]
        leaves = sorted(
            in_sequence, key=lambda n: (order.tasks[n].priority, -longest_ms[order.tasks[n].key], n)
        )
        place = {n: rank for rank, n in enumerate(leaves)}
        self._tasks = [order.tasks[n] for n in leaves]
        self.size = len(leaves)
        touches = touching_edges([order.tasks[n].touches for n in in_sequence])
        kept_apart = {(place[in_sequence[first]], place[in_sequence[then]]) for first, then in touches}
        edges = _edges(order, place)
        self.touching = len(kept_apart - edges)
        self._list = TaskList(tasks=self.size, joins=len(place) - self.size, edges=edges | kept_apart)
        self._widest = max(map(len, self.analysis.waves()), default=1)
        self._estimates_ms = list(map(estimate_ms, self._tasks))
        beliefs = [given.history.belief(_kind(task, given.agent_types)) for task in self._tasks]
        self.unpriced = sum(belief.cost_micros is None for belief in beliefs)
        limits = [_attempts_max(task) for task in self._tasks]
        ready_made = {
            each: _outcomes(*each, dice=self._dice)
            for each in dict.fromkeys(zip(beliefs, limits, strict=True))
        }
        self._outcomes = [ready_made[each] for each in zip(beliefs, limits, strict=True)]

    @property
    def is_held_up_by_files(self) -> bool:
        """Whether only the files keep sessions from working side by side."""
        is_wide = self.analysis.work_ms >= _WORTH * self.analysis.critical_path_ms
        return is_wide and self.touching > 0

    def widths(self, wanted: int) -> list[int]:
        """The widths to compare: up to the widest wave, and the wanted one."""
        widest = min(self._widest, WIDTH_MAX)
        return sorted({1, *(width for width in _WIDTHS if width < widest), widest, wanted or 1})

    def draw(self) -> _Draw:
        """Draw durations and costs."""
        nth = self._dice.choices(range(_OUTCOMES), k=self.size)
        drawn = [outcomes[n] for outcomes, n in zip(self._outcomes, nth, strict=True)]
        estimates = zip(self._estimates_ms, drawn, strict=True)
        return _Draw(
            [estimate * factor for estimate, (factor, _) in estimates], sum(cost for _, cost in drawn)
        )

    def ends_s(self, draws: Sequence[_Draw], width: int) -> list[float]:
        """When the plan is done in each draw, in seconds from now."""
        return [self._list.makespan(draw.durations_ms, width) / 1000 for draw in draws]


def _edges(order: Order, place: dict[int, int]) -> set[tuple[int, int]]:
    """The edges between what is left, by the places of the list; open containers get places behind it."""
    for n in list(place):
        container = order.parent[n]
        while container >= 0 and container not in place:
            place[container] = len(place)
            container = order.parent[container]
    return {(place[first], place[then]) for first in place for then in order.after[first] if then in place}


def _kind(task: PlanTask, agent_types: Mapping[str, str]) -> Kind:
    return Kind(agent_types.get(task.key, ""), task.task_type, is_command=bool(task.run))


def _attempts_max(task: PlanTask) -> int:
    return int(task.options.get("attempts", _ATTEMPTS_MAX))


def _outcomes(belief: Belief, attempts_max: int, *, dice: random.Random) -> list[tuple[float, float]]:
    """Pairs `(duration / estimate, cost in micros)`, each as likely as the others, in no order."""
    normal = NormalDist()
    evenly = [(n + 0.5) / _OUTCOMES for n in range(_OUTCOMES)]
    found = []
    for share, other in zip(evenly, dice.sample(evenly, k=_OUTCOMES), strict=True):
        z = normal.inv_cdf(share)
        until_success = ceil(log(1 - other) / log(1 - belief.success)) if belief.success < 1 else 1
        attempts = max(1, min(until_success, attempts_max))
        cost = (belief.cost_micros or 0.0) * attempts * exp(belief.sigma * z - belief.sigma**2 / 2)
        found.append((attempts * exp(belief.mu + belief.sigma * z), cost))
    return found


def _recommend(ends_s: Mapping[int, Sequence[float]], *, is_held_up_by_files: bool) -> tuple[int, str]:
    """The least width that is close to the best, and what to tell people."""
    middle_s = {width: _quantile(ends, 0.5) for width, ends in ends_s.items()}
    best_s = min(middle_s.values())
    width = next(width for width, end_s in middle_s.items() if end_s <= _CLOSE * best_s)
    if not best_s:
        return 1, "Nothing is left to do."
    gain = middle_s[1] / middle_s[width]
    if gain >= _WORTH:
        return (
            width,
            f"{width} sessions are {gain:.1f} times as fast as one; more of them gain less than 5 %.",
        )
    why = "its tasks touch the same files" if is_held_up_by_files else "its tasks wait for each other"
    most = f"{max(middle_s)} sessions are {middle_s[1] / best_s:.1f} times as fast as one"
    return 1, f"Do not parallelise: {why}, and {most}."


def _width_view(width: int, ends_s: Sequence[float], *, alone: Sequence[float]) -> WidthView:
    finish_s = _range(ends_s)
    speed_up = _quantile(alone, 0.5) / finish_s.p50 if finish_s.p50 else 1.0
    return WidthView(width=width, finish_s=finish_s, speed_up=speed_up)


def _range(values: Sequence[float]) -> RangeView:
    return RangeView(p50=_quantile(values, 0.5), p90=_quantile(values, 0.9))


def _quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all are below, on the line between its neighbours."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
