"""How a command ends: the one table of exit codes. Those of errors stand with their classes, in errors.py."""

from __future__ import annotations

from collections.abc import Mapping

EXIT_DONE = 0
EXIT_FAILED = 5
EXIT_HELD = 8

EXIT_CODES: Mapping[int, str] = {
    EXIT_DONE: "everything that was asked for is done",
    1: "another error; of `lint`: something was found",
    2: "wrong usage or settings",
    3: "the plan is refused; nothing was stored",
    4: "no such plan, task or agent type",
    EXIT_FAILED: "tasks failed, or the plan was cancelled or can get no further",
    6: "the machine: database, port, disk, Ray",
    7: "not authorised",
    EXIT_HELD: "nothing failed; tasks are held for a person, or the plan is paused",
    130: "interrupted",
}
