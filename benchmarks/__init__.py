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
        at_most: the bar that the median is held against, in the same unit.
    """

    name: str
    values: tuple[float, ...]
    unit: str
    at_most: float

    @property
    def median(self) -> float:
        """The middle of all runs."""
        return statistics.median(self.values)

    @property
    def is_met(self) -> bool:
        """Whether the figure keeps its bar."""
        return self.median <= self.at_most

    def __str__(self) -> str:
        runs = f"{min(self.values):.3f} to {max(self.values):.3f} in {len(self.values)} runs"
        verdict = "" if self.is_met else "  MISSED"
        return f"{self.name:62} {self.median:8.3f} {self.unit}  ({runs})  bar {self.at_most:g}{verdict}"
