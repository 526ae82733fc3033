"""Figures of this machine: one module per subject, each with `measure()`, run by `python -m benchmarks`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured number.

    Attributes:
        name: what was measured, and at which size.
        value: in `unit`.
        at_most: the bar it is held against, in the same unit.
    """

    name: str
    value: float
    unit: str
    at_most: float

    @property
    def is_met(self) -> bool:
        """Whether the figure keeps its bar."""
        return self.value <= self.at_most
