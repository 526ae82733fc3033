"""The backend `openai` against a local server that speaks chat completions as strictly as the real one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.words import AttemptState, FailureClass
from orchestrator.sessions.config import SessionConfig
from orchestrator.sessions.models.chat import ChatApi
from orchestrator.sessions.pricing import Price
from tests.support.messages_api import Reply, call, done, text, thinking, write_files
from tests.support.model_session import ModelSession, expect_failure
from tests.support.openai_api import OpenAIApi
from tests.support.sessions import MODEL, PRICES

PRINT = Reply([call("bash", command="head -c 8000 /dev/zero | tr '\\0' x")])


@pytest.fixture
def endpoint(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What is special of the endpoint; see OpenAIApi."""
    return getattr(request, "param", {})


@pytest.fixture
def session(tmp_path: Path, endpoint: dict[str, Any]) -> Iterator[ModelSession]:
    folder = tmp_path / "work"
    folder.mkdir()
    with OpenAIApi(**endpoint) as api:
        yield ModelSession(api, folder, ChatApi)
        assert api.problems == [], "a request of ours was refused"


def special(**endpoint: Any) -> pytest.MarkDecorator:
    """An endpoint that differs from OpenAI's own."""
    return pytest.mark.parametrize("endpoint", [endpoint], indirect=True)


async def test_task_is_worked_with_tools_side_by_side_and_reported(session: ModelSession) -> None:
    outcome = await session.run(
        Reply([thinking("I look first."), text("Let me see."), call("bash", command="echo seen; false")]),
        Reply(
            [
                call("write_file", path="pkg/greet.py", content="def greet():\n    return 'helo'\n"),
                call("edit_file", path="pkg/greet.py", old="helo", new="hello"),
                call("read_file", path="pkg/absent.py"),
            ]
        ),
        Reply([text("Finished."), done("Wrote it.", files=["pkg/greet.py"])]),
        title="Write greet",
        body="Say hello.",
    )
    assert (outcome.state, outcome.summary) == (AttemptState.SUCCEEDED, "Wrote it.")
    assert outcome.report is not None
    assert outcome.report["files"] == ["pkg/greet.py"]
    assert (session.folder / "pkg/greet.py").read_text() == "def greet():\n    return 'hello'\n"
    assert session.results(1) == [("exit code 1\nseen\n", False)]
    assert [is_error for _, is_error in session.results(2)] == [False, False, True]
    body = session.api.requests[0].body
    assert body["messages"][0]["role"] == "system"
    assert "backend-development" in body["messages"][0]["content"]
    assert "A.1: Write greet" in session.api.requests[0].task
    assert (body["stream_options"], body["max_completion_tokens"]) == ({"include_usage": True}, 16_000)
    assert "reasoning_effort" not in body
    assert session.transcript.text("model").startswith("I look first.\nLet me see.\n")
    assert "bash: echo seen; false" in session.transcript.text("tool")


async def test_usage_and_cost_are_those_of_all_requests(session: ModelSession) -> None:
    session.api.scenario = write_files
    outcome = await session.run(body="write a.txt: one\nwrite b.txt: two")
    assert outcome.state is AttemptState.SUCCEEDED
    usage, price = outcome.usage, PRICES[MODEL]
    assert usage.requests == len(session.api.requests) == 2
    assert min(usage.input_tokens, usage.output_tokens, usage.cache_read_tokens) > 0
    exact = (
        usage.input_tokens * price.input
        + usage.output_tokens * price.output
        + usage.cache_read_tokens * price.cache_read
    ) / 1e6
    assert exact <= usage.cost_micros <= exact + 2


async def test_a_model_of_a_day_costs_what_it_does_without(session: ModelSession) -> None:
    prices = {"gpt-5.6-sol": Price(input=1, output=1, cache_read=1, cache_write=1)}
    await session.run(Reply([done()]), model="gpt-5.6-sol-2026-07-09", config={"prices": prices})
    assert "No price is known" not in session.transcript.text("note")


@special(tells_usage=False)
async def test_where_usage_is_not_told_it_is_estimated_and_capped(session: ModelSession) -> None:
    outcome = await session.run(Reply([text("many words " * 40), done()]))
    assert outcome.state is AttemptState.SUCCEEDED
    sent = len(json.dumps(session.api.requests[0].body))
    assert sent // 5 < outcome.usage.input_tokens < sent // 3
    assert 440 // 4 <= outcome.usage.output_tokens <= 440 // 4 + 50
    capped = await session.run(Reply([call("bash", command="true")]), limits={"cost_micros_max": 1})
    expect_failure(capped, FailureClass.BUDGET, "reached its cap")


@special(refused=("stream_options", "max_completion_tokens", "reasoning_effort"), tells_usage=False)
async def test_what_an_endpoint_does_not_know_is_left_out_and_said(session: ModelSession) -> None:
    outcome = await session.run(
        Reply([call("bash", command="true")]), Reply([done()]), config={"effort": "low"}
    )
    assert outcome.state is AttemptState.SUCCEEDED
    notes = session.transcript.text("note")
    for words in ("What answers use is not told", "`max_tokens`", "effort is none", "effort is not said"):
        assert notes.count(words) == 1, "it is found out once"
    body = session.api.requests[-1].body
    assert body["max_tokens"] == 16_000
    assert not {"stream_options", "max_completion_tokens", "reasoning_effort"} & set(body)


@special(reasons_with_tools=False)
@pytest.mark.parametrize("effort", ["", "high"])
async def test_a_model_that_calls_functions_only_without_reasoning_is_asked_so(
    session: ModelSession, effort: str
) -> None:
    outcome = await session.run(Reply([done()]), config={"effort": effort})
    assert outcome.state is AttemptState.SUCCEEDED
    assert session.api.requests[-1].body["reasoning_effort"] == "none"
    assert "The reasoning effort is none" in session.transcript.text("note")


@special(reasons_with_tools=False)
async def test_a_process_that_knows_nothing_of_the_endpoint_goes_on(session: ModelSession) -> None:
    api = ChatApi(SessionConfig(**session.config))
    experienced = ModelSession(session.api, session.folder, lambda _: api)
    experienced.journals = session.journals
    await experienced.run(Reply([done()]), token=1)
    await experienced.run(Reply([call("bash", command="true")]), token=2, limits={"turns_max": 1})
    session.journals.cut.add(2)
    outcome = await session.run(Reply([done()]), token=3, number=2)
    assert outcome.state is AttemptState.SUCCEEDED
    assert "which was cut short, goes on after 1 answers" in session.transcript.text("note")


@special(sends_calls_whole=True)
async def test_calls_that_come_whole_and_without_ids_are_told_apart(session: ModelSession) -> None:
    writes = [call("write_file", path=name, content=name) for name in ("a.txt", "b.txt")]
    outcome = await session.run(Reply(writes, stop_reason="stop"), Reply([done()]))
    assert outcome.state is AttemptState.SUCCEEDED
    assert sorted(path.name for path in session.folder.iterdir()) == ["a.txt", "b.txt"]


async def test_a_call_of_no_tool_and_broken_arguments_are_told_to_the_model(session: ModelSession) -> None:
    outcome = await session.run(
        Reply([call("functions.bash", command="true"), call("bash", line="ls")]), Reply([done()])
    )
    assert outcome.state is AttemptState.SUCCEEDED
    unknown, broken = session.results(1)
    assert "There is no tool 'functions.bash'" in unknown[0]
    assert "command: Field required" in broken[0]
    assert unknown[1]
    assert broken[1]


async def test_answers_cut_by_their_length_go_on_but_not_for_ever(session: ModelSession) -> None:
    cut = Reply([text("half"), call("write_file", path="half", content="h")], stop_reason="length")
    outcome = await session.run(cut, Reply([text("more")], stop_reason="length"), Reply([done()]))
    assert outcome.state is AttemptState.SUCCEEDED
    assert session.results(1)[0][1], "a call that may be cut is not carried out"
    assert not (session.folder / "half").exists()
    outcome = await session.run(Reply([text("endless")], stop_reason="length"))
    expect_failure(outcome, FailureClass.AGENT, "6 answers in a row reached their length limit")


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply([text("x")], stop_reason="content_filter"), "refused the task: the content filter"),
        (Reply([], extra={"refusal": "bad idea"}), "refused the task: bad idea"),
        (Reply([text("trust me")], stop_reason="stop"), "without a report"),
        (Reply([text("trust me")], stop_reason="never heard of"), "without a report"),
        (Reply([]), "without a report"),
    ],
    ids=["content_filter", "refusal", "stop", "unknown", "empty"],
)
async def test_reasons_to_end_that_end_the_session(session: ModelSession, reply: Reply, words: str) -> None:
    expect_failure(await session.run(reply), FailureClass.AGENT, words)


async def test_calls_count_whatever_reason_the_answer_ended_for(session: ModelSession) -> None:
    outcome = await session.run(Reply([done()], stop_reason="never heard of"))
    assert outcome.state is AttemptState.SUCCEEDED


async def test_a_long_session_is_handed_over(session: ModelSession) -> None:
    hand_over = Reply([text("Half of it is done, in a.txt.")])
    replies = iter([*[PRINT] * 3, hand_over, Reply([done()])])
    session.api.scenario = lambda request: next(replies)
    outcome = await session.run(title="Long work", config={"conversation_tokens": 3_500})
    assert outcome.state is AttemptState.SUCCEEDED
    asked, fresh = session.api.requests[3:5]
    assert asked.body["tool_choice"] == "none"
    assert len(fresh.body["messages"]) == 2
    assert "Half of it is done, in a.txt." in fresh.task
    assert "tool_choice" not in fresh.body
