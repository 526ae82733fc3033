"""What the session backends need to know; built once from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator import settings as settings_module
from orchestrator.errors import SettingsError
from orchestrator.ports import MICROS
from orchestrator.sessions.pricing import Price
from orchestrator.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig:
    """Values of the settings for sessions.

    Attributes:
        api_key: key of the Messages API; empty means there is no `anthropic` backend. Never shown in a repr.
        base_url: address of the Messages API; empty takes the vendor's.
        model: for agent types that name none.
        max_output_tokens: of one answer.
        thinking, effort: whether and how hard it thinks; empty leaves it to the model.
        conversation_tokens: from this size on, old tool results are cleared from a conversation.
        retries_max: how often one request is sent again after a cut, a 429 or a 5xx.
        prices: by model name; not empty where there is a key.
        seed: of simulated sessions.
    """

    api_key: str = field(default="", repr=False)
    base_url: str = ""
    model: str = ""
    max_output_tokens: int = 16_000
    thinking: str = ""
    effort: str = ""
    conversation_tokens: int = 120_000
    retries_max: int = 2
    prices: Mapping[str, Price] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.api_key and not (self.model and self.prices):
            raise SettingsError(
                "There is an API key but no model or no prices, so no spend cap could hold.",
                remedy="Set anthropic.model and anthropic.prices.",
            )


def session_config(settings: Settings) -> SessionConfig:
    """Build what the backends need from the settings."""
    claude = settings.anthropic
    return SessionConfig(
        api_key=claude.api_key.get_secret_value(),
        base_url=claude.base_url,
        model=claude.model,
        max_output_tokens=claude.max_output_tokens,
        thinking=claude.thinking,
        effort=claude.effort,
        conversation_tokens=claude.conversation_tokens,
        prices={name: _price(price) for name, price in claude.prices.items()},
        seed=settings.retry.seed,
    )


def _price(usd: settings_module.Price) -> Price:
    return Price(**{name: round(value * MICROS) for name, value in usd.model_dump().items()})
