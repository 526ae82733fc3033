"""What the session backends need to know; built once from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.errors import SettingsError
from orchestrator.sessions.pricing import Price


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig:
    """Values of the settings for sessions.

    Attributes:
        api_key: key of the Messages API; empty means there is no `anthropic` backend. Never shown in a repr.
        base_url: address of the Messages API; empty takes the vendor's.
        model: for agent types that name none.
        max_output_tokens: of one answer.
        effort: `low` to `max`; empty leaves it to the model.
        retries_max: how often one request is sent again after a cut, a 429 or a 5xx.
        prices: by model name; not empty where there is a key.
        seed: of simulated sessions.
    """

    api_key: str = field(default="", repr=False)
    base_url: str = ""
    model: str = ""
    max_output_tokens: int = 16_000
    effort: str = ""
    retries_max: int = 2
    prices: Mapping[str, Price] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.api_key and not (self.model and self.prices):
            raise SettingsError(
                "There is an API key but no model or no prices, so no spend cap could hold.",
                remedy="Set anthropic.model and anthropic.prices.",
            )
