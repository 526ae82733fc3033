"""The HTTP client on real sockets: what it sends, how it reads, when it sends again, how it resumes."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest

from orchestrator.client import AsyncClient, Client
from orchestrator.client.transport import Endpoint
from orchestrator.errors import (
    Conflict,
    NotFound,
    OrchestratorError,
    Overloaded,
    PlanError,
    ServerUnavailable,
    Unauthorized,
)
from orchestrator.plan.findings import Code
from orchestrator.views import EventView, SubmitRequest
from tests.support.scripted_http import Answer, Server, json_answer, problem, serving, stream

SUBMITTED = {"plan_id": 7, "name": "p", "is_new": True, "tasks_total": 2, "findings": []}


class Blocking:
    """Drives the asynchronous client like the blocking one, so that each test holds for both."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = self._wait(_made(endpoint))

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: self._wait(getattr(self._client, name)(*args, **kwargs))

    def watch(self, **kwargs: Any) -> Iterator[EventView]:
        events = self._client.watch(**kwargs)
        try:
            while True:
                yield self._wait(anext(events))
        finally:
            self._wait(events.aclose())

    def close(self) -> None:
        self._wait(self._client.close())
        self._loop.close()

    def _wait(self, awaitable: Any) -> Any:
        return self._loop.run_until_complete(awaitable)


async def _made(endpoint: Endpoint) -> AsyncClient:
    return AsyncClient(endpoint)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


@pytest.fixture(params=[Client, Blocking], ids=["blocking", "asynchronous"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Any]:
    made = request.param(Endpoint(url=server.url, token="s3cret", patience_s=0.3))
    yield made
    made.close()


def _event(seq: int) -> dict[str, object]:
    return {
        "seq": seq,
        "plan_id": 7,
        "task_id": 1,
        "task_key": "A.1",
        "token": None,
        "type": "task.done",
        "payload": {},
        "at": "2026-01-01T00:00:00Z",
    }


def test_a_plan_is_handed_in_with_token_and_key(client: Any, server: Server) -> None:
    server.will_answer(json_answer(SUBMITTED, status=202))
    assert client.submit(SubmitRequest(text="# p"), idempotency_key="k1").plan_id == 7
    seen = server.seen[0]
    assert (seen.method, seen.path) == ("POST", "/api/v1/plans")
    assert seen.headers["authorization"] == "Bearer s3cret"
    assert seen.headers["idempotency-key"] == "k1"
    assert json.loads(seen.body)["text"] == "# p"


def test_a_call_that_is_sent_again_keeps_its_idempotency_key(client: Any, server: Server) -> None:
    server.will_answer(problem(503, "Overloaded"), json_answer(SUBMITTED, status=202))
    client.submit(SubmitRequest(text="# p"))
    first, second = (seen.headers["idempotency-key"] for seen in server.seen)
    assert first == second


def test_patience_ends(client: Any, server: Server) -> None:
    server.will_answer(*[problem(503, "Overloaded", detail="The inbox is full.")] * 20)
    with pytest.raises(Overloaded, match="The inbox is full"):
        client.status()
    assert 1 < len(server.seen) < 20


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem(404, "NotFound", detail="There is no plan x."), NotFound),
        (problem(409, "Conflict", detail="The plan is done."), Conflict),
        (problem(401, "Unauthorized", detail="The bearer token is wrong."), Unauthorized),
        (problem(422, "PlanError", detail="A cycle."), PlanError),
        (problem(500, "OrchestratorError", detail="A defect."), OrchestratorError),
        (Answer(status=404, body=b"<html>", content_type="text/html"), NotFound),
        (Answer(status=500, body=b"", content_type="text/plain"), OrchestratorError),
    ],
)
def test_refusals_become_the_errors_of_the_tree(
    client: Any, server: Server, answer: Answer, error: type[OrchestratorError]
) -> None:
    server.will_answer(answer)
    with pytest.raises(OrchestratorError) as raised:
        client.plan("x")
    assert type(raised.value) is error
    if answer.content_type == "application/problem+json":
        assert raised.value.message == json.loads(answer.body)["detail"]


def test_remedy_and_findings_come_through(client: Any, server: Server) -> None:
    finding = asdict(Code.CYCLE.at(3, "A → B → A.", remedy="Remove one.", source="p.md"))
    server.will_answer(problem(422, "PlanError", detail="Refused.", remedy="Mend it.", findings=[finding]))
    with pytest.raises(PlanError) as raised:
        client.submit(SubmitRequest(text="# p"))
    assert raised.value.remedy == "Mend it."
    assert raised.value.findings[0].line == 3


def test_an_answer_of_another_shape_is_told(client: Any, server: Server) -> None:
    server.will_answer(json_answer({"surprise": 1}))
    with pytest.raises(OrchestratorError, match="a shape this client does not know"):
        client.plan("x")


def test_names_are_quoted_in_paths_and_empty_parameters_left_out(client: Any, server: Server) -> None:
    server.will_answer(problem(404, "NotFound"), json_answer({"items": [], "next": ""}))
    with pytest.raises(NotFound):
        client.plan("build/it all?")
    client.tasks(7, after="12")
    assert server.seen[0].path == "/api/v1/plans/build%2Fit%20all%3F"
    assert server.seen[1].path == "/api/v1/plans/7/tasks?after=12&limit=200"


def test_every_page_is_read(client: Any, server: Server) -> None:
    def task(number: int) -> dict[str, object]:
        numbers = dict.fromkeys(
            ("plan_id", "priority", "unmet_dependencies", "attempts_used", "losses", "line"), 1
        )
        texts = dict.fromkeys(("parent_key", "kind", "title", "state", "reason", "agent_type"), "")
        return {"id": number, "key": f"A.{number}", "not_before": None, **numbers, **texts}

    server.will_answer(
        json_answer({"items": [task(1), task(2)], "next": "2"}), json_answer({"items": [task(3)], "next": ""})
    )
    assert [found.key for found in client.all_tasks(7)] == ["A.1", "A.2", "A.3"]
    assert "after=2" in server.seen[1].path


def test_a_stream_goes_on_behind_the_last_event(client: Any, server: Server) -> None:
    server.will_answer(stream(_event(1), _event(2), is_cut=True), stream(_event(3)), stream(_event(4)))
    events = client.watch(plan_id=7)
    assert [event.seq for event in itertools.islice(events, 4)] == [1, 2, 3, 4]
    events.close()
    assert [seen.headers["last-event-id"] for seen in server.seen] == ["0", "2", "3"]
    assert "plan=7" in server.seen[0].path


def test_an_event_that_was_cut_in_two_is_read_again(client: Any, server: Server) -> None:
    whole = stream(_event(1), _event(2))
    cut = Answer(body=whole.body[:-30], content_type=whole.content_type, is_cut=True)
    server.will_answer(cut, stream(_event(2)))
    events = client.watch()
    assert [event.seq for event in itertools.islice(events, 2)] == [1, 2]
    events.close()
    assert server.seen[1].headers["last-event-id"] == "1"


def test_a_stream_waits_while_the_service_is_away(client: Any, server: Server) -> None:
    server.will_answer(problem(503, "Overloaded"), problem(503, "Overloaded"), stream(_event(1)))
    events = client.watch()
    assert next(events).seq == 1
    events.close()


def test_a_stream_that_is_refused_ends(client: Any, server: Server) -> None:
    server.will_answer(problem(404, "NotFound", detail="There is no plan 9."))
    with pytest.raises(NotFound, match="There is no plan 9"):
        next(client.watch(plan_id=9))


def test_an_address_where_nobody_answers_is_told() -> None:
    with serving() as gone:
        url = gone.url
    with (
        Client(Endpoint(url=url, token="", patience_s=0.0)) as client,
        pytest.raises(ServerUnavailable, match=url),
    ):
        client.status()


def test_an_unknown_request_is_refused_before_it_is_sent(client: Any, server: Server) -> None:
    with pytest.raises(OrchestratorError, match="no request 'explode'"):
        client.request("explode", plan_id=1)
    assert not server.seen


def test_a_change_names_its_reason(client: Any, server: Server) -> None:
    server.will_answer(json_answer({"cancelled": 1}))
    assert client.request("cancel_task", task_id=5, reason="not now") == {"cancelled": 1}
    assert server.seen[0].path == "/api/v1/tasks/5/cancel"
    assert json.loads(server.seen[0].body) == {"reason": "not now"}
