"""The only place that asks what time it is."""

from __future__ import annotations

import time


class Clock:
    """Database time at the start plus our own monotonic clock, in milliseconds.

    Jumps of the machine's wall clock change nothing.
    """

    def __init__(self) -> None:
        self._base_ms = 0.0

    def start(self, now_ms: int) -> None:
        """Set the clock by the database's."""
        self._base_ms = now_ms - time.monotonic() * 1000

    def now_ms(self) -> int:
        """Return the time in milliseconds since 1970."""
        return int(self._base_ms + time.monotonic() * 1000)

    @staticmethod
    def monotonic_s() -> float:
        """Return seconds that only grow."""
        return time.monotonic()
