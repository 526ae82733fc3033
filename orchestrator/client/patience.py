"""When a call is sent again: after what may pass by itself, growing slower, for a bounded time.

A value without clock or sleep; the clients do the waiting.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.errors import OrchestratorError, Overloaded

FIRST_DELAY_S = 0.1
DELAY_MAX_S = 5.0


@dataclass(slots=True, kw_only=True)
class Patience:
    """How long one call, or one stream that broke, has been waited for.

    Attributes:
        total_s: waiting in total after which the error is passed on; infinite for a stream.
    """

    total_s: float
    waited_s: float = 0.0
    next_s: float = FIRST_DELAY_S

    def delay_s(self, error: OrchestratorError) -> float:
        """Return how long to wait before sending again; raises `error` when waiting is no use any more."""
        if not error.retryable or self.waited_s >= self.total_s:
            raise error
        asked_s = error.retry_after_s if isinstance(error, Overloaded) else 0.0
        delay_s = min(max(self.next_s, asked_s), DELAY_MAX_S)
        self.next_s = min(self.next_s * 2, DELAY_MAX_S)
        self.waited_s += delay_s
        return delay_s

    def renew(self) -> None:
        """Start afresh, because something arrived."""
        self.waited_s = 0.0
        self.next_s = FIRST_DELAY_S
