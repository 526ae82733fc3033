"""The backend `anthropic` against a local server that speaks the Messages API as strictly as the real one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.core.words import AttemptState, FailureClass
from orchestrator.surroundings import FailedAttempt, Surroundings
from orchestrator.views import NoteKind
from tests.support.messages_api import (
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
from tests.support.model_session import ModelSession, expect_failure
from tests.support.sessions import MODEL, PRICES

FAILED = FailedAttempt(number=1, kind="gate", failure_class="gate", summary="no", detail="helo is wrong")


@pytest.fixture
def session(tmp_path: Path) -> Iterator[ModelSession]:
    folder = tmp_path / "work"
    folder.mkdir()
    with MessagesApi() as api:
        yield ModelSession(api, folder)
        assert api.problems == [], "a request of ours was refused"


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
    await session.run(Reply([done()]))
    assert not {"thinking", "output_config"} & set(session.api.requests[0].body)
    await session.run(
        Reply([done()]), config={"effort": "low", "thinking": "adaptive", "max_output_tokens": 99}
    )
    body = session.api.requests[1].body
    assert body["output_config"] == {"effort": "low"}
    assert body["thinking"] == {"type": "adaptive"}
    assert (body["max_tokens"], body["model"], body["stream"]) == (99, MODEL, True)
    assert "tool_choice" not in body
    assert sorted(tool["name"] for tool in body["tools"]) == [
        "bash", "edit_file", "glob", "grep", "insert_lines", "notes", "read_file", "report", "write_file",
    ]  # fmt: skip


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
    expect_failure(outcome, FailureClass.AGENT, "without a report")
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
    expect_failure(outcome, FailureClass.AGENT, re.escape(summary))
    assert outcome.report is not None


async def test_answers_cut_by_their_length_go_on_but_not_for_ever(session):
    cut = Reply([text("half"), call("write_file", path="half", content="h")], stop_reason="max_tokens")
    outcome = await session.run(cut, Reply([text("more")], stop_reason="max_tokens"), Reply([done()]))
    assert outcome.state is AttemptState.SUCCEEDED
    assert session.results(1)[0][1], "a call that may be cut is not carried out"
    assert not (session.folder / "half").exists()
    outcome = await session.run(Reply([text("endless")], stop_reason="max_tokens"))
    expect_failure(outcome, FailureClass.AGENT, "6 answers in a row reached their length limit")


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
    expect_failure(await session.run(reply), FailureClass.AGENT, words)


async def test_usage_of_a_failed_attempt_is_recorded(session):
    outcome = await session.run(
        Reply([call("bash", command="true")]), Reply(status=400, error_type="invalid_request_error")
    )
    expect_failure(outcome, FailureClass.AGENT, "400")
    assert outcome.usage.requests == 1
    assert outcome.usage.cost_micros > 0
    outcome = await session.run(Reply([text("x")], events_max=4))
    assert outcome.usage.requests == 1
    assert outcome.usage.input_tokens > 0


#: Tells of 2,000 tokens.
PRINT = Reply([thinking("It is long."), call("bash", command="head -c 8000 /dev/zero | tr '\\0' x; echo")])


def size_of(request) -> int:
    return len(json.dumps(request.body["messages"]))


async def test_old_tool_results_of_a_long_session_are_cleared_by_the_service(session):
    outcome = await session.run(*[PRINT] * 16, Reply([done()]), config={"conversation_tokens": 16_000})
    assert outcome.state is AttemptState.SUCCEEDED
    is_asked = ["context_management" in request.body for request in session.api.requests]
    assert is_asked == sorted(is_asked), "once it is long, with each request"
    assert 4 <= sum(is_asked) <= 12
    assert "tokens of old tool results cleared" in session.transcript.text("note")
    assert size_of(session.api.requests[-1]) > 16 * 8_000, "the history stays whole on our side"
    assert session.api.requests[-1].turn == 16


async def test_a_session_that_clearing_does_not_help_is_handed_over(session):
    """Six results stay in any case, and are too much: what goes on knows the task and the hand-over."""
    hand_over = Reply([text("Half of it is done, in a.txt.")])
    replies = iter([*[PRINT] * 3, hand_over, Reply([call("bash", command="echo on")]), Reply([done()])])
    session.api.scenario = lambda request: next(replies)
    outcome = await session.run(title="Long work", config={"conversation_tokens": 4_000})
    assert outcome.state is AttemptState.SUCCEEDED
    asked, fresh = session.api.requests[3:5]
    assert asked.body["tool_choice"] == {"type": "none"}
    assert "This conversation has become too long" in asked.last
    assert len(fresh.body["messages"]) == 1
    assert "Long work" in fresh.task
    assert "Half of it is done, in a.txt." in fresh.task
    assert "tool_choice" not in fresh.body
    assert "is handed over" in session.transcript.text("note")
    assert outcome.usage.requests == 6


async def test_an_endpoint_that_cannot_clear_is_asked_without(session):
    def refuse_clearing(request):
        if "context_management" in request.body:
            extra = {"message": "context_management: Extra inputs are not permitted"}
            return Reply(status=400, error_type="invalid_request_error", extra=extra)
        return Reply([done()]) if request.turn == 3 else PRINT

    session.api.scenario = refuse_clearing
    outcome = await session.run(config={"conversation_tokens": 5_500})
    assert outcome.state is AttemptState.SUCCEEDED
    assert "Old tool results are not cleared" in session.transcript.text("note")
    assert sum("context_management" in request.body for request in session.api.requests) == 1


async def test_what_cannot_be_sent_back_is_left_out(session):
    """A thought that was cut off has no signature, and empty text is refused by the service."""
    half = {"type": "thinking", "thinking": "I was about to", "signature": ""}
    outcome = await session.run(Reply([half, text(" ")], stop_reason="max_tokens"), Reply([text(""), done()]))
    assert outcome.state is AttemptState.SUCCEEDED
    assert [message["role"] for message in session.api.requests[1].body["messages"]] == ["user"]


async def test_caps_on_turns_and_spend(session):
    outcome = await session.run(Reply([call("bash", command="true")]), limits={"turns_max": 3})
    expect_failure(outcome, FailureClass.AGENT, "no report after 3 turns")
    half_done = Reply([text("Half of it is done."), call("bash", command="true")])
    outcome = await session.run(half_done, limits={"cost_micros_max": 1})
    expect_failure(outcome, FailureClass.BUDGET, "reached its cap")
    assert "Half of it is done." in outcome.detail
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
    expect_failure(await session.run(title="fail please"), FailureClass.AGENT, "As asked")
    assert (await session.run(title="write x: y")).state is AttemptState.SUCCEEDED


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


async def test_nobody_listening_is_infrastructure(session: ModelSession) -> None:
    outcome = await session.run(config={"base_url": "http://127.0.0.1:1", "retries_max": 0})
    expect_failure(outcome, FailureClass.INFRASTRUCTURE, "Check the network and the base URL")


async def test_a_slow_first_byte_is_waited_for(session: ModelSession) -> None:
    outcome = await session.run(Reply([done()], delay_s=1.0), limits={"idle_timeout_s": 30})
    assert outcome.state is AttemptState.SUCCEEDED


async def test_the_tokens_of_answers_that_broke_off_are_counted(session: ModelSession) -> None:
    words = "many words " * 100
    outcome = await session.run(Reply([text(words)], events_max=120), config={"retries_max": 1})
    assert outcome.usage.requests == 2
    assert outcome.usage.input_tokens > 0
    arrived = 117 * 7  # start, ping and the start of the block came before the pieces
    assert outcome.usage.output_tokens == 2 * (arrived // 4)
