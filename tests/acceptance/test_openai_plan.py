"""A plan whose tasks are worked on by a model of another provider, here against local chat completions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest

from orchestrator.settings import OpenAI
from tests.support.command_line import CommandLine
from tests.support.messages_api import Block
from tests.support.openai_api import OpenAIApi
from tests.support.package_plan import PACKAGE, PARTS, assert_shipped, ship

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.timeout(900)]

API_KEY = "sk-acceptance-5566-7788-9900"


class CountingApi(OpenAIApi):
    """Keeps what it said that each request used."""

    def __init__(self) -> None:
        super().__init__(ship, api_key=API_KEY)
        self.used: list[dict[str, Any]] = []

    def usage(self, body: dict[str, Any], content: Sequence[Block]) -> dict[str, Any]:
        """Count as the service does."""
        found = super().usage(body, content)
        self.used.append(found)
        return found

    def cost_micros(self) -> int:
        """What all of it costs by the price list, each request rounded up."""
        price = OpenAI().prices[OpenAI().model]
        total = 0
        for usage in self.used:
            read = usage["prompt_tokens_details"]["cached_tokens"]
            exact = Fraction(str(price.input)) * (usage["prompt_tokens"] - read)
            exact += Fraction(str(price.cache_read)) * read
            exact += Fraction(str(price.output)) * usage["completion_tokens"]
            total += math.ceil(exact)
        return total


def test_ten_tasks_ship_a_package_where_this_is_the_only_key(cli: CommandLine) -> None:
    """Nobody names the backend: `auto` takes the one for which there is a key."""
    with CountingApi() as api:
        other = cli.with_environment(OPENAI_API_KEY=API_KEY, OPENAI_BASE_URL=api.base_url)
        data = other.data("run", str(cli.plan(PACKAGE)))
        assert api.problems == []
    assert (data["plan"]["state"], data["plan"]["tasks"]) == ("done", {"done": len(PARTS)})
    assert_shipped(cli.folder / "work", api)
    assert data["plan"]["cost_micros"] == api.cost_micros() > 0
    for path in (path for path in cli.home.rglob("*") if path.is_file()):
        assert API_KEY.encode() not in path.read_bytes(), path
    other.assert_nothing_is_left()
