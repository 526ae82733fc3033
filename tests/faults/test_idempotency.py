"""One key, one effect, one answer: for fifty at once, over lost answers and over a killed service."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from tests.support.commit_proxy import CommitProxy, Fate, commit_proxy
from tests.support.own_server import own_server
from tests.support.rows import Rows
from tests.support.service_process import Answer, ServiceProcess, service_process

pytestmark = [pytest.mark.postgres, pytest.mark.faults, pytest.mark.timeout(600)]

AT_ONCE = 50

#: Nothing in it starts by itself.
PLAN = """\
# Nothing happens

- [ ] **A.1** Ask somebody
  - manual: ask
- [ ] **A.2** Tell it
  - depends: A.1
- [ ] **A.3** Tell it again
  - depends: A.1
"""


class Bench:
    """A service whose front end and scheduler reach the database through a proxy each."""

    def __init__(self, service: ServiceProcess, front: CommitProxy, writer: CommitProxy, rows: Rows) -> None:
        self.service = service
        self.front = front
        self.writer = writer
        self.rows = rows

    def post(self, name: str, *, key: str, text: str = PLAN) -> Answer:
        """Hand in a plan."""
        return self.service.ask("POST", "/api/v1/plans", {"text": text, "name": name}, key=key)

    def change(self, what: str, task_id: int, *, key: str, reason: str = "") -> Answer:
        """Ask for a change of a task."""
        return self.service.ask("POST", f"/api/v1/tasks/{task_id}/{what}", {"reason": reason}, key=key)

    def plans(self, name: str) -> list[int]:
        """Return the ids of the plans of that name."""
        return self.rows.column("SELECT id FROM plans WHERE name = %s", name)

    def tasks(self, name: str) -> list[int]:
        """Hand in a plan and return the ids of its tasks, once the scheduler has taken it."""
        plan_id = self.post(name, key="").body["plan_id"]
        while self.service.ask("GET", f"/api/v1/plans/{plan_id}").body["state"] == "submitted":
            time.sleep(0.05)
        return self.rows.column("SELECT id FROM tasks WHERE plan_id = %s ORDER BY id", plan_id)

    def happened(self, task_id: int) -> Counter[str]:
        """Count the events about a task by type."""
        return Counter(self.rows.column("SELECT type FROM events WHERE task_id = %s", task_id))

    def crash_before_answering(self, proxy: CommitProxy, words: bytes, ask: Any) -> None:
        """Have the service killed when it has committed a transaction with these words, but told nobody."""
        proxy.held.clear()
        proxy.next_words, proxy.next_fate = words, Fate.HELD
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(ask)
            assert proxy.held.wait(120), f"no such commit: {self.service.told()}"
            self.service.kill()
            assert isinstance(asked.exception(120), OSError), "it was answered"
        self.service.start()


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with ExitStack() as stack:
        server = stack.enter_context(own_server())
        front = stack.enter_context(commit_proxy(server.urls.api))
        writer = stack.enter_context(commit_proxy(server.urls.direct))
        urls = replace(
            server.urls, api=front.through(server.urls.api), direct=writer.through(server.urls.direct)
        )
        service = stack.enter_context(service_process(server, urls=urls))
        yield Bench(service, front, writer, Rows(server.urls))


def test_fifty_posts_with_one_key_make_one_plan(bench: Bench) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda _: bench.post("fifty", key="k-fifty"), range(AT_ONCE)))
    assert {answer.status for answer in answers} == {202}
    assert [answer.body for answer in answers] == [answers[0].body] * AT_ONCE
    assert bench.plans("fifty") == [answers[0].body["plan_id"]]


def test_a_key_is_refused_for_another_plan(bench: Bench) -> None:
    first = bench.post("first", key="k-first")
    other = bench.post("other", key="k-first")
    assert (first.status, other.status) == (202, 409)
    assert "k-first" in other.body["detail"]
    assert "new key" in other.body["remedy"]
    assert bench.plans("other") == []


@pytest.mark.parametrize("fate", [Fate.BEFORE, Fate.AFTER])
def test_a_post_whose_commit_was_cut_is_refused_and_then_taken_once(bench: Bench, fate: Fate) -> None:
    name, key = f"cut {fate}", f"k-cut-{fate}"
    bench.front.next_words, bench.front.next_fate = b"INSERT INTO plans", fate
    cut = bench.post(name, key=key)
    assert cut.status == 503
    assert cut.retry_after
    assert len(bench.plans(name)) == (fate is Fate.AFTER)
    again = bench.post(name, key=key)
    assert again.status == 202
    assert again.body["is_new"]
    assert bench.plans(name) == [again.body["plan_id"]]


def test_a_post_is_answered_after_a_crash_as_it_would_have_been(bench: Bench) -> None:
    bench.crash_before_answering(
        bench.front, b"INSERT INTO plans", lambda: bench.post("crash", key="k-crash")
    )
    (stored,) = bench.plans("crash")
    again = bench.post("crash", key="k-crash")
    assert again.status == 202
    assert (again.body["plan_id"], again.body["is_new"]) == (stored, True)
    assert bench.post("crash 2", key="k-crash").status == 409
    assert bench.plans("crash") == [stored]


def test_a_change_is_answered_alike_after_a_restart_and_carried_out_once(bench: Bench) -> None:
    _, second, third = bench.tasks("changed")
    first = bench.change("cancel", second, key="k-cancel")
    assert first.status == 200
    assert bench.change("retry", second, key="k-retry").status == 200
    bench.service.kill()
    bench.service.start()
    assert bench.change("cancel", second, key="k-cancel") == first
    assert bench.change("cancel", third, key="k-cancel").status == 409
    assert bench.happened(second)["task.cancelled"] == 1
    assert bench.happened(third)["task.cancelled"] == 0
    assert bench.service.ask("GET", f"/api/v1/tasks/{second}").body["state"] == "waiting"


def test_a_change_is_carried_out_once_over_a_crash_before_its_answer(bench: Bench) -> None:
    _, second, third = bench.tasks("crashed")
    bench.crash_before_answering(
        bench.writer, b"task.cancelled", lambda: bench.change("cancel", second, key="k-crashed")
    )
    assert bench.happened(second)["task.cancelled"] == 1
    again = bench.change("cancel", second, key="k-crashed")
    assert again.status == 200
    assert again.body == bench.change("cancel", third, key="k-same").body
    assert bench.happened(second)["task.cancelled"] == 1
