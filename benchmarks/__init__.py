"""Figures of this machine: one module per subject, each with `measure()`, run by `python -m benchmarks`."""

from __future__ import annotations

import statistics
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured number.

    Attributes:
        name: what was measured, and at which size.
        values: of every run, in `unit`.
        at_most, at_least: the bar that the median is held against, in the same unit; none = for information.
    """

    name: str
    values: tuple[float, ...]
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def median(self) -> float:
        """The middle of all runs."""
        return statistics.median(self.values)

    @property
    def is_met(self) -> bool:
        """Whether the figure keeps its bar."""
        is_low = self.at_most is None or self.median <= self.at_most
        is_high = self.at_least is None or self.median >= self.at_least
        return is_low and is_high

    def __str__(self) -> str:
        runs = f"{min(self.values):,.3f} to {max(self.values):,.3f} in {len(self.values)} runs"
        bar = "" if self.at_most is None else f"  bar at most {self.at_most:,g}"
        bar += "" if self.at_least is None else f"  bar at least {self.at_least:,g}"
        verdict = "" if self.is_met else "  MISSED"
        return f"{self.name:62} {self.median:10,.3f} {self.unit}  ({runs}){bar}{verdict}"
