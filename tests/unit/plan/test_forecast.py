"""When a plan will be done, what it will cost, and how many sessions are worth it."""

from __future__ import annotations

from math import exp, log
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.analysis_views import ForecastView
from orchestrator.errors import PlanError
from orchestrator.plan.forecast import ForecastInput, forecast
from orchestrator.plan.history import CREDIBILITY_K, SIGMA_FIRST, Belief, History, Kind, PastAttempts
from orchestrator.plan.list_scheduling import TaskList, touching_edges
from orchestrator.plan.order import Order
from orchestrator.plan.read import read_plan

MODEL = Kind("backend-development", "implement", is_command=False)


def _past(kind: Kind = MODEL, **changed: float) -> PastAttempts:
    said = {
        "attempts": 1000,
        "successes": 1000,
        "log_factor": 0.0,
        "log_factor_variance": 0.04,
        "cost_micros": 1.0,
    }
    return PastAttempts(kind=kind, **(said | changed))  # type: ignore[arg-type]


def _forecast(
    text: str, *past: PastAttempts, width: int = 0, samples: int = 0, seed: int = 0
) -> ForecastView:
    plan = read_plan(text)
    order = Order(plan.tasks, plan.dependencies)
    agent_types = {task.key: "backend-development" for task in plan.tasks}
    return forecast(
        ForecastInput(order=order, agent_types=agent_types, history=History(past)),
        width=width,
        samples=samples,
        seed=seed,
    )


def _tasks(count: int, line: str = "") -> str:
    return "".join(f"- [ ] T1.{n} Implement part {n} (1h)\n{line}" for n in range(1, count + 1))


def _chain(count: int) -> str:
    return "".join(
        f"- [ ] T1.{n} Implement part {n} (1h){f' (depends on T1.{n - 1})' if n > 1 else ''}\n"
        for n in range(1, count + 1)
    )


# --- the list


def test_the_first_ready_task_of_the_list_starts() -> None:
    tasks = TaskList(tasks=4, joins=0, edges=[(0, 3)])
    assert tasks.makespan([2, 3, 1, 2], 1) == 8
    assert tasks.makespan([2, 3, 1, 2], 2) == 5  # 0 and 1; at 2 both 2 and 3 are ready, and 2 is first
    assert tasks.makespan([2, 3, 1, 2], 4) == 4


def test_a_container_ends_with_the_last_in_it() -> None:
    tasks = TaskList(tasks=3, joins=2, edges=[(0, 3), (1, 3), (3, 4), (4, 2)])
    assert tasks.makespan([1, 5, 1], 3) == 6


@given(st.integers(1, 12), st.integers(1, 5), st.randoms(use_true_random=False))
def test_no_list_beats_the_bounds_of_graham(tasks: int, width: int, dice: Random) -> None:
    edges = [(a, b) for b in range(tasks) for a in range(b) if dice.random() < 0.3]
    duration = [dice.randrange(1, 9) for _ in range(tasks)]
    longest = [0] * tasks
    for n in range(tasks):
        longest[n] = duration[n] + max((longest[a] for a, b in edges if b == n), default=0)
    end = TaskList(tasks=tasks, joins=0, edges=edges).makespan(duration, width)
    least = max(*longest, sum(duration) / width)
    assert least <= end <= sum(duration) / width + (1 - 1 / width) * max(longest) + 1e-9


def test_tasks_that_touch_the_same_files_follow_each_other() -> None:
    touches = [
        ["src/a/**"],
        ["src/b/x.py"],
        ["src/a/y.py", "docs/"],
        ["src/**"],
        ["src/b/x.py"],
        ["setup.py"],
    ]
    assert list(touching_edges(touches)) == [(0, 2), (0, 3), (1, 3), (2, 3), (3, 4)]
    assert list(touching_edges([["**/*.py"], ["src/a.py"], ["docs/b.md"]])) == [(0, 1), (0, 2)]
    assert list(touching_edges([["src/a.py"], ["src/a.py.orig"], ["./src//a.py"]])) == [(0, 2)]


# --- the history


def test_before_any_attempt_the_estimate_is_believed() -> None:
    assert History().belief(MODEL) == Belief()
    assert History().belief(MODEL._replace(is_command=True)).cost_micros == 0


def test_few_attempts_are_believed_little_and_many_wholly() -> None:
    def mu(count: int) -> float:
        return History([_past(attempts=count, successes=count, log_factor=log(0.1))]).belief(MODEL).mu

    trust = 1 / (1 + CREDIBILITY_K)  # once as what all sessions say, once more as what this kind says
    assert mu(1) == pytest.approx(log(0.1) * (trust + (1 - trust) * trust))
    assert mu(100_000) == pytest.approx(log(0.1), rel=0.001)
    failed = History([_past(attempts=1000, successes=1, log_factor=log(0.1))])
    assert failed.belief(MODEL).mu == mu(1)  # what failed says nothing about how long success takes


def test_what_all_sessions_say_holds_for_kinds_that_were_never_seen() -> None:
    other = Kind("testing-specialist", "test", is_command=False)
    history = History([_past(log_factor=log(0.5), cost_micros=300.0)])
    assert history.belief(other).mu == pytest.approx(log(0.5), rel=0.01)
    assert history.belief(other).cost_micros == 300
    assert history.belief(other._replace(is_command=True)).mu == 0


def test_spread_and_success_move_from_what_was_believed_to_what_was_seen() -> None:
    few = History([_past(attempts=2, successes=1)]).belief(MODEL)
    many = History([_past(attempts=1000, successes=500)]).belief(MODEL)
    assert few.sigma == pytest.approx(SIGMA_FIRST)
    assert many.sigma == pytest.approx(0.2, rel=0.05)
    assert 0.5 < many.success < 0.51 < few.success < 0.9


# --- the forecast


def test_the_same_seed_gives_the_same_forecast() -> None:
    assert _forecast(_tasks(9), seed=4) == _forecast(_tasks(9), seed=4)
    assert _forecast(_tasks(9), seed=4) != _forecast(_tasks(9), seed=5)


def test_one_task_is_as_its_lognormal_says() -> None:
    found = _forecast("- [ ] T1.1 Implement it (1h)\n", _past(log_factor=log(0.5)), samples=10_000)
    mu, sigma = 3600 * 0.5, 0.2
    assert found.finish_s.p50 == pytest.approx(mu, rel=0.03)
    assert found.finish_s.p90 == pytest.approx(mu * exp(1.2816 * sigma), rel=0.03)
    assert found.cost_micros is not None


def test_what_fails_is_tried_again_and_paid_again() -> None:
    half = _past(attempts=100_000, successes=50_000, log_factor_variance=0.0, cost_micros=1000.0)
    found = _forecast(_tasks(200), half, width=1, samples=400)
    attempts = 1 + 0.5 + 0.25  # three at most
    assert found.finish_s.p50 == pytest.approx(200 * 3600 * attempts, rel=0.02)
    assert found.cost_micros is not None
    assert found.cost_micros.p50 == pytest.approx(200 * 1000 * attempts, rel=0.02)
    assert found.cost_micros.p50 < found.cost_micros.p90


def test_costs_are_untold_until_an_attempt_tells_one() -> None:
    assert _forecast(_tasks(3)).cost_micros is None
    assert _forecast(_tasks(3)).unpriced == 3
    commands = _forecast(_tasks(3, "  - run: `true`\n"))
    assert commands.cost_micros is not None
    assert (commands.cost_micros.p90, commands.unpriced) == (0, 0)


def test_the_least_width_that_is_close_to_the_best_is_recommended() -> None:
    wide = _forecast(_tasks(40), _past())
    assert 8 <= wide.recommended_width <= 40
    speed_ups = [each.speed_up for each in wide.widths]
    assert speed_ups == sorted(speed_ups)
    assert speed_ups[0] == 1
    assert wide.width == wide.recommended_width
    assert _forecast(_tasks(40), _past(), width=2).width == 2


def test_what_follows_each_other_is_not_worth_parallelising() -> None:
    found = _forecast(_chain(6) + "- [ ] T2.1 Implement beside it (6 min)\n", _past())
    assert found.recommended_width == 1
    assert found.advice.startswith("Do not parallelise: its tasks wait for each other")


def test_what_touches_the_same_files_is_not_worth_parallelising() -> None:
    found = _forecast(_tasks(6, "  - touches: `src/app.py`\n"), _past())
    assert (found.recommended_width, found.touching) == (1, 5)
    assert found.advice.startswith("Do not parallelise: its tasks touch the same files")


def test_a_plan_that_is_done_needs_nothing_more() -> None:
    found = _forecast("- [x] T1.1 Implement it (1h)\n")
    assert (found.tasks, found.finish_s.p90, found.recommended_width) == (0, 0, 1)
    assert found.advice == "Nothing is left to do."


@pytest.mark.parametrize(("width", "samples"), [(-1, 0), (1001, 0), (0, -1), (0, 10_001)])
def test_out_of_bounds(width: int, samples: int) -> None:
    with pytest.raises(PlanError, match="out of bounds"):
        _forecast(_tasks(1), width=width, samples=samples)
