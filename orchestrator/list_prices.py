"""What the price lists of the vendors say of each model; they change when the vendors change them."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from typing import TypeAlias

#: Model → US dollars per million tokens: input, output, cache read, cache write.
ListPrices: TypeAlias = Mapping[str, tuple[float, float, float, float]]

_RELEASE_DAY = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2})$")

#: Year and month of the lists below.
PRICES_AS_OF = "2026-11"

#: Claude; cache writes for 5 minutes. Defaults: check them against the price list of the day, override them
#: in `anthropic.prices`. Haiku 5.5 is billed in two bands by prompt length; the row is the upper one, so that
#: a budget is never overrun unnoticed.
LIST_PRICES: ListPrices = {
    "claude-fable-5-1": (10.0, 50.0, 0.25, 12.5),
    "claude-fable-5": (10.0, 50.0, 1.0, 12.5),
    "claude-mythos-5-1": (10.0, 50.0, 0.25, 12.5),
    "claude-mythos-5": (10.0, 50.0, 1.0, 12.5),
    "claude-opus-5-5": (4.0, 20.0, 0.2, 5.0),
    "claude-opus-5": (5.0, 25.0, 0.5, 6.25),
    "claude-opus-4-8": (5.0, 25.0, 0.5, 6.25),
    "claude-opus-4-7": (5.0, 25.0, 0.5, 6.25),
    "claude-opus-4-6": (5.0, 25.0, 0.5, 6.25),
    "claude-opus-4-5": (5.0, 25.0, 0.5, 6.25),
    "claude-sonnet-5-5": (2.0, 10.0, 0.1, 2.5),
    "claude-sonnet-5": (2.0, 10.0, 0.2, 2.5),
    "claude-sonnet-4-6": (3.0, 15.0, 0.3, 3.75),
    "claude-sonnet-4-5": (3.0, 15.0, 0.3, 3.75),
    "claude-haiku-5-5": (0.5, 2.5, 0.05, 0.625),
    "claude-haiku-4-5": (1.0, 5.0, 0.1, 1.25),
}

#: Models of OpenAI, for prompts of up to 272,000 tokens; where writing to the cache costs nothing of its own,
#: it costs what input does. Defaults: check them, override them in `openai.prices`, and add what another
#: endpoint serves.
OPENAI_LIST_PRICES: ListPrices = {
    "gpt-6-astra": (10.0, 50.0, 1.0, 12.5),
    "gpt-6.1-sol": (2.0, 10.0, 0.1, 2.5),
    "gpt-6-sol": (2.0, 10.0, 0.2, 2.5),
    "gpt-6-luna": (0.1, 0.5, 0.01, 0.125),
    "gpt-5.6-sol": (5.0, 30.0, 0.5, 6.25),
    "gpt-5.6-terra": (2.0, 12.0, 0.2, 2.5),
    "gpt-5.6-luna": (0.2, 1.2, 0.02, 0.25),
    "gpt-5.5": (5.0, 30.0, 0.5, 5.0),
    "gpt-5.4": (2.5, 15.0, 0.25, 2.5),
    "gpt-5.4-mini": (0.75, 4.5, 0.075, 0.75),
}


def listed_name(model: str, prices: Container[str]) -> str:
    """Return the name by which a price list has a model; empty if it does not.

    One named with the day of its release, such as `claude-haiku-4-5-20251001`, is the one without.
    """
    return next((name for name in (model, _RELEASE_DAY.sub("", model)) if name in prices), "")
