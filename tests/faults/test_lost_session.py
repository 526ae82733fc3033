"""SIGKILL of an executor in the middle of a Claude session: its task is done, and each turn is paid once."""

from __future__ import annotations

from collections import Counter

import pytest

from orchestrator.store.crypto import NO_KEYS
from orchestrator.store.journals import PostgresJournals
from tests.support.actor_stack import SETTINGS, actor_stack
from tests.support.history import check_history
from tests.support.host import wait_until
from tests.support.messages_api import API_KEY, MessagesApi, Reply, Request, call, done, text
from tests.support.own_home import own_home
from tests.support.rows import Rows

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.faults, pytest.mark.timeout(900)]

PATIENCE_S = 300.0
TURNS = 6
KILLED_IN = 3

PLAN = """# Six steps

- [ ] **A.1** Take six steps
  - verify: `test "$(tr -d '\\n' < steps)" = 12345`
- [ ] **A.2** Tell of them
  - depends: A.1
"""

#: Kills the executor that it runs on.
KILL = """pid=$$
while ! grep -qs '^ray::Executor' "/proc/$pid/cmdline"; do
    pid=$(awk '/^PPid/ {print $2}' "/proc/$pid/status")
done
kill -9 "$pid"
sleep 300
"""


class Model:
    """Takes a step a turn; in turn KILLED_IN its executor is killed once the step is taken."""

    def __init__(self) -> None:
        self.has_killed = False
        self.asked: Counter[int] = Counter()  #: by turn of the first task

    def __call__(self, request: Request) -> Reply:
        """Answer."""
        if "# Task A.2" in request.task:
            return Reply([done("Told.")])
        turn = request.turn + 1
        self.asked[turn] += 1
        if turn == TURNS:
            return Reply([done("Six steps.")])
        command = f"echo {turn} >> steps\n"
        if turn == KILLED_IN and not self.has_killed:
            self.has_killed = True
            command += KILL
        return Reply([text(f"Step {turn}."), call("bash", command=command)])


async def test_it_goes_on_where_it_stood_and_leaves_no_journal() -> None:
    model = Model()
    with own_home() as home, MessagesApi(model) as api:
        anthropic = {"api_key": API_KEY, "base_url": api.base_url}
        with actor_stack(home, settings={**SETTINGS, "anthropic": anthropic}) as stack:
            rows = Rows(stack.urls)
            (home / "work").mkdir()
            plan_id = stack.do("submit", PLAN, "steps", str(home / "work"), "auto")
            wait_until(
                lambda: rows.column("SELECT state FROM plans WHERE id = %s", plan_id) == ["done"],
                timeout_s=PATIENCE_S,
                what="the plan is done",
            )
            assert api.problems == []
            assert (home / "work" / "steps").read_text().split() == ["1", "2", "3", "4", "5"]
            assert model.asked == dict.fromkeys(range(1, TURNS + 1), 1)
            work = rows.all("SELECT state, requests FROM attempts WHERE kind = 'work' ORDER BY token")
            assert [(row["state"], row["requests"]) for row in work] == [
                ("lost", 0), ("succeeded", TURNS - KILLED_IN), ("succeeded", 1),
            ]  # fmt: skip
            check_history(stack.urls.service)
            journals = PostgresJournals(stack.urls.service, name="journals", keys=NO_KEYS)
            await journals.sweep()
            await journals.close()
            assert rows.column("SELECT count(*) FROM journal_entries") == [0]
