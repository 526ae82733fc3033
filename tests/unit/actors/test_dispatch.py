"""What the scheduler remembers of executors that are gone."""

from __future__ import annotations

from actors.dispatch import LOST_REMEMBERED, RayExecutors


def test_lost_executors_are_remembered_but_not_for_ever() -> None:
    executors = RayExecutors(is_one_machine=True)
    executors.joined("kept", "node-0", None)
    for n in range(LOST_REMEMBERED + 10):
        executors.joined(f"lost-{n}", f"node-{n}", None)
        executors.lost(f"lost-{n}")
    assert len(executors._nodes) == LOST_REMEMBERED + 1
    assert executors._nodes["kept"] == "node-0"
    assert executors._nodes[f"lost-{LOST_REMEMBERED + 9}"] == f"node-{LOST_REMEMBERED + 9}"
    assert "lost-9" not in executors._nodes
