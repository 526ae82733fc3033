"""What the session backends need to know of the models of each provider; built once from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator import settings as settings_module
from orchestrator.errors import SettingsError
from orchestrator.money import MICROS
from orchestrator.sessions.pricing import Price
from orchestrator.settings import ANTHROPIC, OPENAI, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig:
    """Values of the settings for sessions with the models of one provider.

    Attributes:
        api_key: key of the API; empty means there is no backend with its models. Never shown in a repr.
        base_url: address of the API; empty takes the vendor's.
        model: for agent types that name none.
        max_output_tokens: of one answer.
        thinking, effort: whether and how hard it thinks; empty leaves it to the model.
        conversation_tokens: from this size on, old tool results are cleared from a conversation, if the
            service can; half as much again, and it is handed over to a new one.
        retries_max: how often one request is sent again after a cut, a 429 or a 5xx.
        prices: by model name; not empty where there is a key.
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

    def __post_init__(self) -> None:
        if self.api_key and not (self.model and self.prices):
            raise SettingsError(
                "There is an API key but no model or no prices, so no spend cap could hold.",
                remedy="Set `model` and `prices` beside it.",
            )


def session_configs(settings: Settings) -> dict[str, SessionConfig]:
    """Return what sessions need by provider, for those for whose models there is a key."""
    made = {ANTHROPIC: _anthropic_config, OPENAI: _openai_config}
    return {provider: made[provider](settings) for provider in settings.credentials}


def _anthropic_config(settings: Settings) -> SessionConfig:
    claude = settings.anthropic
    return SessionConfig(
        api_key=claude.api_key.get_secret_value(),
        base_url=claude.base_url,
        model=claude.model,
        max_output_tokens=claude.max_output_tokens,
        thinking=claude.thinking,
        effort=claude.effort,
        conversation_tokens=claude.conversation_tokens,
        prices=_prices(claude.prices),
    )


def _openai_config(settings: Settings) -> SessionConfig:
    other = settings.openai
    return SessionConfig(
        api_key=other.api_key.get_secret_value(),
        base_url=other.base_url,
        model=other.model,
        max_output_tokens=other.max_output_tokens,
        effort=other.effort,
        conversation_tokens=other.conversation_tokens,
        prices=_prices(other.prices),
    )


def _prices(listed: Mapping[str, settings_module.Price]) -> dict[str, Price]:
    return {
        model: Price(**{name: round(usd * MICROS) for name, usd in price.model_dump().items()})
        for model, price in listed.items()
    }
