"""What the headers of a provider's answer say of its limits, in the manner of Anthropic or of OpenAI.

Moments are told by the provider's clock, so they are measured from the `date` of the same answer, and by no
clock of ours. What makes no sense is as if it was not said.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from orchestrator.grant_ports import Headroom

#: Kind of limit → the headers that tell it, what is left of it, and when all of it is back.
_LIMITS = {
    kind: (
        tuple(f"anthropic-ratelimit-{kind}-{what}" for what in ("limit", "remaining", "reset")),
        tuple(f"x-ratelimit-{what}-{kind}" for what in ("limit", "remaining", "reset")),
    )
    for kind in ("requests", "input-tokens", "output-tokens", "tokens")
}

#: A time such as `6m0s` or `120ms`.
_PART = re.compile(r"(\d+(?:\.\d+)?)(d|h|ms|m|s)")
_TIME = re.compile(rf"(?:{_PART.pattern})+")
_UNITS_S = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def headroom_of(headers: Mapping[str, str]) -> dict[str, Headroom]:
    """Return what the headers of an answer say of limits, by kind; names in lower case or of any."""
    found: dict[str, Headroom] = {}
    for kind, manners in _LIMITS.items():
        for limit, remaining, reset in manners:
            with contextlib.suppress(KeyError, ValueError):
                found[kind] = Headroom(
                    limit=int(headers[limit]),
                    remaining=int(headers[remaining]),
                    reset_s=_seconds_until(headers.get(reset, ""), headers),
                )
    return found


def retry_after_s(headers: Mapping[str, str]) -> float:
    """Return how long a refusal asks to wait, in seconds; 0 if it does not say.

    Where it says so by no header of its own, the wait is for the limit of which nothing is left.
    """
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        told = headers.get(name, "")
        with contextlib.suppress(ValueError):
            return _sensible(float(told) * unit_s)
        if seconds := _seconds_until(told, headers):
            return seconds
    spent = (limit.reset_s for limit in headroom_of(headers).values() if limit.remaining <= 0)
    return max(spent, default=0.0)


def _seconds_until(told: str, headers: Mapping[str, str]) -> float:
    """Return how far away a moment is, told as RFC 3339, as an HTTP date, or as the time until then."""
    if _TIME.fullmatch(told):
        return sum(float(count) * _UNITS_S[unit] for count, unit in _PART.findall(told))
    moment, now = _moment(told), _moment(headers.get("date", ""))
    return _sensible((moment - now).total_seconds()) if moment and now else 0.0


def _moment(told: str) -> datetime | None:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        with contextlib.suppress(ValueError, TypeError):
            moment = read(told)
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None


def _sensible(seconds: float) -> float:
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0
