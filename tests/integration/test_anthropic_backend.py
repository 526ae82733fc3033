"""The backend `anthropic` against a local server that speaks the Messages API as strictly as the real one."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.core.words import AttemptState, FailureClass
from orchestrator.ports import Outcome
from orchestrator.sessions.anthropic import AnthropicBackend
from orchestrator.sessions.config import SessionConfig
from orchestrator.surroundings import FailedAttempt, Surroundings
from orchestrator.views import NoteKind
from orchestrator.workspace.launcher import ProcessLauncher
from tests.support.messages_api import (
    API_KEY,
    MessagesApi,
    Reply,
    by_text,
    call,
    done,
    script,
    text,
    thinking,
    write_files,
)
from tests.support.notes import MemoryNoteBook
from tests.support.sessions import MODEL, PRICES, Recorder, assignment, workspace

FAILED = FailedAttempt(number=1, kind="gate", failure_class="gate", summary="no", detail="helo is wrong")


class Session:
    """A backend, its server and its workspace, ready to run."""

    def __init__(self, api: MessagesApi, folder: Path) -> None:
        self.api = api
        self.folder = folder
        self.transcript = Recorder()
        self.notes = MemoryNoteBook()
        self.config = {
            "api_key": API_KEY, "base_url": api.base_url, "model": MODEL, "prices": PRICES, "retries_max": 0,
        }  # fmt: skip

    async def run(self, *replies: Reply, config: dict | None = None, **values) -> Outcome:
        if replies:
            self.api.scenario = script(*replies)
        launcher = ProcessLauncher(records=self.folder.parent / "records")
        given_config = SessionConfig(**{**self.config, **(config or {})})
        backend = AnthropicBackend(given_config, launcher, notes=self.notes)
        given = assignment(backend="anthropic", **values)
        return await backend.run(given, workspace(self.folder), self.transcript)

    def results(self, request: int) -> list[tuple[str, bool]]:
        return [(result["content"], result["is_error"]) for result in self.api.requests[request].results]


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    folder = tmp_path / "work"
    folder.mkdir()
    with MessagesApi() as api:
        yield Session(api, folder)
        assert api.problems == [], "a request of ours was refused"


def check(outcome: Outcome, failure_class: FailureClass, words: str) -> None:
    assert outcome.state is AttemptState.FAILED
    assert outcome.failure_class is failure_class
    assert re.search(words, outcome.summary), outcome.summary


async def test_task_is_worked_with_all_tools_and_reported(session):
    outcome = await session.run(
        Reply([thinking("I look first."), text("Let me see."), call("bash", command="echo seen; false")]),
        Reply(
            [
                call("write_file", path="pkg/greet.py", content="def greet():\n    return 'helo'\n"),
                call("edit_file", path="pkg/greet.py", old="helo", new="hello"),
                call("read_file", path="pkg/greet.py"),
            ]
        ),
        Reply(
            [
                text("Finished."),
                done("Wrote it.", files=["pkg/greet.py"], tests=["none"], follow_ups=["more"]),
            ]
        ),
        title="Write greet",
        body="Say hello.",
        acceptance=("it greets",),
        number=2,
        surroundings=Surroundings(failed=(FAILED,)),
    )
    assert outcome.state is AttemptState.SUCCEEDED
    assert outcome.summary == "Wrote it."
    assert outcome.report == {
        "status": "done", "summary": "Wrote it.", "files": ["pkg/greet.py"], "tests": ["none"],
        "follow_ups": ["more"], "blockers": [],
    }  # fmt: skip
    assert (session.folder / "pkg/greet.py").read_text() == "def greet():\n    return 'hello'\n"
    assert session.results(1) == [("exit code 1\nseen\n", False)]
    assert session.results(2)[2] == ("1\tdef greet():\n2\t    return 'hello'", False)
    task = session.api.requests[0].task
    for part in ("A.1: Write greet", "Say hello.", "- it greets", "gate 1 failed", "helo is wrong"):
        assert part in task
    system = session.api.requests[0].body["system"][0]
    assert "backend-development" in system["text"]
    assert system["cache_control"] == {"type": "ephemeral"}
    assert "I look first." in session.transcript.text("model")
    assert "bash: echo seen; false" in session.transcript.text("tool")
    assert session.transcript.text("stdout") == "seen\n"


async def test_usage_and_cost_are_those_of_all_requests(session):
    session.api.scenario = write_files
    outcome = await session.run(body="write a.txt: one\nwrite b.txt: two", model=MODEL)
    assert outcome.state is AttemptState.SUCCEEDED
    assert (session.folder / "b.txt").read_text() == "two\n"
    usage, price = outcome.usage, PRICES[MODEL]
    assert usage.requests == len(session.api.requests) == 2
    assert min(usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens) > 0
    exact = (
        usage.input_tokens * price.input + usage.output_tokens * price.output
        + usage.cache_read_tokens * price.cache_read + usage.cache_write_tokens * price.cache_write
    ) / 1e6  # fmt: skip
    assert exact <= usage.cost_micros <= exact + 2


async def test_requests_carry_what_is_configured_and_nothing_refused(session):
    await session.run(Reply([done()]), config={"effort": "low", "max_output_tokens": 99})
    body = session.api.requests[0].body
    assert body["output_config"] == {"effort": "low"}
    assert "thinking" not in body
    assert (body["max_tokens"], body["model"], body["stream"]) == (99, MODEL, True)
    assert "tool_choice" not in body
    assert sorted(tool["name"] for tool in body["tools"]) == [
        "bash", "edit_file", "glob", "grep", "insert_lines", "read_file", "report", "write_file",
    ]  # fmt: skip


async def test_key_reaches_no_child(session, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", API_KEY)
    await session.run(Reply([call("bash", command="env; cat /proc/$PPID/environ")]), Reply([done()]))
    assert "ORCHESTRATOR_TOKEN" in session.results(1)[0][0]
    assert API_KEY not in session.results(1)[0][0]


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (call("read_file", path="../secret"), "outside of the workspace"),
        (call("write_file", path="/tmp/elsewhere", content=""), "outside of the workspace"),
        (call("read_file", path="link/secret"), "outside of the workspace"),
        (call("edit_file", path="absent", old="a", new="b"), "does not exist"),
        (call("write_file", path=".", content=""), "not a regular file"),
        (call("bash", command="sleep 300", timeout_s=0.2), "took longer than 0.2 s"),
        (call("bash", line="ls"), "command: Field required"),
        (
            call("report", status="perfect", summary="x"),
            "status: Input should be 'done', 'failed' or 'blocked'",
        ),
        (call("report", status="done", summary=""), "summary: String should have at least 1 character"),
    ],
)
async def test_a_bad_call_is_told_to_the_model_and_ends_nothing(session, tmp_path, block, words):
    (tmp_path / "secret").write_text("hidden")
    (session.folder / "link").symlink_to(tmp_path)
    outcome = await session.run(Reply([block]), Reply([done()]))
    assert outcome.state is AttemptState.SUCCEEDED
    [(answer, is_error)] = session.results(1)
    assert is_error
    assert words in answer


async def test_without_a_report_there_is_one_reminder_and_no_success(session):
    outcome = await session.run(Reply([text("I am done, trust me.")]))
    check(outcome, FailureClass.AGENT, "without a report")
    assert "trust me" in outcome.detail
    assert len(session.api.requests) == 2
    assert "call the tool `report`" in session.api.requests[1].last


async def test_an_empty_answer_is_reminded_too(session):
    outcome = await session.run(Reply([call("bash", command="true")]), Reply([]), Reply([done()]))
    assert outcome.state is AttemptState.SUCCEEDED
    assert [block["type"] for block in session.api.requests[2].body["messages"][-1]["content"]] == [
        "tool_result", "text",
    ]  # fmt: skip


@pytest.mark.parametrize(("status", "summary"), [("failed", "failed: No."), ("blocked", "blocked: No.")])
async def test_a_report_of_failure_is_a_failure(session, status, summary):
    outcome = await session.run(Reply([call("report", status=status, summary="No.")]))
    check(outcome, FailureClass.AGENT, re.escape(summary))
    assert outcome.report is not None


async def test_answers_cut_by_their_length_go_on_but_not_for_ever(session):
    cut = Reply([text("half"), call("write_file", path="half", content="h")], stop_reason="max_tokens")
    outcome = await session.run(cut, Reply([text("more")], stop_reason="max_tokens"), Reply([done()]))
    assert outcome.state is AttemptState.SUCCEEDED
    assert session.results(1)[0][1], "a call that may be cut is not carried out"
    assert not (session.folder / "half").exists()
    outcome = await session.run(Reply([text("endless")], stop_reason="max_tokens"))
    check(outcome, FailureClass.AGENT, "6 answers in a row reached their length limit")


async def test_a_paused_turn_goes_on_from_its_own_words(session):
    outcome = await session.run(Reply([text("wait")], stop_reason="pause_turn"), Reply([done()]))
    assert outcome.state is AttemptState.SUCCEEDED
    assert session.api.requests[1].body["messages"][-1]["role"] == "assistant"


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (
            Reply(
                [],
                stop_reason="refusal",
                extra={"stop_details": {"type": "refusal", "explanation": "bad idea"}},
            ),
            "refused the task: bad idea",
        ),
        (Reply([text("x")], stop_reason="model_context_window_exceeded"), "outgrew the context window"),
    ],
)
async def test_stop_reasons_that_end_the_session(session, reply, words):
    check(await session.run(reply), FailureClass.AGENT, words)


def refused(status: int, error_type: str, **headers: str) -> Reply:
    return Reply(status=status, error_type=error_type, headers=headers, extra={"message": "because"})


@pytest.mark.parametrize(
    ("reply", "failure_class", "words"),
    [
        (refused(429, "rate_limit_error", **{"retry-after": "7"}), FailureClass.RATE_LIMITED, "wait 7 s"),
        (refused(529, "overloaded_error"), FailureClass.RATE_LIMITED, "529 overloaded_error: because"),
        (refused(403, "permission_error"), FailureClass.INFRASTRUCTURE, "Check the API key"),
        (refused(402, "billing_error"), FailureClass.INFRASTRUCTURE, "Check the credit"),
        (refused(404, "not_found_error"), FailureClass.PLAN_DEFECT, "Name a model that exists"),
        (
            refused(400, "invalid_request_error"),
            FailureClass.PLAN_DEFECT,
            "400 invalid_request_error: because",
        ),
        (refused(500, "api_error"), FailureClass.INFRASTRUCTURE, "500 api_error"),
        (Reply([text("x")], stream_error="overloaded_error"), FailureClass.RATE_LIMITED, "overloaded_error"),
        (Reply([text("x")], stream_error="api_error"), FailureClass.INFRASTRUCTURE, "api_error"),
        (Reply([text("x")], events_max=4), FailureClass.INFRASTRUCTURE, "RemoteProtocolError"),
        (Reply([text("x")], events_max=0), FailureClass.INFRASTRUCTURE, "RemoteProtocolError"),
    ],
)
async def test_errors_of_the_api_are_charged_to_whom_they_belong(session, reply, failure_class, words):
    check(await session.run(reply), failure_class, words)


async def test_usage_of_a_failed_attempt_is_recorded(session):
    outcome = await session.run(Reply([call("bash", command="true")]), refused(400, "invalid_request_error"))
    check(outcome, FailureClass.AGENT, "400")
    assert outcome.usage.requests == 1
    assert outcome.usage.cost_micros > 0
    outcome = await session.run(Reply([text("x")], events_max=4))
    assert outcome.usage.requests == 1
    assert outcome.usage.input_tokens > 0


async def test_a_wrong_key_is_named_with_its_remedy(session):
    outcome = await session.run(config={"api_key": "wrong"})
    check(outcome, FailureClass.INFRASTRUCTURE, "401 authentication_error.*Check the API key")


async def test_nobody_listening_is_infrastructure(session):
    outcome = await session.run(config={"base_url": "http://127.0.0.1:1"})
    check(outcome, FailureClass.INFRASTRUCTURE, "Check the network and the base URL")


async def test_a_stream_that_breaks_off_is_asked_for_again(session):
    outcome = await session.run(Reply([text("x")], events_max=4), Reply([done()]), config={"retries_max": 1})
    assert outcome.state is AttemptState.SUCCEEDED
    assert "asking again in 0.5 s" in session.transcript.text("note")
    assert outcome.usage.requests == 2


async def test_caps_on_turns_and_spend(session):
    outcome = await session.run(Reply([call("bash", command="true")]), limits={"turns_max": 3})
    check(outcome, FailureClass.AGENT, "no report after 3 turns")
    outcome = await session.run(Reply([call("bash", command="true")]), limits={"cost_micros_max": 1})
    check(outcome, FailureClass.BUDGET, "reached its cap")
    assert outcome.usage.requests == 1


async def test_an_unknown_model_is_counted_like_the_dearest_and_says_so(session):
    known = await session.run(Reply([done()]), model="claude-fable-5")
    unknown = await session.run(Reply([done()]), model="my-own")
    assert "No price is known for my-own" in session.transcript.text("note")
    dearest = (
        10 * unknown.usage.input_tokens + 50 * unknown.usage.output_tokens + unknown.usage.cache_read_tokens
    )
    assert unknown.usage.cost_micros == dearest
    assert known.usage.cost_micros > 0


async def test_silence_of_the_service_is_a_timeout(session):
    outcome = await session.run(Reply([done()], delay_s=30), limits={"idle_timeout_s": 0.3})
    assert (outcome.state, outcome.failure_class) == (AttemptState.TIMED_OUT, FailureClass.TIMEOUT)
    assert "silent for 0.3 s" in outcome.summary


async def test_scenarios_by_text(session):
    session.api.scenario = by_text(
        {r"fail please": script(Reply([call("report", status="failed", summary="As asked.")]))}
    )
    check(await session.run(title="fail please"), FailureClass.AGENT, "As asked")
    assert (await session.run(title="write x: y")).state is AttemptState.SUCCEEDED


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"temperature": 0.5}, "temperature"),
        ({"max_tokens": None}, "max_tokens"),
        ({"tool_choice": {"type": "any"}}, "forced tool use"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "first message must use the user role"),
        ({"messages": [{"role": "user", "content": "x"}] * 2}, "roles must alternate"),
        ({"messages": [{"role": "user", "content": ""}]}, "non-whitespace"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": ""}]}
                ]
            },
            "tool_result for",
        ),
    ],
)
def test_the_server_refuses_what_the_service_refuses(change, words):
    httpx2 = pytest.importorskip("httpx2")
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}], **change}
    body = {name: value for name, value in body.items() if value is not None}
    with (
        MessagesApi(script(Reply([text("hi")]))) as api,
        httpx2.Client(base_url=api.base_url, timeout=60) as client,
    ):
        headers = {"x-api-key": API_KEY, "anthropic-version": "2026-10-21"}
        answer = client.post("/v1/messages", json=body, headers=headers)
        assert answer.status_code == 400
        assert words in answer.json()["error"]["message"]
        good = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
        assert client.post("/v1/messages", json=good, headers=headers).json()["content"] == [text("hi")]
        assert client.post("/v1/messages", json=good, headers={"x-api-key": "no"}).status_code == 401


def test_the_server_runs_by_itself():
    argv = [sys.executable, "-m", "tests.support.messages_api", "--port", "0"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(argv, cwd=root, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", address)
        curl = ["curl", "-s", "-d", json.dumps({"model": "m"}), f"{address}/v1/messages"]
        answer = subprocess.run(
            [*curl, "-H", f"x-api-key: {API_KEY}"], capture_output=True, text=True, check=True
        )
        assert "anthropic-version" in answer.stdout
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


async def test_notes_are_written_and_read_and_other_tasks_recalled(session):
    await session.notes.write(7, kind=NoteKind.NOTE, text="rows are sorted")
    outcome = await session.run(
        Reply(
            [
                call("notes", action="write", text="UTC everywhere", kind="decision"),
                call("notes", action="read"),
                call("notes", action="read", task="A.7"),
                call("notes", action="read", task="Z.9"),
                call("notes", action="write"),
            ]
        ),
        Reply([done("Wrote it.")]),
    )
    assert outcome.state is AttemptState.SUCCEEDED
    written, all_of_them, recalled, unknown, empty = session.results(1)
    assert written == ("The decision is written.", False)
    assert all_of_them[0].splitlines() == [
        "- poet on A.41: UTC everywhere (decision)",
        "- poet on A.7: rows are sorted (note)",
    ]
    assert "- A.7 Greet (done): said hello" in recalled[0]
    assert "rows are sorted" in recalled[0]
    assert "UTC" not in recalled[0]
    assert unknown == ("The plan has no task 'Z.9'.", True)
    assert "needs `text`" in empty[0]
    assert empty[1]


async def test_who_is_over_writes_no_note(session):
    session.notes.over.add(41)
    await session.run(
        Reply([call("notes", action="write", text="late")]),
        Reply([done("Wrote it.")]),
    )
    assert session.results(1) == [("This attempt is over: nothing more can be written for it.", True)]
    assert await session.notes.read(41) == ()
