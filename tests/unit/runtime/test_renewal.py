"""Leases: how long they are trusted, who is told, and that nothing that hangs keeps a lost one alive."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from orchestrator.errors import DatabaseUnavailable
from orchestrator.runtime.renewal import LeaseSettings, Renewal

SETTINGS = LeaseSettings(ttl_s=120, beat_s=15, margin_s=15)
QUICK = LeaseSettings(ttl_s=0.4, beat_s=0.02, margin_s=0.1)


class Renewer:
    """The leases' table. `during` runs while a renewal is on its way."""

    def __init__(self) -> None:
        self.ours: dict[int, str | None] = {}
        self.asked: list[list[int]] = []
        self.is_away = False
        self.during: Callable[[], None] = lambda: None

    def renew(self, tokens: Sequence[int]) -> dict[int, str | None]:
        self.asked.append(sorted(tokens))
        self.during()
        if self.is_away:
            raise DatabaseUnavailable("The database does not answer.")
        return {token: self.ours[token] for token in tokens if token in self.ours}


class Stage:
    """A renewal on a clock that stands still until it is moved."""

    def __init__(
        self, settings: LeaseSettings = SETTINGS, clock_s: Callable[[], float] | None = None
    ) -> None:
        self.now_s = 1000.0
        self.renewer = Renewer()
        self.cancels: list[tuple[int, str]] = []
        self.fenced: list[int] = []
        self.has_fenced = threading.Event()
        self.renewal = Renewal(
            renewer=self.renewer,
            settings=settings,
            on_cancel=lambda token, reason: self.cancels.append((token, reason)),
            on_fenced=self.fence,
            clock_s=clock_s or (lambda: self.now_s),
        )

    def fence(self, token: int) -> None:
        self.fenced.append(token)
        self.has_fenced.set()

    def hold(self, *tokens: int) -> None:
        for token in tokens:
            self.renewer.ours[token] = None
            self.renewal.hold(token)

    def after(self, seconds: float) -> list[int]:
        """Return what is fenced after so many seconds."""
        self.now_s += seconds
        self.renewal.fence_overdue()
        return self.fenced


def test_a_lease_is_trusted_for_its_duration_less_the_margin() -> None:
    stage = Stage()
    stage.hold(1)
    assert stage.after(104.9) == []
    assert stage.after(0.1) == [1]
    assert stage.after(1000) == [1]  # once


def test_a_lease_is_held_for_as_long_as_it_is_trusted() -> None:
    stage = Stage()
    assert not stage.renewal.holds(1)
    stage.hold(1)
    stage.now_s += 104.9
    assert stage.renewal.holds(1)
    stage.now_s += 0.1
    assert not stage.renewal.holds(1)  # before anybody has come to fence it


def test_a_renewal_counts_from_when_it_was_sent_not_from_when_it_was_answered() -> None:
    stage = Stage()
    stage.hold(1)
    stage.now_s += 50

    def slow() -> None:
        stage.now_s += 20

    stage.renewer.during = slow
    stage.renewal.beat()
    assert stage.after(84.9) == []  # 20 + 84.9 < 105
    assert stage.after(0.1) == [1]


def test_a_renewal_that_failed_counts_for_nothing() -> None:
    stage = Stage()
    stage.hold(1)
    stage.now_s += 100
    stage.renewer.is_away = True
    stage.renewal.beat()
    assert stage.after(4.9) == []
    assert stage.after(0.1) == [1]


def test_an_outage_of_the_database_under_90_s_fences_nothing() -> None:
    stage = Stage()
    stage.hold(1)
    stage.renewal.beat()
    stage.renewer.is_away = True
    for _ in range(6):  # 90 s without a renewal
        stage.now_s += 15
        stage.renewal.beat()
        stage.renewal.fence_overdue()
    stage.renewer.is_away = False
    stage.renewal.beat()
    assert stage.after(100) == []


def test_a_lease_that_is_not_ours_any_more_is_fenced_at_once() -> None:
    stage = Stage()
    stage.hold(1, 2)
    del stage.renewer.ours[1]
    stage.renewal.beat()
    assert stage.fenced == [1]
    stage.renewal.beat()
    assert stage.renewer.asked == [[1, 2], [2]]


def test_a_lease_released_while_it_is_renewed_is_neither_fenced_nor_kept() -> None:
    stage = Stage()
    stage.hold(1, 2)
    del stage.renewer.ours[1]

    def released() -> None:
        stage.renewal.release(1)
        stage.renewal.release(2)

    stage.renewer.during = released
    stage.renewal.beat()
    assert stage.after(1000) == []


def test_a_wish_to_cancel_is_passed_on_and_the_lease_is_kept() -> None:
    stage = Stage()
    stage.hold(1, 2)
    stage.renewer.ours[1] = "by request"
    stage.now_s += 60
    stage.renewal.beat()
    assert stage.cancels == [(1, "by request")]
    assert stage.after(100) == []


def test_nothing_held_asks_nothing() -> None:
    stage = Stage()
    stage.hold(1)
    stage.renewal.release(1)
    stage.renewal.beat()
    assert stage.renewer.asked == []


# --- threads


@pytest.fixture
def quick() -> Iterator[Stage]:
    stage = Stage(QUICK, time.monotonic)
    yield stage
    stage.renewal.stop()


async def test_leases_are_renewed_and_fenced_while_the_event_loop_is_blocked() -> None:
    stage, renewed = Stage(QUICK), threading.Event()

    def a_while() -> None:
        stage.now_s += QUICK.beat_s
        if stage.now_s > began_s + 2 * QUICK.ttl_s:
            renewed.set()

    began_s = stage.now_s
    stage.renewer.during = a_while
    stage.hold(1)
    stage.renewal.start()
    assert renewed.wait(60)  # this blocks the loop, for longer than a lease is trusted
    assert stage.fenced == []
    stage.renewer.ours.clear()
    assert stage.has_fenced.wait(60)
    assert stage.fenced == [1]
    stage.renewal.stop()


def test_a_renewal_that_gets_no_answer_keeps_no_lease_alive(quick: Stage) -> None:
    answer = threading.Event()
    quick.renewer.during = lambda: answer.wait(120) and None
    quick.hold(1)
    quick.renewal.start()
    assert quick.has_fenced.wait(60)
    assert len(quick.renewer.asked) == 1
    answer.set()


def test_what_goes_wrong_in_one_round_does_not_end_the_next() -> None:
    again = threading.Event()
    stage = Stage(QUICK)  # its clock stands still, so the lease is trusted however long a round takes

    def broken() -> None:
        if len(stage.renewer.asked) > 1:
            again.set()
        raise RuntimeError("a defect")

    stage.renewer.during = broken
    stage.hold(1)
    stage.renewal.start()
    assert again.wait(30)
    stage.renewal.stop()
    for thread in threading.enumerate():
        if thread.name.startswith("lease-"):
            thread.join(30)  # it would tell of the defect in the midst of another test's output
