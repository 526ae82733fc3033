"""Texts of plans for the fault tests."""

from __future__ import annotations

from itertools import cycle, islice


def threes(line: str, *, tasks: int, agents: int = 1) -> str:
    """Return a plan of threes: a task, one that needs it, and one that needs both.

    Args:
        line: what each of them runs.
        tasks: how many; a multiple of three.
        agents: over how many agent types they are spread.
    """
    lines = ["# Threes\n"]
    for n, agent in zip(range(1, tasks + 1), islice(cycle(range(agents)), tasks), strict=True):
        needs = ([], [f"T.{n - 1}"], [f"T.{n - 2}", f"T.{n - 1}"])[(n - 1) % 3]
        lines += [f"- [ ] **T.{n}** Task {n}", f"  - agent: worker-{agent}", f"  - run: `{line}`"]
        lines += [f"  - depends: {', '.join(needs)}"] if needs else []
    return "\n".join(lines) + "\n"
