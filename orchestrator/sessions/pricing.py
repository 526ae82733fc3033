"""What a model costs: a dated price table, and the cost of one request.

Prices are millionths of a US dollar per million tokens, so all arithmetic is in whole numbers. The table is
of `PRICES_DATE` (platform.claude.com/docs, model pricing; cache writes are the five-minute kind). Rule: an
unknown model costs what the dearest known one costs, so a spend cap never holds too late.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from orchestrator.ports import Usage

PRICES_DATE = "2026-11-20"
_TOKENS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Price of one model in micros (millionths of a US dollar) per million tokens.

    Attributes:
        long_prompt_tokens: prompts of more tokens than this (cache reads and writes included) make the whole
            request dearer; 0 when the length does not matter.
        long_prompt_factor: how many times dearer.
    """

    input: int
    output: int
    cache_read: int
    cache_write: int
    long_prompt_tokens: int = 0
    long_prompt_factor: int = 1


def _price(input_usd: str, output_usd: str, read_usd: str, write_usd: str) -> Price:
    """Build a price from US dollars per million tokens as the price list prints them."""
    micros = [round(float(usd) * 1_000_000) for usd in (input_usd, output_usd, read_usd, write_usd)]
    return Price(input=micros[0], output=micros[1], cache_read=micros[2], cache_write=micros[3])


_FABLE_5 = _price("10", "50", "1", "12.50")
_FABLE_5_1 = _price("10", "50", "0.25", "12.50")
_OPUS_4_5 = _price("5", "25", "0.50", "6.25")
_SONNET_4_5 = _price("3", "15", "0.30", "3.75")
_HAIKU_4_5 = _price("1", "5", "0.10", "1.25")

PRICES: Mapping[str, Price] = {
    "claude-fable-5-1": _FABLE_5_1,
    "claude-mythos-5-1": _FABLE_5_1,
    "claude-fable-5": _FABLE_5,
    "claude-mythos-5": _FABLE_5,
    "claude-opus-5-5": _price("4", "20", "0.20", "5"),
    "claude-opus-5": _OPUS_4_5,
    "claude-opus-4-8": _OPUS_4_5,
    "claude-opus-4-7": _OPUS_4_5,
    "claude-opus-4-6": _OPUS_4_5,
    "claude-opus-4-5": _OPUS_4_5,
    "claude-opus-4-5-20251101": _OPUS_4_5,
    "claude-sonnet-5-5": _price("2", "10", "0.10", "2.50"),
    "claude-sonnet-5": _price("2", "10", "0.20", "2.50"),
    "claude-sonnet-4-6": _SONNET_4_5,
    "claude-sonnet-4-5": _SONNET_4_5,
    "claude-sonnet-4-5-20250929": _SONNET_4_5,
    "claude-haiku-5-5": Price(
        input=100_000,
        output=500_000,
        cache_read=10_000,
        cache_write=125_000,
        long_prompt_tokens=100_000,
        long_prompt_factor=5,
    ),
    "claude-haiku-4-5": _HAIKU_4_5,
    "claude-haiku-4-5-20251001": _HAIKU_4_5,
}


class PriceFound(NamedTuple):
    """A price and whether the table really has the model."""

    price: Price
    is_known: bool


def price_of(model: str, prices: Mapping[str, Price]) -> PriceFound:
    """Return the price of `model`, or the dearest of the table for a model that is not in it."""
    if model in prices:
        return PriceFound(prices[model], is_known=True)
    return PriceFound(
        max(prices.values(), key=lambda price: (price.output, price.cache_read)), is_known=False
    )


def cost_micros(price: Price, usage: Usage) -> int:
    """Return the cost of one request in micros, rounded up.

    Args:
        price: of the model that answered.
        usage: tokens of this one request; its own `cost_micros` is not looked at.
    """
    prompt_tokens = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    is_long = 0 < price.long_prompt_tokens < prompt_tokens
    total = (
        usage.input_tokens * price.input
        + usage.output_tokens * price.output
        + usage.cache_read_tokens * price.cache_read
        + usage.cache_write_tokens * price.cache_write
    ) * (price.long_prompt_factor if is_long else 1)
    return -(-total // _TOKENS)
