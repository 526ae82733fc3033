"""Costs in whole micros."""

from __future__ import annotations

import pytest

from orchestrator.ports import Usage
from orchestrator.sessions.pricing import Price, cost_micros, price_of
from tests.support.sessions import MODEL, PRICES

MILLION = 1_000_000


@pytest.mark.parametrize(
    ("usage", "usd"),
    [
        (Usage(input_tokens=MILLION), 2),
        (Usage(output_tokens=MILLION), 10),
        (Usage(cache_read_tokens=MILLION), 0.10),
        (Usage(cache_write_tokens=MILLION), 2.50),
        (Usage(input_tokens=1_000, output_tokens=100, cache_read_tokens=10_000), 0.004),
    ],
)
def test_cost(usage, usd):
    assert cost_micros(PRICES[MODEL], usage) == round(usd * MILLION)


def test_cost_is_rounded_up():
    price = Price(input=1, output=1, cache_read=1, cache_write=1)
    assert cost_micros(price, Usage(input_tokens=1)) == 1
    assert cost_micros(price, Usage()) == 0


def test_an_unknown_model_costs_the_most():
    assert price_of(MODEL, PRICES) == (PRICES[MODEL], True)
    assert price_of("mystery", PRICES) == (PRICES["claude-fable-5"], False)


def test_a_model_named_with_the_day_of_its_release_costs_what_it_does_without():
    assert price_of(f"{MODEL}-20261021", PRICES) == (PRICES[MODEL], True)
    assert price_of(f"{MODEL}-2026", PRICES).is_known is False
