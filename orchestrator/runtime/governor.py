"""The governor of one credential: who may send how many requests now, and when everybody waits.

Pure, like the core: no clock, dice or I/O; whoever calls says what time it is. Four rules, all of which hold:

1. Pause. After a 429 or 529 nobody sends anything for the time that it asks for, or for 1, 2, 4, ... s if it
   names none. Then one request tries; only when that is accepted do the others follow. Nobody is believed for
   more than an hour: a clock or a header may be wrong, and one request that tries does no harm.
2. Ramp. In each window at most twice as many requests begin as in the one before, and at least a few: so
   hundreds that wait for the end of a pause do not cause the next one. A refusal halves what is ever reached;
   each full window without one gives a little back.
3. Headroom. What the headers say is left of a limit, refilled evenly by the minute, or as much slower as they
   say, less what is granted.
4. At once. So many requests may be under way.

It knows nothing of money: that is the core's. Nothing is stored: a new governor hears what is under way, what
is left and how long a pause lasts from the first calls, and begins with a small rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from orchestrator.core.limits import UNBOUNDED
from orchestrator.grant_ports import Grant, GrantDemand, Headroom

_MINUTE_MS = 60_000

#: Longest wait that a provider is believed.
_BELIEVED_S = 3_600.0

#: Weight of the newest requests in the mean of what one consumes.
_NEWEST = 0.3

#: Shortest and longest time after which whoever waits asks again, in seconds.
_AGAIN_MIN_S, _AGAIN_MAX_S = 0.1, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernorPolicy:
    """How careful the governor is. Durations in milliseconds.

    Attributes:
        at_once_max: requests under way, of all executors.
        start_per_s: rate of the first window, and the least of any.
        window_ms: of the ramp.
        grant_ms: how long a grant is good.
        silence_ms: an executor that says nothing for so long is forgotten, with what it had under way.
        pause_ms, pause_max_ms: first and longest pause after a refusal that names none.
    """

    at_once_max: int = 64
    start_per_s: float = 5.0
    window_ms: int = 5_000
    grant_ms: int = 5_000
    silence_ms: int = 10_000
    pause_ms: int = 1_000
    pause_max_ms: int = 60_000


@dataclass(slots=True)
class _Holder:
    """An executor with one model: what it said last, and what it may still begin."""

    seen_ms: int
    granted: int = 0
    good_until_ms: int = 0
    in_flight: int = 0
    waiting: int = 0


class _Ramp:
    """Rule 2, as a bucket that fills at the rate of the window and holds one second of it."""

    def __init__(self, policy: GovernorPolicy, now_ms: int) -> None:
        self._policy = policy
        self._floor = policy.start_per_s * policy.window_ms / 1000
        self._ceiling = math.inf
        self._size = self._floor  #: requests of this window
        self._began = 0  #: in this window
        self._window_ms = self._at_ms = now_ms
        self._level = self._burst

    @property
    def _per_ms(self) -> float:
        return self._size / self._policy.window_ms

    @property
    def per_s(self) -> float:
        """How many requests may begin in a second of this window."""
        return self._per_ms * 1000

    @property
    def _burst(self) -> float:
        return max(1.0, self.per_s)

    def room(self, now_ms: int) -> int:
        """Return how many requests may begin now."""
        passed = (now_ms - self._window_ms) // self._policy.window_ms
        for _ in range(min(passed, 2)):  # after two the silence is forgotten
            self._turn()
        self._window_ms += passed * self._policy.window_ms
        self._level = min(self._burst, self._level + (now_ms - self._at_ms) * self._per_ms)
        self._at_ms = now_ms
        return int(self._level)

    def _turn(self) -> None:
        """Begin the next window."""
        if self._began >= self._ceiling / 2:
            self._ceiling += self._floor
        self._size = min(self._ceiling, max(self._floor, 2.0 * self._began))
        self._began = 0

    def take(self, count: int) -> None:
        """So many begin."""
        self._level -= count
        self._began += count

    def give_back(self, count: int) -> None:
        """So many did not begin after all."""
        self._began = max(0, self._began - count)

    def wait_ms(self) -> float:
        """Return how long it takes until one more may begin."""
        return max(0.0, (1.0 - self._level) / self._per_ms)

    def refuse(self, now_ms: int) -> None:
        """Too many: from now on at most half of what there was, and anew from the least."""
        self._ceiling = max(self._floor, self._size / 2)
        self._size, self._began = self._floor, 0
        self._window_ms = self._at_ms = now_ms
        self._level = 0.0


@dataclass(slots=True)
class _Bucket:
    """A limit, what is left of it, and how fast it fills again."""

    limit: int
    level: float
    per_ms: float
    at_ms: int

    def left(self, now_ms: int) -> float:
        """Return what is left now."""
        self.level = min(self.limit, self.level + (now_ms - self.at_ms) * self.per_ms)
        self.at_ms = now_ms
        return self.level

    def wait_ms(self, cost: float) -> float:
        """Return how long it takes until one request of this cost fits."""
        return max(0.0, (min(cost, self.limit) - self.level) / self.per_ms)


def _refill_per_ms(said: Headroom) -> float:
    """Return how fast a limit fills again. Sooner than by the minute is not believed: what is told of seconds
    is rounded, and of a limit that is nearly full it would be all."""
    by_minute = said.limit / _MINUTE_MS
    missing = said.limit - said.remaining
    return min(by_minute, missing / (said.reset_s * 1000)) if said.reset_s and missing > 0 else by_minute


@dataclass(slots=True)
class _Model:
    """Rule 3 for one model: each has limits of its own."""

    input_mean: float = 0.0
    output_mean: float = 0.0
    buckets: dict[str, _Bucket] = field(default_factory=dict)

    def _costs(self) -> dict[str, float]:
        """What one request takes of each kind of limit, as far as is known."""
        return {
            "requests": 1.0,
            "input-tokens": max(1.0, self.input_mean),
            "output-tokens": max(1.0, self.output_mean),
            "tokens": max(1.0, self.input_mean + self.output_mean),
        }

    def learn(self, demand: GrantDemand) -> None:
        """Take what the requests that ended have consumed."""
        if demand.finished:
            weight = _NEWEST if self.input_mean or self.output_mean else 1.0
            self.input_mean += weight * (demand.input_tokens / demand.finished - self.input_mean)
            self.output_mean += weight * (demand.output_tokens / demand.finished - self.output_mean)

    def hear(self, headroom: Mapping[str, Headroom], *, granted: int, in_flight: int, now_ms: int) -> None:
        """Take what the headers say; what has not begun does not show in them, nor do unwritten answers."""
        costs = self._costs()
        for kind, said in headroom.items():
            if kind in costs and said.limit > 0:
                unseen = granted + (in_flight if kind == "output-tokens" else 0)
                level = said.remaining - unseen * costs[kind]
                self.buckets[kind] = _Bucket(
                    limit=said.limit, level=level, per_ms=_refill_per_ms(said), at_ms=now_ms
                )

    def room(self, now_ms: int) -> int:
        """Return how many requests fit into what is left; a request larger than a limit takes all of it."""
        costs = self._costs()
        fits = [b.left(now_ms) / min(costs[kind], b.limit) for kind, b in self.buckets.items()]
        return int(min(fits)) if fits else UNBOUNDED

    def take(self, count: int) -> None:
        """So many are granted; less than none: were not used."""
        costs = self._costs()
        for kind, bucket in self.buckets.items():
            bucket.level -= count * costs[kind]

    def wait_ms(self) -> float:
        """Return how long it takes until one more request fits."""
        costs = self._costs()
        return max((bucket.wait_ms(costs[kind]) for kind, bucket in self.buckets.items()), default=0.0)


class Governor:
    """Keeps the limits of one credential; every call says the time in milliseconds that only grow."""

    def __init__(self, policy: GovernorPolicy, *, now_ms: int) -> None:
        self._policy = policy
        self._ramp = _Ramp(policy, now_ms)
        self._models: dict[str, _Model] = {}
        self._holders: dict[tuple[str, str], _Holder] = {}
        self._paused_until_ms = now_ms
        self._refusals = 0  #: storms of refusals in a row
        self._refused = 0  #: requests since the start
        self._probe_ms: int | None = None  #: when one was let through to try; None = nobody has to

    def grant(self, demand: GrantDemand, *, now_ms: int) -> Grant:
        """Take what an executor tells, and give it what it may begin now, in place of what it had."""
        self._forget(now_ms)
        is_new = (demand.executor, demand.model) not in self._holders
        holder = self._holders.setdefault((demand.executor, demand.model), _Holder(seen_ms=now_ms))
        self._take_back(demand, holder)
        holder.seen_ms, holder.in_flight, holder.waiting = now_ms, demand.in_flight, demand.waiting
        model = self._models.setdefault(demand.model, _Model())
        self._learn(model, demand, now_ms)
        if is_new:  # to whom it speaks for the first time may know more than it does
            self._wait_until(now_ms + _believed_ms(demand.pause_s), now_ms)
        count = self._count(model, demand, now_ms)
        if count:
            self._ramp.take(count)
            model.take(count)
            holder.granted, holder.good_until_ms = count, now_ms + self._policy.grant_ms
            holder.waiting = max(0, demand.waiting - count)
        pause_ms = max(0, self._paused_until_ms - now_ms)
        return Grant(
            requests=count,
            good_s=self._policy.grant_ms / 1000,
            again_s=self._again_s(model, pause_ms),
            pause_s=pause_ms / 1000,
        )

    def status(self, *, now_ms: int) -> dict[str, object]:
        """Return what people may want to know; see status_views.GovernorView."""
        self._forget(now_ms)
        return {
            "in_flight": sum(holder.in_flight for holder in self._holders.values()),
            "at_once_max": self._policy.at_once_max,
            "waiting": sum(holder.waiting for holder in self._holders.values()),
            "granted": self._granted(self._holders.values(), now_ms),
            "per_s": self._ramp.per_s,
            "pause_s": max(0, self._paused_until_ms - now_ms) / 1000,
            "refused": self._refused,
            "left": {
                name: {kind: int(bucket.left(now_ms)) for kind, bucket in model.buckets.items()}
                for name, model in self._models.items()
            },
        }

    def _forget(self, now_ms: int) -> None:
        """Let go of executors that have fallen silent, and of grants that are void."""
        for key, holder in list(self._holders.items()):
            if now_ms - holder.seen_ms > self._policy.silence_ms:
                del self._holders[key]
            elif holder.granted and now_ms >= holder.good_until_ms:
                self._void(key[1], holder, holder.granted)

    def _take_back(self, demand: GrantDemand, holder: _Holder) -> None:
        """The new grant replaces the old: what of it has not begun is free again."""
        begun = max(0, demand.in_flight + demand.finished - holder.in_flight)
        self._void(demand.model, holder, max(0, holder.granted - begun))

    def _void(self, name: str, holder: _Holder, unused: int) -> None:
        self._ramp.give_back(unused)
        self._models.setdefault(name, _Model()).take(-unused)
        holder.granted = 0

    def _learn(self, model: _Model, demand: GrantDemand, now_ms: int) -> None:
        model.learn(demand)
        if demand.headroom:
            ours = [holder for (_, name), holder in self._holders.items() if name == demand.model]
            granted = self._granted(ours, now_ms)
            in_flight = sum(holder.in_flight for holder in ours)
            model.hear(demand.headroom, granted=granted, in_flight=in_flight, now_ms=now_ms)
        if demand.accepted and now_ms >= self._paused_until_ms:
            self._refusals, self._probe_ms = 0, None
        self._refused += demand.refused
        if demand.refused:
            self._pause(demand.retry_after_s, now_ms)

    @staticmethod
    def _granted(holders: Iterable[_Holder], now_ms: int) -> int:
        return sum(holder.granted for holder in holders if now_ms < holder.good_until_ms)

    def _pause(self, retry_after_s: float, now_ms: int) -> None:
        """Refusals of one storm are one: those that come while it pauses lengthen it only as they say."""
        until_ms = now_ms + _believed_ms(retry_after_s)
        if now_ms >= self._paused_until_ms:
            self._refusals += 1
            self._ramp.refuse(now_ms)
            own_ms = self._policy.pause_ms * 2.0 ** min(self._refusals - 1, 30)
            if not retry_after_s:
                until_ms = now_ms + int(min(own_ms, self._policy.pause_max_ms))
        self._wait_until(until_ms, now_ms)

    def _wait_until(self, until_ms: int, now_ms: int) -> None:
        """Let nobody send before; then one request tries, at once."""
        if until_ms > max(now_ms, self._paused_until_ms):
            self._paused_until_ms = until_ms
            self._probe_ms = now_ms - self._policy.silence_ms

    def _count(self, model: _Model, demand: GrantDemand, now_ms: int) -> int:
        """Return how many requests an executor may begin now: its share of what there is for all."""
        if now_ms < self._paused_until_ms:
            return 0
        if self._probe_ms is not None:
            return self._probe(now_ms) if demand.waiting else 0
        holders = self._holders.values()
        busy = sum(holder.in_flight for holder in holders) + self._granted(holders, now_ms)
        room = min(self._policy.at_once_max - busy, self._ramp.room(now_ms), model.room(now_ms))
        waiting = sum(1 for holder in holders if holder.waiting)
        if room <= 0 or (waiting and not demand.waiting):
            return 0
        share = max(1, room // max(1, waiting))
        return min(demand.waiting + min(demand.spare, share // 2), share)

    def _probe(self, now_ms: int) -> int:
        """Let one request through; another only if nothing is heard of it for long."""
        assert self._probe_ms is not None
        if now_ms - self._probe_ms < self._policy.silence_ms:
            return 0
        self._probe_ms = now_ms
        return 1

    def _again_s(self, model: _Model, pause_ms: int) -> float:
        """Return when whoever still waits may hope for more: others may end theirs sooner than is known."""
        wait_ms = max(float(pause_ms), self._ramp.wait_ms(), model.wait_ms())
        return min(_AGAIN_MAX_S, max(_AGAIN_MIN_S, wait_ms / 1000))


def _believed_ms(wait_s: float) -> int:
    return math.ceil(min(wait_s, _BELIEVED_S) * 1000)
