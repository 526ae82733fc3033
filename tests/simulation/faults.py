"""The dice of one seed: which faults there are, how likely each is, and how often each was injected."""

from __future__ import annotations

import random
from collections import Counter

#: Faults that strike by themselves, with the longest mean time between two of a kind, in seconds.
STRIKES = {
    "scheduler killed": 25.0,
    "scheduler killed before a commit": 30.0,
    "scheduler killed after a commit": 25.0,
    "scheduler killed while it recovers": 40.0,
    "scheduler killed at a dispatch": 30.0,
    "scheduler frozen": 40.0,
    "scheduler drained": 50.0,
    "second scheduler": 40.0,
    "executor killed": 20.0,
    "executor frozen": 30.0,
    "executor's loop stuck": 40.0,
    "executor frozen at a start": 40.0,
    "executor cut off from the database": 40.0,
    "database outage": 40.0,
    "database hung": 40.0,
    "clock jump": 40.0,
}

#: Faults that befall a message or a transaction, with their highest probability.
ODDS = {
    "message lost": 0.1,
    "message duplicated": 0.1,
    "message delayed": 0.1,
    "transaction lost": 0.03,
    "answer cut": 0.03,
    "commit late": 0.02,
    "transaction slow": 0.05,
    "renewal lost": 0.05,
    "process tree survived": 0.3,
    "node away": 0.3,
}

#: Share of all faults that a seed has: with all of them at once some would hide others.
SHARE = 0.6


class Dice:
    """Everything that is left to chance."""

    def __init__(self, seed: int) -> None:
        self.throw = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.is_peace = False
        chosen = [name for name in [*STRIKES, *ODDS] if self.throw.random() < SHARE]
        self.strikes = {
            name: mean_s * self.throw.uniform(0.3, 1.0) for name, mean_s in STRIKES.items() if name in chosen
        }
        self._odds = {name: top * self.throw.random() for name, top in ODDS.items() if name in chosen}

    def befalls(self, fault: str) -> bool:
        """Tell whether the fault befalls this one, and count it if so."""
        if self.is_peace or self.throw.random() >= self._odds.get(fault, 0.0):
            return False
        self.counts[fault] += 1
        return True

    def pause_s(self, mean_s: float) -> float:
        """Return a time until something happens next that happens every `mean_s` on average."""
        return self.throw.expovariate(1.0 / mean_s)
