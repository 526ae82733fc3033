"""Keeping leases alive, and ending sessions whose lease cannot be trusted any more.

It runs in a thread of its own with a connection of its own, so that a stuck event loop neither stops the
renewals nor keeps a fenced session alive. A lease is trusted until the moment the last good renewal was sent,
plus its duration, less a margin.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from orchestrator.errors import DatabaseUnavailable

log = structlog.get_logger(__name__)


class Renewer(Protocol):
    """Renews leases; see store/executors.py."""

    def renew(self, tokens: Sequence[int]) -> dict[int, str | None]:
        """Return the tokens still ours, with the reason if a cancel is wished. Raises DatabaseUnavailable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSettings:
    """Durations in seconds; see settings.Leases."""

    ttl_s: float = 120.0
    beat_s: float = 15.0
    margin_s: float = 15.0


class Renewal:
    """The renewing thread of one executor.

    Args:
        on_cancel: called from the thread with (token, reason) when a cancel is wished.
        on_fenced: called from the thread with a token that is not ours any more, or not surely; it must
            end the session's processes without the help of the event loop.
    """

    def __init__(
        self,
        *,
        renewer: Renewer,
        settings: LeaseSettings,
        on_cancel: Callable[[int, str], None],
        on_fenced: Callable[[int], None],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._renewer = renewer
        self._settings = settings
        self._on_cancel = on_cancel
        self._on_fenced = on_fenced
        self._clock_s = clock_s
        self._trusted_until: dict[int, float] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease-renewal", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; leases run out by themselves."""
        self._stopping.set()

    def hold(self, token: int) -> None:
        """Keep the lease of a token from now on."""
        with self._lock:
            self._trusted_until[token] = self._clock_s() + self._settings.ttl_s - self._settings.margin_s

    def release(self, token: int) -> None:
        """Stop keeping a lease."""
        with self._lock:
            self._trusted_until.pop(token, None)

    def _run(self) -> None:
        pause_s = min(1.0, self._settings.beat_s)
        next_s = self._clock_s() + self._settings.beat_s
        while not self._stopping.wait(pause_s):
            if self._clock_s() >= next_s:
                next_s = self._clock_s() + self._settings.beat_s
                self.beat()
            self.fence_overdue()

    def beat(self) -> None:
        """Renew everything once."""
        with self._lock:
            tokens = list(self._trusted_until)
        if not tokens:
            return
        sent_s = self._clock_s()
        try:
            ours = self._renewer.renew(tokens)
        except DatabaseUnavailable as error:
            log.warning("leases were not renewed", tokens=len(tokens), reason=str(error))
            return
        trusted_until = sent_s + self._settings.ttl_s - self._settings.margin_s
        with self._lock:
            lost = [token for token in tokens if token not in ours and token in self._trusted_until]
            for token in ours:
                if token in self._trusted_until:
                    self._trusted_until[token] = trusted_until
        for token in lost:
            self._fence(token)
        for token, reason in ours.items():
            if reason is not None:
                self._on_cancel(token, reason)

    def fence_overdue(self) -> None:
        """End every session whose lease can no longer be trusted."""
        now_s = self._clock_s()
        with self._lock:
            overdue = [token for token, until_s in self._trusted_until.items() if now_s >= until_s]
        for token in overdue:
            self._fence(token)

    def _fence(self, token: int) -> None:
        self.release(token)
        log.warning("lease is not ours any more", token=token)
        self._on_fenced(token)
