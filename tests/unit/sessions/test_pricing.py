"""Costs in whole micros."""

from __future__ import annotations

import pytest

from orchestrator.ports import Usage
from orchestrator.sessions.pricing import PRICES, Price, cost_micros, price_of

MILLION = 1_000_000


@pytest.mark.parametrize(
    ("model", "usage", "usd"),
    [
        ("claude-opus-5-5", Usage(input_tokens=MILLION), 4),
        ("claude-opus-5-5", Usage(output_tokens=MILLION), 20),
        ("claude-opus-5-5", Usage(cache_read_tokens=MILLION), 0.20),
        ("claude-opus-5-5", Usage(cache_write_tokens=MILLION), 5),
        ("claude-haiku-5-5", Usage(input_tokens=100_000, output_tokens=MILLION), 0.01 + 0.50),
        ("claude-haiku-5-5", Usage(input_tokens=1, cache_read_tokens=100_000), 0.005),
    ],
)
def test_cost(model, usage, usd):
    assert cost_micros(PRICES[model], usage) == pytest.approx(usd * MILLION, abs=1)


def test_cost_is_rounded_up():
    price = Price(input=1, output=1, cache_read=1, cache_write=1)
    assert cost_micros(price, Usage(input_tokens=1)) == 1
    assert cost_micros(price, Usage()) == 0


def test_an_unknown_model_costs_the_most():
    found = price_of("mystery", PRICES)
    assert not found.is_known
    assert all(
        found.price.output >= price.output and found.price.input >= price.input for price in PRICES.values()
    )
    assert price_of("claude-opus-5", PRICES).is_known
