"""What a model costs: prices by model, and the cost of one request.

Prices are millionths of a US dollar per million tokens, so all arithmetic is in whole numbers; the dated list
is in the settings. Rule: an unknown model costs what the dearest known one costs, so that a spend cap never
holds too late.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from orchestrator.list_prices import listed_name
from orchestrator.ports import Usage

_TOKENS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Price of one model in micros (millionths of a US dollar) per million tokens."""

    input: int
    output: int
    cache_read: int
    cache_write: int


class PriceFound(NamedTuple):
    """A price, and whether the list really has the model."""

    price: Price
    is_known: bool


def price_of(model: str, prices: Mapping[str, Price]) -> PriceFound:
    """Return the price of `model`, or the dearest of the list for a model that is not in it."""
    if name := listed_name(model, prices):
        return PriceFound(prices[name], is_known=True)
    dearest = max(prices.values(), key=lambda price: (price.output, price.input, price.cache_read))
    return PriceFound(dearest, is_known=False)


def cost_micros(price: Price, usage: Usage) -> int:
    """Return the cost of one request in micros, rounded up.

    Args:
        price: of the model that answered.
        usage: tokens of this one request; its own `cost_micros` is not looked at.
    """
    total = (
        usage.input_tokens * price.input
        + usage.output_tokens * price.output
        + usage.cache_read_tokens * price.cache_read
        + usage.cache_write_tokens * price.cache_write
    )
    return -(-total // _TOKENS)
