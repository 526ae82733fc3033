"""Back-offs: near the delay that is set, and never the same for tasks that failed together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.retry import backoff_ms


@given(seed=st.integers(0, 1000), number=st.integers(1, 5))
def test_tasks_that_failed_together_do_not_return_together(seed: int, number: int) -> None:
    delays = [
        backoff_ms(delays_ms=(1000, 8000), jitter=0.1, seed=seed, task_id=task_id, number=number)
        for task_id in range(100)
    ]
    base = 1000 if number == 1 else 8000
    assert all(0.9 * base <= delay <= 1.1 * base for delay in delays)
    assert len(set(delays)) > 50
