"""Money: whole millionths of a US dollar, so that sums are exact."""

from __future__ import annotations

#: In a US dollar.
MICROS = 1_000_000

#: Largest budget that can be set: a million US dollars.
BUDGET_MICROS_MAX = 1_000_000 * MICROS
