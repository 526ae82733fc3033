"""Real sessions, the real core and a bill that the service keeps: whatever answers cost, whoever fails or is
lost, no budget is exceeded by more than the last answer of each session."""

from __future__ import annotations

import asyncio
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core import events as e
from orchestrator.core.commands import LeaseAttempt
from orchestrator.core.limits import Limits
from orchestrator.core.state import Policy
from orchestrator.core.task import TaskRules
from orchestrator.ports import Backend, Usage
from orchestrator.sessions.config import SessionConfig
from orchestrator.sessions.pricing import cost_micros
from orchestrator.sessions.registry import Provider, make_backends
from orchestrator.settings import ANTHROPIC
from orchestrator.workspace.launcher import ProcessLauncher
from tests.support.core import PLAN, World, spec
from tests.support.journals import MemoryJournals
from tests.support.messages_api import API_KEY, Block, MessagesApi, Reply, Request, call, done, text
from tests.support.notes import MemoryNoteBook
from tests.support.sessions import MODEL, PRICES, Recorder, assignment, workspace

#: About what an answer costs, and what budgets are: some answers are dearer than a reservation.
ANSWERS_MICROS = (500, 15_000)
CAP, BUDGETS = 80_000, (100_000, 300_000, 600_000, 0)
TASKS, SESSIONS = 4, 6

#: How many sessions are lost.
LOST = 0.15


class Bill(MessagesApi):
    """Answers as the dice of a session fall, and keeps what each answer costs."""

    def __init__(self, seed: int) -> None:
        super().__init__(self._answer)
        self._seed = seed
        self._lock = threading.Lock()
        self.spent: Counter[int] = Counter()  #: by token
        self.last: Counter[int] = Counter()

    def _answer(self, request: Request) -> Reply:
        dice = random.Random(f"{self._seed} {_token_of(request.body)} {request.turn}")
        words = text("x" * (dice.randint(*ANSWERS_MICROS) // 10 * 4))
        match dice.randint(0, 7):
            case 0:
                return Reply([words, done()])
            case 1:
                return Reply([words], stop_reason="refusal")
        return Reply([words, call("glob", pattern="*")])

    def usage(self, body: dict[str, Any], content: Sequence[Block]) -> dict[str, int]:
        """Count as the service does, for the session that asks."""
        found = super().usage(body, content)
        used = Usage(
            input_tokens=found["input_tokens"],
            output_tokens=found["output_tokens"],
            cache_read_tokens=found["cache_read_input_tokens"],
            cache_write_tokens=found["cache_creation_input_tokens"],
        )
        micros = cost_micros(PRICES[MODEL], used)
        with self._lock:
            self.spent[_token_of(body)] += micros
            self.last[_token_of(body)] = micros
        return found


def _token_of(body: dict[str, Any]) -> int:
    found = re.search(r"session (\d+)", str(body["messages"][0]))
    assert found is not None
    return int(found[1])


class Spenders:
    """A world whose attempts are real sessions, some of which are lost."""

    def __init__(self, world: World, backend: Backend, folder: Path, dice: random.Random) -> None:
        self.world = world
        self.leases: dict[int, LeaseAttempt] = {}
        self._backend = backend
        self._folder = folder
        self._dice = dice
        self._seen = 0

    async def run(self, check: Callable[[], None]) -> None:
        """Run until nothing is live any more."""
        running: set[asyncio.Task[None]] = set()
        while True:
            running |= {asyncio.create_task(self._session(lease)) for lease in self._new()}
            if not running:
                return
            ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for session in ended:
                session.result()
            self.world.wait(60_000)  # past every back-off
            check()

    def _new(self) -> list[LeaseAttempt]:
        commands, self._seen = self.world.commands[self._seen :], len(self.world.commands)
        found = [command for command in commands if isinstance(command, LeaseAttempt)]
        self.leases |= {lease.token: lease for lease in found}
        return found

    async def _session(self, lease: LeaseAttempt) -> None:
        self.world.handle(e.AttemptStarted(token=lease.token))
        given = assignment(
            backend="anthropic",
            token=lease.token,
            title=f"Be session {lease.token}",
            limits={
                "cost_micros_max": lease.reserved_micros, "total_timeout_s": 240, "idle_timeout_s": 240
            },
        )  # fmt: skip
        running = asyncio.create_task(self._backend.run(given, workspace(self._folder), Recorder()))
        if self._dice.random() < LOST:
            await asyncio.wait({running}, timeout=self._dice.uniform(0.0, 0.2))
            running.cancel()
            await asyncio.wait({running})
            self.world.handle(e.AttemptLost(token=lease.token, reason="executor lost"))
            return
        outcome = await running
        self.world.handle(
            e.AttemptEnded(
                token=lease.token,
                state=outcome.state,
                failure_class=outcome.failure_class,
                summary=outcome.summary,
                cost_micros=outcome.usage.cost_micros,
            )
        )


@pytest.mark.parametrize("seed", range(8))
async def test_no_budget_is_exceeded_by_more_than_the_last_answer_of_each_session(
    tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed)
    plans, (own, tenant, day) = dice.choices(BUDGETS, k=2), dice.choices(BUDGETS, k=3)
    world = World(policy=Policy(backoff_ms=(0,), attempt_cost_micros=CAP, losses_max=9, breaker_failures=0))
    limits = Limits(sessions_max=SESSIONS, tenant_budget_micros=tenant, day_budget_micros=day)
    world.handle(e.LimitsSet(limits=limits))
    world.join("a", slots=SESSIONS)
    with Bill(seed) as api:
        config = SessionConfig(
            api_key=API_KEY, base_url=api.base_url, model=MODEL, prices=PRICES, retries_max=0
        )
        backend = make_backends(
            {ANTHROPIC: Provider(config)},
            ProcessLauncher(records=tmp_path / "records"),
            notes=MemoryNoteBook(),
            journals=MemoryJournals(),
        )["anthropic"]
        (tmp_path / "work").mkdir()
        spenders = Spenders(world, backend, tmp_path / "work", dice)
        rules = TaskRules(attempts_max=4, budget_micros=own)
        for number, budget in enumerate(plans, start=1):
            tasks = [spec(10 * number + n, backend="anthropic", rules=rules) for n in range(TASKS)]
            world.load(tasks, plan=replace(PLAN, plan_id=number, budget_micros=budget))

        def within(most: int, which: Callable[[LeaseAttempt], bool]) -> bool:
            tokens = [token for token, lease in spenders.leases.items() if which(lease)]
            return not most or sum(api.spent[t] for t in tokens) <= most + sum(api.last[t] for t in tokens)

        def check() -> None:
            assert within(tenant, lambda _: True)
            assert within(day, lambda _: True)
            for number, budget in enumerate(plans, start=1):
                assert within(budget, lambda lease, plan_id=number: lease.plan_id == plan_id)
            for task_id in {lease.task_id for lease in spenders.leases.values()}:
                assert within(own, lambda lease, of=task_id: lease.task_id == of)

        await spenders.run(check)
    print(f"seed {seed}: {len(spenders.leases)} sessions spent ${sum(api.spent.values()) / 1e6:.2f}")
    assert spenders.leases
