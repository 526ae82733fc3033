"""Keeping leases alive, and ending sessions whose lease cannot be trusted any more.

It renews in a thread of its own with a connection of its own, so that a stuck event loop neither stops the
renewals nor keeps a fenced session alive; and fences in another thread, so that a renewal to which nobody
answers keeps none alive either. A lease is trusted until the moment the last good renewal was sent, plus its
duration, less a margin.
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
    """The leases of one executor.

    Args:
        on_cancel: called from a thread of ours with (token, reason) when a cancel is wished.
        on_fenced: called from a thread of ours with a token that is not ours any more, or not surely; it
            ends the session's processes without the help of the event loop, and does not wait for them.
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

    def start(self) -> None:
        """Start both threads."""
        beat_s = self._settings.beat_s
        for name, every_s, work in (
            ("lease-renewal", beat_s, self.beat),
            ("lease-fencing", min(1.0, beat_s), self.fence_overdue),
        ):
            threading.Thread(target=self._repeat, args=(every_s, work), name=name, daemon=True).start()

    def stop(self) -> None:
        """Stop the threads; leases run out by themselves."""
        self._stopping.set()

    def hold(self, token: int) -> None:
        """Keep the lease of a token from now on."""
        with self._lock:
            self._trusted_until[token] = self._clock_s() + self._settings.ttl_s - self._settings.margin_s

    def holds(self, token: int) -> bool:
        """Tell whether a lease is kept, and can still be trusted."""
        with self._lock:
            return self._clock_s() < self._trusted_until.get(token, float("-inf"))

    def release(self, token: int) -> None:
        """Stop keeping a lease."""
        with self._lock:
            self._trusted_until.pop(token, None)

    def _repeat(self, every_s: float, work: Callable[[], None]) -> None:
        while not self._stopping.wait(every_s):
            try:
                work()
            except Exception:  # a thread that ended here would let every session run on unfenced
                log.exception("leases were not looked after")

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
