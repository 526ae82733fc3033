"""SIGKILL of executors in mid-session: no process of theirs survives, and what follows is as promised.

In full everything is run twice: with Ray as it is, and with Ray's own way of ending children switched on,
which makes workers ignore SIGCHLD.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.workspace import tree
from tests.support.actor_stack import ActorStack, actor_stack
from tests.support.extent import only_in_full
from tests.support.history import EffectLog, check_history
from tests.support.host import is_alive, wait_until
from tests.support.own_home import own_home
from tests.support.rows import Rows

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.faults, pytest.mark.timeout(600)]

#: For what takes a second on a machine with nothing else to do.
PATIENCE_S = 90.0

SUBREAPER = "RAY_kill_child_processes_on_worker_exit_with_raylet_subreaper"

#: The first attempt grows a tree that resists: it ignores SIGTERM, has a child in a session of its own and
#: one that has forked twice. The second writes down who of `tree` is still there.
STUBBORN = """\
if [ "$ORCHESTRATOR_ATTEMPT" -gt 1 ]; then
    for pid in $(cat tree); do grep -qs . "/proc/$pid/cmdline" && echo "$pid" >> survivors; done
    exit 0
fi
trap '' TERM
setsid sleep 300 &
(setsid sh -c 'sleep 300 & sleep 300' &) &
sleep 300 &
wait
"""

#: Kills the executor that it runs on.
POISON = """\
pid=$$
while ! grep -qs '^ray::Executor' "/proc/$pid/cmdline"; do
    pid=$(awk '/^PPid/ {print $2}' "/proc/$pid/status")
done
kill -9 "$pid"
sleep 300
"""


@pytest.fixture(
    scope="module",
    params=[pytest.param("0", id="plain"), pytest.param("1", id="subreaper", marks=only_in_full)],
)
def stack(request: pytest.FixtureRequest) -> Iterator[tuple[Path, ActorStack]]:
    """A home and its stack, whose Ray ends the children of its workers itself, or not."""
    with own_home() as folder, actor_stack(folder, environment={SUBREAPER: request.param}) as running:
        yield folder, running


class Work:
    """One task of one plan, run by an agent type of its own in a folder of its own."""

    def __init__(self, home: Path, stack: ActorStack, name: str, script: str) -> None:
        self.folder = home / name
        self.folder.mkdir()
        self.effects = EffectLog(self.folder)
        self._stack = stack
        self._rows = Rows(stack.urls)
        (self.folder / "work.sh").write_text(script)
        plan = f"# {name}\n\n- [ ] **T.1** {name}\n  - agent: {name}\n  - attempts: 1\n"
        plan += f"  - run: `{self.effects.line('sh work.sh')}`\n"
        self.plan_id = stack.do("submit", plan, name, str(self.folder), "auto")

    def attempts(self) -> list[dict[str, object]]:
        """Return the attempts so far."""
        query = "SELECT * FROM attempts WHERE plan_id = %s ORDER BY token"
        return self._rows.all(query, self.plan_id)

    def task(self) -> tuple[str, str]:
        """Return the state of the task and its reason."""
        (row,) = self._rows.all("SELECT state, reason FROM task_states WHERE plan_id = %s", self.plan_id)
        return row["state"], row["reason"]

    def wait(self, state: str) -> None:
        """Wait until the task is so."""
        wait_until(lambda: self.task()[0] == state, timeout_s=PATIENCE_S, what=f"the task is {state}")

    def executor_pid(self) -> int:
        """Return the process of the executor of the last attempt."""
        return int(self._stack.do("call", self.attempts()[-1]["executor"], "ping")["pid"])


def test_no_process_survives_a_killed_executor_and_its_task_runs_again(
    stack: tuple[Path, ActorStack],
) -> None:
    home, running = stack
    work = Work(home, running, "stubborn", STUBBORN)
    wait_until(lambda: bool(work.attempts()), timeout_s=PATIENCE_S, what="there is an attempt")
    token = int(str(work.attempts()[0]["token"]))
    records = home / "records"
    wait_until(lambda: _sleepers(records, token) == 4, timeout_s=PATIENCE_S, what="the tree has grown")
    pids = [process.pid for process in tree.members(records, token)]
    (work.folder / "tree").write_text(" ".join(map(str, pids)))
    os.kill(work.executor_pid(), signal.SIGKILL)
    work.wait("done")
    assert [pid for pid in pids if is_alive(pid)] == []
    assert not (work.folder / "survivors").exists()
    first, second = work.attempts()
    assert (first["state"], first["end_reason"], second["state"]) == ("lost", "executor lost", "succeeded")
    print(f"a tree of {len(pids)}: {check_history(running.urls.service, effects=work.effects).summary}")


def _sleepers(records: Path, token: int) -> int:
    """Count the processes of a tree that have come to their `sleep`."""
    return sum(_is_sleeping(process.pid) for process in tree.members(records, token))


def _is_sleeping(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep\x00300")
    except OSError:
        return False


def test_a_failing_command_is_reported_as_what_it_is(stack: tuple[Path, ActorStack]) -> None:
    home, running = stack
    work = Work(home, running, "failing", "exit 3\n")
    work.wait("failed")
    (attempt,) = work.attempts()
    assert (attempt["state"], attempt["failure_class"], attempt["exit_code"]) == ("failed", "agent", 3)
    check_history(running.urls.service, effects=work.effects)


def test_a_task_that_kills_its_executor_is_held_after_three_losses(stack: tuple[Path, ActorStack]) -> None:
    home, running = stack
    work = Work(home, running, "poison", POISON)
    work.wait("held")
    assert work.task() == ("held", "poison")
    assert [attempt["state"] for attempt in work.attempts()] == ["lost"] * 3
    assert [effect.edge for effect in work.effects.read()] == ["start"] * 3
    print(f"poison: {check_history(running.urls.service, effects=work.effects).summary}")
