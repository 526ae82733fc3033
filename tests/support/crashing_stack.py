"""The stack of `tests.support.actor_stack`, with a Scheduler that dies at named points.

python -m tests.support.crashing_stack HOME SETTINGS
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.actor_stack import ActorStack, Operations, actor_stack, main


@contextmanager
def crashing_stack(home: Path) -> Iterator[ActorStack]:
    """Run a stack for `home`, whose `Deaths` are planned already; afterwards nothing of it is left."""
    with actor_stack(home, program="tests.support.crashing_stack") as stack:
        yield stack


class _CrashingOperations(Operations):
    def start_actors(self) -> None:
        """Make the Scheduler first, as `ensure_scheduler` would, which then finds it."""
        from actors.factory import make
        from actors.options import SCHEDULER, singleton
        from tests.support.crashing_scheduler import CrashingScheduler

        make(CrashingScheduler, singleton(SCHEDULER), self.config)
        super().start_actors()


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), _CrashingOperations)
