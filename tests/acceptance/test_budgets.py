"""Budgets of a plan, a task, a tenant and a day on a whole stack, and what people see of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from orchestrator.views import TaskDetail
from tests.support.command_line import CommandLine, own_command_line, read_until
from tests.support.host import wait_until
from tests.support.messages_api import API_KEY, MessagesApi, Reply, Request, call, done

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.timeout(900)]

PATIENCE_S = 240.0

#: Turns of a session until it is done; what a turn writes costs, and at most costs in all, in micros.
TURNS, WRITTEN_MICROS, TURN_MICROS = 4, 20_000, 40_000

#: Bears a turn, and the next one that goes beyond it.
SMALL_USD, LARGE_USD = 0.05, 5


class Writer:
    """Writes a file a turn, each dear enough to count, then reports; waits where a turn is not allowed."""

    def __init__(self) -> None:
        self._last, self._changed = TURNS, threading.Condition()

    def allow(self, last: int) -> None:
        """Let sessions go on up to the turn, from 0."""
        with self._changed:
            self._last = last
            self._changed.notify_all()

    def __call__(self, request: Request) -> Reply:
        with self._changed:
            self._changed.wait_for(lambda: request.turn <= self._last, timeout=PATIENCE_S)
        if request.turn == TURNS:
            return Reply([done("Wrote them.")])
        words = "word " * (WRITTEN_MICROS // 10 * 4 // 5)  # $10 for a million tokens of four characters
        return Reply([call("write_file", path=f"part-{request.turn}.txt", content=words)])


@dataclass(frozen=True)
class Stack:
    """A stack whose sessions are paid for."""

    cli: CommandLine
    writer: Writer

    def plan(self, name: str, budget: str = "", own: str = "") -> None:
        """Hand in a plan of one dear task, in a folder of its own, with a budget, or one of the task."""
        head = f"---\nname: {name}\nworkdir: {name}\n{budget}---\n# {name}\n\n- [ ] **A.1** Write much\n"
        self.cli.run("submit", str(self.cli.plan(head + own, f"{name}.md")))

    def task(self, name: str) -> TaskDetail:
        """Return the task of a plan."""
        return self.cli.task("A.1", plan=name)

    def stopped(self, name: str) -> bool:
        """Whether an attempt of the plan was ended by a budget."""
        attempts = self.task(name).attempts
        return bool(attempts) and attempts[-1].failure_class == "budget"

    def parts(self, name: str) -> list[str]:
        """Return what its sessions have written."""
        return sorted(path.name for path in (self.cli.folder / name).glob("part-*"))

    def spent(self) -> int:
        """Return what all plans have spent."""
        return sum(plan["cost_micros"] for plan in self.cli.data("status")["plans"])

    def goes_on(self, name: str, first: str = "failed") -> None:
        """See that the plan is done now, in a further attempt that charges nothing to the first."""
        wait_until(lambda: self.task(name).state == "done", timeout_s=PATIENCE_S, what="it is done")
        task = self.task(name)
        assert [attempt.state for attempt in task.attempts] == [first, "succeeded"]
        assert self.parts(name) == [f"part-{turn}.txt" for turn in range(TURNS)]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    writer = Writer()
    with MessagesApi(writer) as api, own_command_line() as cli:
        found = cli.with_environment(ANTHROPIC_API_KEY=API_KEY, ANTHROPIC_BASE_URL=api.base_url)
        found.run("up")
        yield Stack(found, writer)
        found.run("down")
        found.assert_nothing_is_left()
        assert api.problems == []


def test_a_plan_beyond_its_budget_is_held_keeps_what_it_has_and_goes_on_with_more(stack: Stack) -> None:
    stack.plan("small", f"budget: {SMALL_USD}\n")
    wait_until(lambda: stack.task("small").state == "held", timeout_s=PATIENCE_S, what="it is held")
    task = stack.task("small")
    assert (task.reason, task.attempts_used) == ("budget", 0)
    [attempt] = task.attempts
    assert (attempt.failure_class, attempt.state) == ("budget", "failed")
    assert SMALL_USD * 1e6 <= attempt.cost_micros <= SMALL_USD * 1e6 + TURN_MICROS
    assert "reached its cap of $0.05" in attempt.summary
    assert 0 < len(stack.parts("small")) < TURNS
    told = stack.cli.run("show", "A.1", "--plan", "small")
    assert "`orchestrator budget small USD`" in told
    stack.cli.run("budget", "small", str(LARGE_USD))
    stack.goes_on("small")


def test_a_task_beyond_its_own_budget_is_held_and_goes_on_with_more_for_it_alone(stack: Stack) -> None:
    stack.plan("own", own=f"  - budget: ${SMALL_USD}\n")
    wait_until(lambda: stack.task("own").state == "held", timeout_s=PATIENCE_S, what="it is held")
    assert stack.task("own").reason == "task budget"
    assert "`orchestrator budget own USD --task A.1`" in stack.cli.run("show", "A.1", "--plan", "own")
    stack.cli.run("budget", "own", str(LARGE_USD), "--task", "A.1")
    stack.goes_on("own")


def test_a_lowered_budget_ends_the_session_which_goes_on_where_it_stood_once_there_is_more(
    stack: Stack,
) -> None:
    stack.writer.allow(0)
    stack.plan("lowered")
    with stack.cli.start("logs", "A.1", "--plan", "lowered", "-f") as following:
        read_until(following, "part-0")
        said_s = time.monotonic()
        stack.writer.allow(1)
        read_until(following, "part-1")
        print(f"logs -f tells after {time.monotonic() - said_s:.1f} s")
        assert stack.cli.data("budget", "lowered", str(SMALL_USD / 2))["ending"] == 1
        wait_until(lambda: stack.task("lowered").state == "held", timeout_s=PATIENCE_S, what="it is held")
        task = stack.task("lowered")
        assert (task.reason, [attempt.state for attempt in task.attempts]) == ("budget", ["interrupted"])
        assert 0 < task.attempts[0].cost_micros <= 3 * TURN_MICROS
        stack.writer.allow(TURNS)
        stack.cli.run("budget", "lowered", str(LARGE_USD))
        stack.goes_on("lowered", first="interrupted")
        said, told = following.communicate(timeout=PATIENCE_S)
    assert "part-0" not in said, "it went on where it stood"
    assert "A.1 is held: budget (allow its plan more: `orchestrator budget lowered USD`)" in told


@pytest.mark.parametrize("scope", ["tenant", "day"])
def test_a_budget_that_plans_share_lets_tasks_wait_until_there_is_more(stack: Stack, scope: str) -> None:
    def allow(usd: float) -> None:
        sum_of = f"local={usd:.6f}" if scope == "tenant" else f"{usd:.6f}"
        stack.cli.run("limits", f"--{scope}-budget", sum_of)

    allow(stack.spent() / 1e6 + SMALL_USD)
    stack.plan(scope)
    wait_until(lambda: stack.stopped(scope), timeout_s=PATIENCE_S, what="its session has spent its share")
    wait_until(lambda: stack.task(scope).state == "ready", timeout_s=PATIENCE_S, what="it waits")
    assert stack.task(scope).attempts_used == 0
    assert 0 < len(stack.parts(scope)) < TURNS
    assert f"the budget of the {scope}" in stack.cli.run("show", "A.1", "--plan", scope)
    [budget] = stack.cli.data("status")["status"]["budgets"]
    assert budget["is_short"]
    assert budget["spent_micros"] == stack.spent() <= budget["budget_micros"] + TURN_MICROS
    allow(LARGE_USD)
    stack.goes_on(scope)
    allow(0)
