"""What the vendor's price list says of each model; it changes when they change it."""

from __future__ import annotations

#: Year and month of the list below.
PRICES_AS_OF = "2026-11"

#: US dollars per million tokens: input, output, cache read, cache write (5 minutes). Defaults:
#: check them against the price list of the day, override them in `anthropic.prices`. Haiku 5.5 is billed in
#: two bands by prompt length; the row is the upper one, so that a budget is never overrun unnoticed.
LIST_PRICES: dict[str, tuple[float, float, float, float]] = {
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
