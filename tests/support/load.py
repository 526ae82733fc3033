"""Clients that hand in plans over HTTP without pause and write down what they were told.

They hold every answer against the rules of a service whose database may be away: 2xx, or 503 or 429 with
Retry-After; a request whose fate is unknown is sent again under its idempotency key and answered the same.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.history import Acknowledged, EffectLog, History
from tests.support.service_process import AGENT_TYPE, Answer, ServiceProcess

#: Longest pause before a refused request is sent again, whatever Retry-After says; in seconds.
_PAUSE_MAX_S = 1.0


class Load:
    """So many clients, each of which hands in small plans one after the other.

    Args:
        sleep_max_s: longest session.
        pause_s: between two plans of a client, on average.
        padding: characters that each plan has beside its tasks, as its author may be a talker.
    """

    def __init__(
        self,
        service: ServiceProcess,
        effects: EffectLog,
        *,
        seed: int,
        clients: int = 2,
        sleep_max_s: float = 1.0,
        pause_s: float = 0.5,
        padding: int = 0,
    ) -> None:
        self._service = service
        self._effects = effects
        self._seed = seed
        self._sleep_max_s = sleep_max_s
        self._pause_s = pause_s
        self._padding = padding
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=self._hand_in_plans, args=(client,), name=f"client-{client}")
            for client in range(clients)
        ]
        self.acknowledged: list[Acknowledged] = []
        self.statuses: Counter[int] = Counter()
        self.wrong: list[str] = []  #: answers that break the rules

    def start(self) -> None:
        """Start the clients."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Have every client bring its last plan home."""
        self._is_over.set()
        for thread in self._threads:
            thread.join(180)
            assert not thread.is_alive(), "a client did not get its last plan taken"

    def await_done(self, *, timeout_s: float = 120.0) -> None:
        """Wait until every acknowledged plan is done, for none longer than that."""
        for told in self.acknowledged:
            deadline_s = time.monotonic() + timeout_s
            while (plan := self.ask("GET", f"/api/v1/plans/{told.plan_id}").body).get("state") != "done":
                assert time.monotonic() < deadline_s, f"not done: {plan}\n{self._service.told()}"
                time.sleep(0.2)

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None, *, key: str = "") -> Answer:
        """Send a request and judge its answer."""
        answer = self._service.ask(method, path, body, key=key)
        self.statuses[answer.status] += 1
        is_fine = answer.status in (200, 202) or (answer.status in (429, 503) and answer.retry_after)
        if not is_fine:
            self.wrong.append(f"{method} {path}: {answer}")
        return answer

    def _hand_in_plans(self, client: int) -> None:
        dice = random.Random(f"{self._seed} {client}")
        number = 0
        while not self._is_over.is_set():
            number += 1
            try:
                self._hand_in(f"plan-{client}-{number}", dice)
            except Exception as error:  # noqa: BLE001 - told at the end, by the test's own thread
                self.wrong.append(f"plan-{client}-{number}: {error!r}")
                return
            self._is_over.wait(dice.uniform(0, 2 * self._pause_s))

    def _hand_in(self, name: str, dice: random.Random) -> None:
        """Hand in a plan until it is taken, and once more, because the answer could have been lost."""
        body = {
            "text": self._plan(name, dice),
            "name": name,
            "workdir": str(self._service.home),
            "backend": "command",
        }
        first = self._until_taken(body, key=f"key of {name}", dice=dice)
        self.acknowledged.append(Acknowledged(plan_id=first))
        self.ask("GET", f"/api/v1/plans/{first}")
        if dice.random() < 0.3:
            again = self._until_taken(body, key=f"key of {name}", dice=dice)
            if again != first:
                self.wrong.append(f"{name}: plan {first} under its key, and then plan {again}")

    def _until_taken(self, body: dict[str, Any], *, key: str, dice: random.Random) -> int:
        while True:
            answer = self.ask("POST", "/api/v1/plans", body, key=key)
            if answer.status == 202:
                return int(answer.body["plan_id"])
            if answer.status not in (429, 503):
                raise AssertionError(str(answer))
            time.sleep(min(float(answer.retry_after or 1), _PAUSE_MAX_S) * dice.uniform(0.2, 1))

    def _plan(self, name: str, dice: random.Random) -> str:
        """Return a plan of two to five tasks, some of which need others."""
        padding = dice.randbytes(self._padding // 2).hex()  # hardly to be compressed
        lines = [f"# {name}", "", padding, ""]
        for n in range(1, dice.randint(2, 5) + 1):
            work = self._effects.line(f"sleep {dice.uniform(0, self._sleep_max_s):.2f}")
            lines += [f"- [ ] **{name}.{n}** Task {n}", f"  - agent: {AGENT_TYPE}", f"  - run: `{work}`"]
            if n > 1 and dice.random() < 0.6:
                lines.append(f"  - depends: {name}.{dice.randint(1, n - 1)}")
        return "\n".join(lines) + "\n"


@contextmanager
def load(service: ServiceProcess, effects: EffectLog, **how: Any) -> Iterator[Load]:
    """Clients that work while the block runs; then their last plans are taken, and no answer was wrong."""
    clients = Load(service, effects, **how)
    clients.start()
    try:
        yield clients
    finally:
        clients.stop()
    assert not clients.wrong, f"{len(clients.wrong)} answers are wrong: {clients.wrong[:5]}"


def assert_each_ran_once(history: History) -> None:
    """No attempt was lost or cancelled, none failed, and no task had a second one."""
    assert {attempt.state for attempt in history.attempts.values()} == {"succeeded"}
    assert {attempt.number for attempt in history.attempts.values()} == {1}
