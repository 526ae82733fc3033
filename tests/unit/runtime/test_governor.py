"""The governor alone: pause, probe, ramp, headroom and the number at once, on a clock that is told."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from orchestrator.grant_ports import Grant, GrantDemand, Headroom
from orchestrator.runtime.governor import Governor, GovernorPolicy

POLICY = GovernorPolicy(at_once_max=40, start_per_s=4.0, window_ms=1_000, grant_ms=2_000, silence_ms=5_000)
ME = GrantDemand(executor="e1", model="m")


class Rig:
    """A governor and its clock."""

    def __init__(self, policy: GovernorPolicy = POLICY) -> None:
        self.now_ms = 1_000
        self.governor = Governor(policy, now_ms=self.now_ms)

    def grant(self, demand: GrantDemand = ME, **told: object) -> Grant:
        """Tell and ask now."""
        return self.governor.grant(replace(demand, **told), now_ms=self.now_ms)  # type: ignore[arg-type]

    def work(self, seconds: float, *, waiting: int = 1_000) -> list[int]:
        """Let one executor with endless work begin what it may; each ends at once. Count by second."""
        begun = []
        for _ in range(int(seconds)):
            begun.append(0)
            for _ in range(10):
                self.now_ms += 100
                count = self.grant(waiting=waiting).requests
                self.grant(finished=count, accepted=count)
                begun[-1] += count
        return begun


def test_the_first_windows_double_what_begins_until_no_limit_is_met():
    begun = Rig().work(5)

    assert begun[0] == pytest.approx(4, abs=4)
    assert all(later <= 2 * before + 8 for before, later in pairwise(begun))
    assert begun[-1] > 8 * POLICY.start_per_s


def test_after_a_silence_the_ramp_begins_anew():
    rig = Rig()
    rig.work(6)
    rig.now_ms += 10_000

    assert rig.grant(waiting=1_000).requests <= POLICY.start_per_s


def test_a_refusal_stops_everybody_for_as_long_as_it_says():
    rig = Rig()
    rig.grant(waiting=1)
    told = rig.grant(in_flight=1, refused=1, retry_after_s=7.0, waiting=1)
    assert (told.requests, told.pause_s) == (0, 7.0)

    rig.now_ms += 6_999
    other = rig.grant(replace(ME, executor="e2", model="another"), waiting=5)
    assert other.requests == 0
    assert other.pause_s == pytest.approx(0.001)


def test_one_request_tries_after_a_pause_and_only_its_success_lets_others_follow():
    rig = Rig()
    rig.grant(refused=1, retry_after_s=1.0)
    rig.now_ms += 1_001
    assert rig.grant(waiting=5).requests == 1
    assert rig.grant(replace(ME, executor="e2"), waiting=5).requests == 0

    rig.now_ms += 500
    rig.grant(in_flight=1, accepted=1)
    rig.now_ms += 1_000
    assert rig.grant(replace(ME, executor="e2"), waiting=5).requests > 0


def test_refusals_that_name_no_time_pause_longer_each_time_and_once_for_a_storm():
    rig = Rig()
    pauses = []
    for _ in range(8):
        pauses.append(rig.grant(refused=20).pause_s)
        assert rig.grant(refused=20).pause_s == pauses[-1]  # the same storm
        rig.now_ms += int(pauses[-1] * 1000) + 1
        assert rig.grant(waiting=1).requests == 1

    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_probe_of_which_nothing_is_heard_is_followed_by_another():
    rig = Rig()
    rig.grant(refused=1, retry_after_s=1.0)
    rig.now_ms += 1_001
    assert rig.grant(waiting=1).requests == 1
    rig.now_ms += POLICY.silence_ms

    assert rig.grant(replace(ME, executor="e2"), waiting=1).requests == 1


def test_a_refusal_halves_the_ramp_for_good_and_it_grows_back_little_by_little():
    rig = Rig(replace(POLICY, at_once_max=10**6))
    allowed = 2 * rig.work(6)[-1]  # in the window that is refused
    rig.grant(refused=1, retry_after_s=1.0)
    rig.now_ms += 1_001
    rig.grant(waiting=1)
    rig.grant(in_flight=1, accepted=1)
    after = rig.work(14)

    assert max(after) <= allowed * 0.75
    assert after[8] < after[10] < after[13]


def test_headers_bound_requests_and_tokens_by_the_minute():
    rig = Rig(replace(POLICY, start_per_s=1000.0))
    rig.grant(finished=10, input_tokens=10_000, output_tokens=1_000)
    headroom = {
        "requests": Headroom(limit=600, remaining=50),
        "input-tokens": Headroom(limit=60_000, remaining=5_500),
        "output-tokens": Headroom(limit=60_000, remaining=60_000),
    }
    assert rig.grant(headroom=headroom, waiting=100).requests == 5  # of 1,000 tokens each
    rig.grant(in_flight=5)
    assert rig.grant(in_flight=5, waiting=100).requests == 0

    rig.now_ms += 2_000  # 2,000 of 60,000 tokens come back
    assert rig.grant(in_flight=5, waiting=100).requests == 2


def test_a_request_that_is_larger_than_the_limit_takes_all_of_it():
    rig = Rig()
    rig.grant(finished=1, input_tokens=90_000)
    headroom = {"input-tokens": Headroom(limit=60_000, remaining=60_000)}

    assert rig.grant(headroom=headroom, waiting=3).requests == 1


def test_models_have_limits_of_their_own():
    rig = Rig()
    rig.grant(headroom={"requests": Headroom(limit=60, remaining=0)})

    assert rig.grant(waiting=1).requests == 0
    assert rig.grant(replace(ME, model="another"), waiting=1).requests == 1


def test_no_more_are_under_way_than_may_be_and_all_who_wait_get_their_share():
    rig = Rig(replace(POLICY, start_per_s=1000.0))
    assert rig.grant(waiting=99).requests == POLICY.at_once_max
    others = [replace(ME, executor=f"e{n}", waiting=30) for n in (2, 3, 4, 5)]
    assert [rig.grant(other).requests for other in others] == [0, 0, 0, 0]
    rig.grant(finished=POLICY.at_once_max)

    granted = [rig.grant(other).requests for other in others]
    assert sum(granted) <= POLICY.at_once_max
    assert min(granted) >= 4  # those who ask first get the fourth part of more


def test_a_grant_that_is_not_used_in_time_is_free_for_others():
    rig = Rig(replace(POLICY, at_once_max=3, start_per_s=1000.0))
    assert rig.grant(waiting=3).requests == 3
    other = replace(ME, executor="e2", waiting=3)
    assert rig.grant(other).requests == 0

    rig.now_ms += POLICY.grant_ms
    assert rig.grant(other).requests == 3


def test_an_executor_that_falls_silent_holds_nothing_for_ever():
    rig = Rig(replace(POLICY, at_once_max=3, start_per_s=1000.0))
    rig.grant(in_flight=3)
    other = replace(ME, executor="e2", waiting=3)
    assert rig.grant(other).requests == 0

    rig.now_ms += POLICY.silence_ms + 1
    assert rig.grant(other).requests == 3


def test_leave_is_given_ahead_while_nobody_waits():
    rig = Rig(replace(POLICY, start_per_s=20.0))
    rig.now_ms += 1_000

    assert rig.grant(in_flight=6, spare=6).requests == 6
    assert rig.grant(in_flight=6, spare=6, waiting=0).requests == 6  # in place of the first, not on top
    rig.grant(replace(ME, executor="e2"), waiting=50)
    assert rig.grant(in_flight=6, spare=6).requests == 0  # others wait


def test_a_limit_fills_as_slowly_as_its_reset_says():
    rig = Rig(replace(POLICY, start_per_s=1000.0))
    by_day = {"requests": Headroom(limit=1_000, remaining=0, reset_s=100.0)}
    assert rig.grant(headroom=by_day, waiting=100).requests == 0
    rig.now_ms += 1_000
    assert rig.grant(waiting=100).requests == 10  # 1,000 in 100 s; by the minute it were 16

    nearly_full = {"requests": Headroom(limit=60, remaining=59, reset_s=0.1)}
    rig.grant(headroom=nearly_full)
    rig.governor.grant(replace(ME, in_flight=59), now_ms=rig.now_ms)
    rig.now_ms += 2_000
    assert rig.governor.status(now_ms=rig.now_ms)["left"] == {"m": {"requests": 60}}


def test_nobody_is_believed_for_more_than_an_hour():
    rig = Rig()
    assert rig.grant(refused=1, retry_after_s=10.0**12).pause_s == 3_600


def test_a_governor_that_has_just_started_learns_of_the_pause_from_whoever_it_hears_first():
    rig = Rig()
    told = rig.grant(waiting=3, pause_s=20.0)
    assert (told.requests, told.pause_s) == (0, 20.0)
    assert rig.grant(replace(ME, executor="e2"), waiting=3).requests == 0

    rig.now_ms += 20_000
    assert rig.grant(waiting=3).requests == 1  # tries
    assert rig.grant(replace(ME, executor="e2"), waiting=3).requests == 0


def test_what_an_executor_believes_lengthens_no_pause_that_the_governor_knows():
    rig = Rig()
    rig.grant(waiting=1)
    rig.grant(refused=1, retry_after_s=5.0)
    rig.now_ms += 1_000
    assert rig.grant(waiting=1, pause_s=4.5).pause_s == 4.0
