"""The real actors on a real Ray and PostgreSQL: plans end, whoever is killed on the way.

One stack serves the whole module; every test brings its own plan and its own agent types. The last test
stops the executors and drains the scheduler.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.store.embedded import purge
from tests.support.actor_stack import ActorStack, actor_stack
from tests.support.host import wait_until
from tests.support.postgres import private_home
from tests.support.repositories import git, new_repository
from tests.support.rows import Rows

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.timeout(600)]

#: Runs until there is a file `go`; says who it is first.
WAITING = "echo $$ >> pids; while [ ! -e go ]; do sleep 0.05; done"

#: The first attempt never ends by itself, the second at once.
STUCK_ONCE = "echo $$ >> pids; test $ORCHESTRATOR_ATTEMPT -gt 1 || sleep 300"


@pytest.fixture(scope="module")
def stack() -> Iterator[ActorStack]:
    home = private_home()
    try:
        with actor_stack(home) as running:
            yield running
    finally:
        left = _processes_naming(str(home))
        purge(home)
        shutil.rmtree(home, ignore_errors=True)
    assert left == []


@pytest.fixture
def rows(stack: ActorStack) -> Rows:
    return Rows(stack.urls)


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    for folder in (tmp_path.parent.parent, tmp_path.parent, tmp_path):
        folder.chmod(0o755)
    return tmp_path


def _processes_naming(text: str) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(f"{folder.name}: {line}")
    return found


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _until(is_so: Callable[[], bool]) -> None:
    """Wait for what happens in other processes, on a machine with other work."""
    wait_until(is_so, timeout_s=120.0, what="what the test waits for next")


def _plan(*tasks: tuple[str, str]) -> str:
    """Return a plan of (agent type, line) tasks that do not depend on each other."""
    lines = [
        f"- [ ] **T.{n}** Task {n}\n  - agent: {agent}\n  - {line}\n"
        for n, (agent, line) in enumerate(tasks, 1)
    ]
    return "# Plan\n\n" + "".join(lines)


def _state(rows: Rows, plan_id: int) -> str:
    return str(rows.column("SELECT state FROM plans WHERE id = %s", plan_id)[0])


def _attempts(rows: Rows, plan_id: int) -> list[tuple[int, str, str]]:
    """Return (number, state, end reason) of the attempts of a plan, by task."""
    found = rows.all(
        "SELECT number, state, end_reason FROM attempts WHERE plan_id = %s ORDER BY task_id, number", plan_id
    )
    return [(row["number"], row["state"], row["end_reason"]) for row in found]


def _started(rows: Rows, plan_id: int, count: int) -> Callable[[], bool]:
    query = "SELECT count(*) FROM attempts WHERE plan_id = %s AND state = 'started'"
    return lambda: rows.column(query, plan_id) == [count]


def _pids(workdir: Path) -> list[int]:
    """Return the pids that the sessions of a plan have told."""
    told = workdir / "pids"
    return [int(line) for line in told.read_text().split()] if told.exists() else []


def _kill(stack: ActorStack, actor: str) -> int:
    """Kill the process of an actor without warning."""
    pid = int(stack.do("call", actor, "ping")["pid"])
    os.kill(pid, signal.SIGKILL)
    _until(lambda: not _lives(pid))
    return pid


def test_plans_of_several_agent_types_are_done(stack: ActorStack, rows: Rows, workdir: Path) -> None:
    tasks = [(f"agent-{n % 3}", f"run: `echo {n} > out-{n}`") for n in range(9)]
    real = stack.do("submit", _plan(*tasks), "real", str(workdir), "auto")
    pretended = [(f"agent-{n % 3}", "simulate: 100ms") for n in range(9)]
    simulated = stack.do("submit", _plan(*pretended), "simulated", "", "simulated")
    _until(lambda: (_state(rows, real), _state(rows, simulated)) == ("done", "done"))
    assert sorted(path.name for path in workdir.glob("out-*")) == [f"out-{n}" for n in range(9)]
    for plan_id in (real, simulated):
        assert _attempts(rows, plan_id) == [(1, "succeeded", "reported")] * 9


def test_tasks_of_a_repository_build_on_each_other_and_leave_branches(
    stack: ActorStack, rows: Rows, workdir: Path
) -> None:
    origin = new_repository(workdir / "origin")
    text = (
        f"---\nrepository: {origin}\nsetup: touch ready.secret\n---\n# Repository\n\n"
        "- [ ] **T.1** One\n  - agent: cloner\n  - run: `test -e ready.secret; echo 1 > one`\n"
        "  - verify: `test -e one`\n"
        "- [ ] **T.2** Two\n  - agent: cloner\n  - depends: T.1\n  - run: `cat one one > two`\n"
    )
    plan_id = stack.do("submit", text, "repository", "", "auto")
    _until(lambda: _state(rows, plan_id) == "done")
    assert git(origin, "show", "orchestrator/repository/T.2/1:two") == "1\n1"
    assert git(origin, "status", "--porcelain") == ""
    files = "SELECT c.files FROM attempt_commits AS c JOIN attempts AS a USING (token) WHERE a.plan_id = %s"
    assert rows.column(f"{files} ORDER BY token", plan_id) == [[["one", 1, 0]], [["two", 2, 0]]]


def test_every_actor_shows_its_name(stack: ActorStack) -> None:
    alive = {name: rest for name, *rest in stack.do("actors") if rest[-1] == "ALIVE"}
    kinds = {name.partition("-")[0] for name in alive}
    assert kinds == {"scheduler", "pools", "node", "executor"}
    assert alive["scheduler"][0] == "Scheduler()"
    assert alive["pools"][0] == "Pools()"
    for name, (representation, namespace, is_detached, _) in alive.items():
        assert (namespace, is_detached) == ("orchestrator", True)
        if name.startswith("executor-"):
            assert representation == f"Executor({name.removeprefix('executor-')})"


def test_a_refused_request_arrives_as_what_it_is(stack: ActorStack, rows: Rows, workdir: Path) -> None:
    plan_id = stack.do("submit", _plan(("agent-0", "run: `true`")), "refused", str(workdir), "auto")
    _until(lambda: _state(rows, plan_id) == "done")
    (task_id,) = rows.column("SELECT id FROM tasks WHERE plan_id = %s", plan_id)
    with pytest.raises(RuntimeError, match=r"^Conflict: .* is done"):
        stack.do("request", "cancel_task", {"plan_id": plan_id, "task_id": task_id})
    with pytest.raises(RuntimeError, match=r"^NotFound: There is no plan 9999"):
        stack.do("request", "pause_plan", {"plan_id": 9999})


def test_a_killed_executor_loses_its_attempts_and_they_run_again(
    stack: ActorStack, rows: Rows, workdir: Path
) -> None:
    plan_id = stack.do(
        "submit", _plan(*[("mortal", f"run: `{STUCK_ONCE}`")] * 3), "mortal", str(workdir), "auto"
    )
    _until(_started(rows, plan_id, 3))
    _until(lambda: len(_pids(workdir)) == 3)
    (executor,) = set(rows.column("SELECT executor FROM attempts WHERE plan_id = %s", plan_id))
    _kill(stack, executor)
    _until(lambda: _state(rows, plan_id) == "done")
    assert _attempts(rows, plan_id) == [(1, "lost", "executor lost"), (2, "succeeded", "reported")] * 3
    assert [pid for pid in _pids(workdir) if _lives(pid)] == []
    lost = "SELECT max(ended_at) FROM attempts WHERE plan_id = %s AND state = 'lost'"
    again = "SELECT min(leased_at) FROM attempts WHERE plan_id = %s AND number = 2 AND task_id = %s"
    for task_id in rows.column("SELECT id FROM tasks WHERE plan_id = %s", plan_id):
        ended = rows.column(lost + " AND task_id = %s", plan_id, task_id)
        assert ended < rows.column(again, plan_id, task_id)


def test_a_killed_scheduler_comes_back_and_adopts_what_runs(
    stack: ActorStack, rows: Rows, workdir: Path
) -> None:
    plan = (
        _plan(*[("adopted", f"run: `{WAITING}`")] * 3)
        + "- [ ] **T.9** After\n  - depends: T.1\n  - run: `true`\n"
    )
    plan_id = stack.do("submit", plan, "adopted", str(workdir), "auto")
    _until(_started(rows, plan_id, 3))
    _until(lambda: len(_pids(workdir)) == 3)
    (before,) = rows.column("SELECT epoch FROM scheduler_term")
    _kill(stack, "scheduler")
    _until(lambda: rows.column("SELECT epoch FROM scheduler_term") == [before + 1])
    assert [pid for pid in _pids(workdir) if not _lives(pid)] == []
    (workdir / "go").touch()
    _until(lambda: _state(rows, plan_id) == "done")
    assert _attempts(rows, plan_id) == [(1, "succeeded", "reported")] * 4
    assert rows.column("SELECT count(*) FROM events WHERE plan_id = %s AND type = 'plan.taken'", plan_id) == [
        1
    ]


def test_killed_pools_leave_the_executors_alone_and_go_on(
    stack: ActorStack, rows: Rows, workdir: Path
) -> None:
    plan_id = stack.do("submit", _plan(*[("kept", f"run: `{WAITING}`")] * 2), "kept", str(workdir), "auto")
    _until(_started(rows, plan_id, 2))
    executors = [
        name for name, *_, state in stack.do("actors") if state == "ALIVE" and name.startswith("executor-")
    ]
    pids = {name: stack.do("call", name, "ping")["pid"] for name in executors}
    _kill(stack, "pools")
    new = stack.do("submit", _plan(("newcomer", "run: `true`")), "newcomer", str(workdir), "auto")
    _until(lambda: _state(rows, new) == "done")  # they heard of the demand again
    assert {name: stack.do("call", name, "ping")["pid"] for name in executors} == pids
    (workdir / "go").touch()
    _until(lambda: _state(rows, plan_id) == "done")
    assert _attempts(rows, plan_id) == [(1, "succeeded", "reported")] * 2


def test_stopping_and_draining_records_what_ran_and_ends_the_term_for_good(
    stack: ActorStack, rows: Rows, workdir: Path
) -> None:
    plan_id = stack.do(
        "submit", _plan(*[("stopped", f"run: `{WAITING}`")] * 6), "stopped", str(workdir), "auto"
    )
    _until(_started(rows, plan_id, 6))
    stack.do("call", "pools", "stop", 60.0)
    stack.do("call", "scheduler", "drain")
    assert {row[1] for row in _attempts(rows, plan_id)} == {"interrupted"}
    assert [pid for pid in _pids(workdir) if _lives(pid)] == []
    assert set(rows.column("SELECT state FROM task_states WHERE plan_id = %s", plan_id)) == {"ready"}
    (term,) = rows.all("SELECT epoch, is_released FROM scheduler_term")
    assert term["is_released"]
    time.sleep(1.5)  # longer than the pause before a next term
    assert rows.all("SELECT epoch, is_released FROM scheduler_term") == [term]
    assert [
        name for name, *_, state in stack.do("actors") if state == "ALIVE" and name.startswith("executor-")
    ] == []
