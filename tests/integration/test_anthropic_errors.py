"""What the Messages API can do to a session of the backend `anthropic`: a row each, with what follows.

A row says the class of the failure, what people read, whether the request is sent again, and whether the
attempt is charged to its task.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.core.retry import policy_of
from orchestrator.core.words import AttemptKind, AttemptState, FailureClass
from tests.support.messages_api import MessagesApi, Reply, call, done, text
from tests.support.model_session import ModelSession, expect_failure

SOON = {"retry-after-ms": "10"}
BEGUN = Reply([call("glob", pattern="*")])


@dataclass(frozen=True, slots=True)
class Row:
    """One behaviour of the service.

    Attributes:
        reply: what it answers, at first or after the session has begun.
        failure_class, words: of the outcome.
        is_asked_again: the same request is sent once more.
        is_charged: the attempt counts against the task's attempts.
        after: how many answers came well before.
    """

    reply: Reply
    failure_class: FailureClass
    words: str
    is_asked_again: bool
    is_charged: bool
    after: int = 0


def error(status: int, error_type: str, **headers: str) -> Reply:
    return Reply(
        status=status, error_type=error_type, headers={**SOON, **headers}, extra={"message": "because"}
    )


LIMITED, OURS = FailureClass.RATE_LIMITED, FailureClass.INFRASTRUCTURE
AGENT, PLAN = FailureClass.AGENT, FailureClass.PLAN_DEFECT
REFUSAL = Reply(stop_reason="refusal", extra={"stop_details": {"type": "refusal", "explanation": "bad idea"}})
TOO_LONG = Reply([text("x")], stop_reason="model_context_window_exceeded")

ROWS = {
    "429": Row(error(429, "rate_limit_error"), LIMITED, "429 rate_limit_error: because", True, False),
    "429, long": Row(
        error(429, "rate_limit_error", **{"retry-after-ms": "", "retry-after": "900"}),
        LIMITED, "wait 900 s", False, False,
    ),
    "529": Row(error(529, "overloaded_error"), LIMITED, "529 overloaded_error: because", True, False),
    "500": Row(error(500, "api_error"), OURS, "500 api_error: because", True, False),
    "503": Row(error(503, "api_error"), OURS, "503 api_error: because", True, False),
    "504": Row(error(504, "timeout_error"), OURS, "504 timeout_error: because", True, False),
    "502 of a gateway": Row(error(502, ""), OURS, "502 error: because", True, False),
    "400": Row(error(400, "invalid_request_error"), PLAN, "400 invalid_request_error: because", False, True),
    "400, later": Row(
        error(400, "invalid_request_error"), AGENT, "400 invalid_request_error: because", False, True, after=1
    ),
    "413, later": Row(error(413, "invalid_request_error"), AGENT, "413 ", False, True, after=1),
    "401": Row(error(401, "authentication_error"), OURS, "401 .*Check the API key", False, False),
    "402": Row(error(402, "billing_error"), OURS, "402 .*Check the credit", False, False),
    "403": Row(error(403, "permission_error"), OURS, "403 .*Check the API key", False, False),
    "404": Row(error(404, "not_found_error"), PLAN, "404 .*Name a model that exists", False, True),
    "overloaded in mid-stream": Row(
        Reply([text("x")], stream_error="overloaded_error"), LIMITED, "overloaded_error", True, False
    ),
    "error in mid-stream": Row(Reply([text("x")], stream_error="api_error"), OURS, "api_error", True, False),
    "cut in mid-stream": Row(Reply([text("x")], events_max=4), OURS, "Check the network", True, False),
    "cut at once": Row(Reply([text("x")], events_max=0), OURS, "RemoteProtocolError", True, False),
    "cut, later": Row(Reply([text("x")], events_max=4), OURS, "Check the network", True, False, after=1),
    "refusal": Row(REFUSAL, AGENT, "refused the task: bad idea", False, True),
    "context window": Row(TOO_LONG, AGENT, "outgrew the context window", False, True),
}  # fmt: skip


@pytest.fixture
def session(tmp_path: Path) -> Iterator[ModelSession]:
    folder = tmp_path / "work"
    folder.mkdir()
    with MessagesApi() as api:
        yield ModelSession(api, folder)
        assert api.problems == [], "a request of ours was refused"


def is_charged(failure_class: FailureClass) -> bool:
    return policy_of(failure_class, AttemptKind.WORK).is_charged


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
async def test_errors_are_asked_again_where_it_helps_and_charged_to_whom_they_belong(
    session: ModelSession, row: Row
) -> None:
    outcome = await session.run(*[BEGUN] * row.after, row.reply, config={"retries_max": 1})
    expect_failure(outcome, row.failure_class, row.words)
    assert len(session.api.requests) == row.after + 1 + row.is_asked_again
    assert ("asking again" in session.transcript.text("note")) == row.is_asked_again
    assert is_charged(row.failure_class) == row.is_charged


@pytest.mark.parametrize("row", [row for row in ROWS.values() if row.is_asked_again])
async def test_what_passes_ends_well_and_charges_nobody(session: ModelSession, row: Row) -> None:
    outcome = await session.run(*[BEGUN] * row.after, row.reply, Reply([done()]), config={"retries_max": 1})
    assert outcome.state is AttemptState.SUCCEEDED
    assert len(session.api.requests) == row.after + 2


async def test_a_wrong_key_is_named_with_its_remedy(session: ModelSession) -> None:
    outcome = await session.run(config={"api_key": "wrong"})
    expect_failure(outcome, OURS, "401 authentication_error.*Check the API key")


async def test_nobody_listening_is_infrastructure(session: ModelSession) -> None:
    outcome = await session.run(config={"base_url": "http://127.0.0.1:1", "retries_max": 0})
    expect_failure(outcome, OURS, "Check the network and the base URL")


async def test_silence_of_the_service_is_a_timeout(session: ModelSession) -> None:
    outcome = await session.run(Reply([done()], delay_s=30), limits={"idle_timeout_s": 0.3})
    assert (outcome.state, outcome.failure_class) == (AttemptState.TIMED_OUT, FailureClass.TIMEOUT)
    assert "silent for 0.3 s" in outcome.summary
    assert is_charged(FailureClass.TIMEOUT)


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
