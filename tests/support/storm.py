"""A storm of refusals: a scenario of the local Messages API that for a while takes nothing."""

from __future__ import annotations

import threading
import time
from collections import Counter

from tests.support.messages_api import Reply, Request, call, done

_PATIENCE_S = 300.0

#: Turns of each session.
TURNS = 3


class Storm:
    """Answers turns with tool calls; from the given request on it refuses everything for a while.

    Args:
        from_request: how many requests are answered before it.
        together: how many sessions must have asked before any of them is answered.

    Attributes:
        refused, accepted: when, in seconds of the monotonic clock.
    """

    def __init__(self, *, from_request: int, lasts_s: float, refusal: Reply, together: int = 0) -> None:
        self._from_request = from_request
        self._lasts_s = lasts_s
        self._refusal = refusal
        self._together = together
        self._asked: set[str] = set()
        self._all_asked = threading.Event()
        self.began_s = self.ends_s = float("inf")
        self.refused: list[float] = []
        self.accepted: list[float] = []

    def __call__(self, request: Request) -> Reply:
        self._asked.add(request.task)
        if len(self._asked) >= self._together:
            self._all_asked.set()
        self._all_asked.wait(_PATIENCE_S)
        now_s = time.monotonic()
        if len(self.accepted) >= self._from_request and now_s < self.began_s:
            self.began_s, self.ends_s = now_s, now_s + self._lasts_s
        if self.began_s <= now_s < self.ends_s:
            self.refused.append(now_s)
            return self._refusal
        self.accepted.append(now_s)
        if request.turn < TURNS - 1:
            return Reply([call("read_file", path="seen.txt")])
        return Reply([done()])

    def afterwards(self) -> list[int]:
        """Return how many requests came in each second after the end of the storm."""
        after = Counter(int(moment - self.ends_s) for moment in self.accepted if moment >= self.ends_s)
        return [after[second] for second in range(max(after, default=-1) + 1)]
