"""What headers say of limits: both manners, every way to tell a time, and nonsense."""

from __future__ import annotations

import pytest

from orchestrator.grant_ports import Headroom
from orchestrator.sessions.rate_headers import headroom_of, retry_after_s

DATE = {"date": "Sat, 21 Nov 2026 10:00:00 GMT"}


def test_limits_of_both_manners_are_understood_and_nonsense_is_passed_over() -> None:
    assert headroom_of(
        DATE
        | {
            "anthropic-ratelimit-requests-limit": "50",
            "anthropic-ratelimit-requests-remaining": "49",
            "anthropic-ratelimit-requests-reset": "2026-11-21T10:00:02Z",
            "anthropic-ratelimit-input-tokens-limit": "40000",
            "anthropic-ratelimit-input-tokens-remaining": "39000",
            "anthropic-ratelimit-input-tokens-reset": "soon",
            "anthropic-ratelimit-output-tokens-limit": "many",
            "anthropic-ratelimit-output-tokens-remaining": "1",
            "x-ratelimit-limit-tokens": "9",
        }
    ) == {
        "requests": Headroom(limit=50, remaining=49, reset_s=2.0),
        "input-tokens": Headroom(limit=40000, remaining=39000),
    }
    assert headroom_of(
        {
            "x-ratelimit-limit-tokens": "9",
            "x-ratelimit-remaining-tokens": "8",
            "x-ratelimit-reset-tokens": "6m0.5s",
        }
    ) == {"tokens": Headroom(limit=9, remaining=8, reset_s=360.5)}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "", "retry-after": "2"}, 2.0),
        ({**DATE, "retry-after": "Sat, 21 Nov 2026 10:01:30 GMT"}, 90.0),
        ({**DATE, "retry-after": "Sat, 21 Nov 2026 11:01:30 +0100"}, 90.0),
        ({**DATE, "retry-after": "2026-11-21T10:00:04Z"}, 4.0),
        ({"retry-after": "120ms"}, 0.12),
        ({"retry-after": "Sat, 21 Nov 2099 10:01:30 GMT"}, 0.0),  # by which clock?
        ({**DATE, "retry-after": "Sat, 21 Nov 2026 09:00:00 GMT"}, 0.0),
        *(({"retry-after": nonsense}, 0.0) for nonsense in ("-1", "tomorrow", "nan", "inf", "")),
    ],
)
def test_how_long_to_wait_is_told_in_many_ways(headers: dict[str, str], seconds: float) -> None:
    assert retry_after_s(headers) == pytest.approx(seconds)


def test_without_a_time_the_wait_is_for_the_limit_that_is_used_up() -> None:
    headers = DATE | {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "20",
        "anthropic-ratelimit-requests-reset": "2026-11-21T10:05:00Z",
        "anthropic-ratelimit-input-tokens-limit": "40000",
        "anthropic-ratelimit-input-tokens-remaining": "0",
        "anthropic-ratelimit-input-tokens-reset": "2026-11-21T10:00:40Z",
    }
    assert retry_after_s(headers) == 40.0
    assert retry_after_s({**headers, "retry-after": "3"}) == 3.0
