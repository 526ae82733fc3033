"""The estimate of the time to the end of a plan."""

import pytest

from orchestrator.core.words import TaskState
from orchestrator.store.plan_views import LeafCount, eta_s


def leaves(state, tasks, estimate_ms=0, estimated=0):
    return LeafCount(
        agent_type="x", state=TaskState(state), tasks=tasks, estimate_ms=estimate_ms, estimated=estimated
    )


@pytest.mark.parametrize(
    ("counts", "live", "mean_ms", "expected"),
    [
        ([leaves("done", 5)], 0, None, 0.0),
        ([leaves("failed", 1), leaves("cancelled", 1), leaves("skipped", 1)], 0, 1000.0, 0.0),
        ([leaves("ready", 5)], 0, 1000.0, None),  # nothing runs: nobody knows
        ([leaves("ready", 5)], 1, None, None),  # no duration is known
        ([leaves("ready", 8), leaves("running", 2), leaves("done", 90)], 2, 1000.0, 5.0),
        ([leaves("ready", 1)], 10, 1000.0, 1.0),  # one task is no faster on ten slots
        ([leaves("ready", 2, estimate_ms=6000, estimated=2)], 2, None, 3.0),
        ([leaves("ready", 2, estimate_ms=6000, estimated=1)], 2, None, None),
    ],
)
def test_the_estimate_is_open_leaves_over_the_width(counts, live, mean_ms, expected):
    assert eta_s(counts, live=live, mean_ms=mean_ms) == expected
