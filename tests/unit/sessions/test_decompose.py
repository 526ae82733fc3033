"""Asking for subtasks: the real SDKs against local servers of both APIs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.errors import EnvironmentFault, Overloaded, RequestRefused
from orchestrator.plan.model import PlanTask
from orchestrator.sessions.config import SessionConfig
from orchestrator.sessions.decompose import Proposed, Question, ask_for_subtasks
from orchestrator.sessions.registry import model_api
from tests.support.messages_api import API_KEY, MessagesApi, Reply, call, script, text
from tests.support.openai_api import OpenAIApi
from tests.support.sessions import MODEL, PRICES

QUESTION = Question(
    plan_title="Shop",
    task=PlanTask(
        key="A.1", has_own_key=True, title="Build the shop", body="With a till.", acceptance=("It sells",)
    ),
    above=("Track A",),
    others={"A.2": "Open the shop"},
    agent_types={"backend-development": "Builds servers."},
)


def subtask(title: str, **more: Any) -> dict[str, Any]:
    return {"title": title, "acceptance": ["It is there"], "estimate_min": 90, **more}


GOOD = (
    subtask("Make the shelf", touches=["src/*.py"]),
    subtask("Fill it", depends_on=[1], agent="backend-development"),
)


def proposed(*subtasks: dict[str, Any]) -> Reply:
    return Reply([text("I see."), call("propose", subtasks=list(subtasks))])


#: The server of each provider.
SERVERS = {"anthropic": MessagesApi, "openai": OpenAIApi}


@pytest.fixture(params=SERVERS)
def provider(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def api(provider: str) -> Iterator[MessagesApi]:
    with SERVERS[provider]() as api:
        yield api
        assert api.problems == []


async def ask(api: MessagesApi, *replies: Reply, timeout_s: float = 60.0) -> Proposed:
    api.scenario = script(*replies)
    config = SessionConfig(api_key=API_KEY, base_url=api.base_url, model=MODEL, prices=PRICES, retries_max=0)
    provider = next(name for name, server in SERVERS.items() if type(api) is server)
    return await ask_for_subtasks(QUESTION, model_api(provider, config), timeout_s=timeout_s)


async def test_what_fits_is_returned_with_its_cost(api: MessagesApi) -> None:
    answer = await ask(api, proposed(*GOOD))
    assert answer.error is None
    assert [each.title for each in answer.subtasks] == ["Make the shelf", "Fill it"]
    assert (answer.subtasks[1].depends_on, answer.subtasks[1].agent) == ((1,), "backend-development")
    assert (answer.model, answer.usage.requests) == (MODEL, 1)
    assert answer.usage.cost_micros > 0


async def test_the_model_is_told_task_place_neighbours_and_agent_types(api: MessagesApi) -> None:
    await ask(api, proposed(*GOOD))
    (request,) = api.requests
    for said in ("Shop", "Track A › A.1 Build the shop", "With a till.", "It sells", "A.2: Open the shop"):
        assert said in request.task
    assert "backend-development: Builds servers." in request.task
    (tool,) = request.body["tools"]
    schema = tool["input_schema"] if "input_schema" in tool else tool["function"]["parameters"]
    assert schema["$defs"]["Subtask"]["properties"]["estimate_min"]["maximum"] == 239


UNFIT: dict[str, tuple[Reply, str]] = {
    "one": (proposed(GOOD[0]), "at least 2 items"),
    "many": (proposed(*(subtask(f"Do {n}") for n in range(13))), "at most 12 items"),
    "large": (proposed(GOOD[0], subtask("Fill it", estimate_min=240)), "less than or equal to 239"),
    "outside": (proposed(GOOD[0], subtask("Fill it", depends_on=[3])), "subtask 2 depends on 3"),
    "itself": (proposed(GOOD[0], subtask("Fill it", depends_on=[2])), "2 wait for each other"),
    "cycle": (
        proposed(subtask("Make it", depends_on=[2]), subtask("Fill it", depends_on=[1])),
        "1, 2 wait for each other",
    ),
    "twice": (proposed(GOOD[0], GOOD[0]), "the same title"),
    "two lines": (proposed(GOOD[0], subtask("Fill it\n  - run: `rm -rf /`")), "one line"),
    "no criterion": (proposed(GOOD[0], subtask("Fill it", acceptance=[])), "at least 1 item"),
    "a field more": (proposed(GOOD[0], subtask("Fill it", run=["make"])), "Extra inputs"),
    "stranger": (proposed(GOOD[0], subtask("Fill it", agent="stern-poet")), "stern-poet"),
    "words": (Reply([text("It is fine as it is.")]), "called 0 times"),
    "cut": (replace(proposed(*GOOD), stop_reason="max_tokens"), "length limit"),
}
#: In the words of chat completions.
_LENGTH = replace(proposed(*GOOD), stop_reason="length")


@pytest.mark.parametrize("name", UNFIT)
async def test_what_does_not_fit_is_sent_back_once(api: MessagesApi, provider: str, name: str) -> None:
    reply, problem = UNFIT[name]
    reply = _LENGTH if (name, provider) == ("cut", "openai") else reply
    answer = await ask(api, reply, proposed(*GOOD))
    assert len(answer.subtasks) == 2
    assert answer.usage.requests == 2
    assert problem in api.requests[1].last


async def test_what_does_not_fit_twice_is_an_error_that_tells_the_cost(api: MessagesApi) -> None:
    answer = await ask(api, UNFIT["cycle"][0])
    assert answer.subtasks == ()
    assert isinstance(answer.error, RequestRefused)
    assert "wait for each other" in answer.error.message
    assert f"${answer.usage.cost_micros / 1e6:.4f}" in answer.error.message
    assert len(api.requests) == answer.usage.requests == 2


async def test_an_outage_is_ours_and_a_limit_passes(api: MessagesApi, provider: str) -> None:
    words = {
        "anthropic": ("authentication_error", "rate_limit_error"),
        "openai": ("invalid_api_key", "rate_limit_exceeded"),
    }
    unknown, too_much = words[provider]
    refused = await ask(api, Reply(status=401, error_type=unknown))
    limited = await ask(api, Reply(status=429, error_type=too_much))
    assert isinstance(refused.error, EnvironmentFault)
    assert "Check the API key" in refused.error.message
    assert isinstance(limited.error, Overloaded)


async def test_an_answer_that_takes_too_long_is_not_waited_for(api: MessagesApi) -> None:
    answer = await ask(api, replace(proposed(*GOOD), delay_s=60), timeout_s=0.5)
    assert isinstance(answer.error, EnvironmentFault)
    assert "request_timeout_s" in answer.error.remedy
