"""What the session backends need to know; the settings build it once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.sessions.pricing import PRICES, Price


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig:
    """Values of the settings for sessions.

    Attributes:
        api_key: key of the Messages API; empty means there is no `anthropic` backend. Never shown in a repr.
        base_url: address of the Messages API; empty takes the vendor's.
        model: for agent types that name none.
        max_output_tokens: of one answer.
        effort: `low` to `max`; empty leaves it to the model.
        thinking: type of the thinking configuration, such as `adaptive`; empty leaves it to the model.
        retries_max: how often one request is sent again after a cut, a 429 or a 5xx.
        prices: by model name.
        seed: of simulated sessions.
    """

    api_key: str = field(default="", repr=False)
    base_url: str = ""
    model: str = "claude-sonnet-5-5"
    max_output_tokens: int = 32_000
    effort: str = ""
    thinking: str = ""
    retries_max: int = 2
    prices: Mapping[str, Price] = field(default_factory=lambda: PRICES)
    seed: int = 0
