"""Durations and priorities."""

from __future__ import annotations

import pytest

from orchestrator.plan.amounts import HOUR_MS, MINUTE_MS, SECOND_MS, duration_ms, is_duration, priority_of


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("4h", 4),
        ("1.5 hours", 1.5),
        ("1,5h", 1.5),
        ("30min", 0.5),
        ("15 min", 0.25),
        ("2d", 16),
        ("5 days", 40),
        ("1 week", 40),
        ("2 days, 16 hours", 16),
        ("16 hours / 2 days", 16),
        ("1h 30min", 1.5),
        ("1 day and 4 hours", 12),
        ("5-7 days", 56),
        ("~4 hours (estimated)", 4),
        ("34 points", 34),
    ],
)
def test_durations(text: str, hours: float) -> None:
    assert duration_ms(text) == hours * HOUR_MS


@pytest.mark.parametrize("text", ["soon", "", "12", "3 months", "100%"])
def test_what_is_no_duration(text: str) -> None:
    assert duration_ms(text) is None


def test_a_bare_number_takes_the_unit_of_its_field() -> None:
    assert duration_ms("4", default_unit="h") == 4 * HOUR_MS
    assert duration_ms("34 (epic)", default_unit="point") == 34 * HOUR_MS
    assert duration_ms("90s") == 90 * SECOND_MS
    assert duration_ms("2 m") == 2 * MINUTE_MS


@pytest.mark.parametrize(
    "text", ["4h", "15 min", "2 days, 16 hours", "1.5h", "10 days", "~3 hours", "5 points"]
)
def test_brackets_with_a_duration(text: str) -> None:
    assert is_duration(text)


@pytest.mark.parametrize(
    "text", ["32 initial shards", "12 tasks", "5m", "Weeks 1-2", "4h of sleep", "HA", "100%"]
)
def test_brackets_without(text: str) -> None:
    assert not is_duration(text)


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("P0 (CRITICAL)", 0),
        ("P1 - High", 1),
        ("P0-P1 Mixed", 0),
        ("P2/P1", 1),
        ("critical", 0),
        ("High", 1),
        ("medium", 2),
        ("🟢 low", 3),
        ("P4", 4),
        ("P5", None),
        ("soon", None),
    ],
)
def test_priorities(text: str, level: int | None) -> None:
    assert priority_of(text) == level
