"""How far the fault tests go: bounded with every `make test`, in full by `make test-faults`.

What a fault test prints, its seed and its counts, is shown at the end of the run.
"""

from __future__ import annotations

import os
import random

import pytest

#: Whether everything is asked for, however long it takes.
IS_FULL = os.environ.get("ORCHESTRATOR_FAULTS") == "full"

EXTENT = "full" if IS_FULL else "bounded"

#: Of a test that has no bounded form.
only_in_full = pytest.mark.skipif(not IS_FULL, reason="NOT RUN: make test-faults runs it")


def seed() -> int:
    """Return the seed of ORCHESTRATOR_SEED, to repeat a run, or one that was not used before."""
    return int(os.environ.get("ORCHESTRATOR_SEED") or random.SystemRandom().randrange(10**6))
