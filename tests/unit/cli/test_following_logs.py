"""`logs -f` over a connection that breaks: every piece is told once."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

from orchestrator.cli.following_logs import follow_logs
from orchestrator.client import Client
from orchestrator.client.transport import Endpoint
from orchestrator.views import TaskDetail
from tests.support.scripted_http import Answer, Seen, json_answer, problem, serving

AT = "2026-01-01T12:00:00+00:00"
PIECES = {7: ["a", "b", "c"], 8: ["d"]}  #: what is written in all, by token


def _attempt(token: int, state: str) -> dict[str, Any]:
    return {
        "token": token, "number": token - 6, "kind": "work", "agent_type": "coder", "backend": "command",
        "executor": "e", "state": state, "end_reason": "", "failure_class": None, "summary": "",
        "exit_code": None, "input_tokens": 0, "output_tokens": 0, "cost_micros": 0, "leased_at": AT,
        "started_at": AT, "ended_at": None,
    }  # fmt: skip


def _task(state: str, *attempts: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": 1, "plan_id": 1, "key": "A.1", "parent_key": "", "kind": "leaf", "title": "Do it",
        "state": state, "reason": "", "agent_type": "coder", "priority": 2, "unmet_dependencies": 0,
        "not_before": None, "attempts_used": 0, "losses": 0, "line": 3, "body": "", "acceptance": (),
        "run": (), "verify": (), "manual": "", "approve": "", "estimate_ms": None, "task_type": "",
        "domain": "", "routing_rule": "", "routing_evidence": "", "depends_on": (), "dependents": (),
        "attempts": attempts,
    }  # fmt: skip


class Story:
    """What the server tells, request by request; each third answer about logs is cut or refused."""

    def __init__(self) -> None:
        self.tasks = [
            _task("ready"),
            _task("running", _attempt(7, "started")),
            _task("running", _attempt(7, "lost"), _attempt(8, "started")),
            _task("done", _attempt(7, "lost"), _attempt(8, "succeeded")),
        ]
        self.written = 0
        self.logs = 0

    def answer(self, seen: Seen) -> Answer:
        url = urlsplit(seen.path)
        if not url.path.endswith("/logs"):
            return json_answer(self.tasks.pop(0) if len(self.tasks) > 1 else self.tasks[0])
        self.logs += 1
        if self.logs % 3 == 1:
            return problem(503, "Overloaded") if self.logs % 2 else Answer(body=b'{"items": [', is_cut=True)
        query = {name: int(values[0]) for name, values in parse_qs(url.query).items()}
        self.written += 1
        pieces = PIECES[query["token"]][: self.written]
        found = list(enumerate(pieces, start=1))[query.get("after", 0) :]
        return json_answer(
            {
                "items": [
                    {
                        "token": query["token"], "number": 1, "kind": "work", "seq": seq, "offset_ms": 0,
                        "stream": "stdout", "text": text,
                    }
                    for seq, text in found
                ],
                "next": "",
            }
        )  # fmt: skip


def test_each_piece_is_told_once_though_the_connection_breaks() -> None:
    story, told_of = Story(), list[TaskDetail]()
    with serving(story.answer) as server, Client(Endpoint(url=server.url, token="t")) as client:
        told = [(piece.token, piece.text) for piece in follow_logs(client, 1, on_waiting=told_of.append)]
    early = [text for token, text in told if token == 7]
    assert early == PIECES[7][: len(early)]
    assert [text for token, text in told if token == 8] == PIECES[8]
    assert story.logs > story.written
    assert [task.state for task in told_of] == ["ready", "done"]


def test_a_task_that_waits_is_told_of_once_and_again_when_its_reason_is_another() -> None:
    story, told_of = Story(), list[TaskDetail]()
    held = {"state": "held", "reason": "by request: a freeze"}
    waits = [_task("waiting"), _task("waiting"), {**_task("held"), **held}, {**_task("held"), **held}]
    story.tasks = [*waits, _task("running", _attempt(7, "started")), _task("done", _attempt(7, "succeeded"))]
    with serving(story.answer) as server, Client(Endpoint(url=server.url, token="t")) as client:
        list(follow_logs(client, 1, on_waiting=told_of.append))
    standing = [(task.state, task.reason) for task in told_of]
    assert standing == [("waiting", ""), ("held", "by request: a freeze"), ("done", "")]
