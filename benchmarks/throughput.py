"""How many no-op tasks a second go through the full protocol, beside the same actors without a database.

The history that they leave is checked as after a fault test; a fault of it ends the measurement.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from benchmarks import Figure
from benchmarks.actors import Shape
from benchmarks.stack import MeasuredStack, measured_stack, ray_cluster, reference_ends
from tests.support.history import check_history

RUNS = 3
TASKS = 20_000
SMALL, LARGE = 1_000, 100_000
AIMS = {100: 3_700.0, 500: 6_000.0}
OF_REFERENCE_AT_LEAST = 0.6
OF_SMALL_AT_LEAST = 0.8

_ENDS = """
SELECT extract(epoch FROM at)::float8 FROM events
WHERE plan_id = %(plan)s AND type = 'task.done' ORDER BY seq
"""


def steady_rate(ends_s: Sequence[float]) -> float:
    """Tasks a second over the middle of a run: without its first and its last tenth."""
    tenth = len(ends_s) // 10
    middle = ends_s[tenth:-tenth]
    return (len(middle) - 1) / (middle[-1] - middle[0])


def rate_of(stack: MeasuredStack, tasks: int) -> float:
    """Run a plan over the database; return its steady rate by the times of the commits."""
    plan_id = stack.run_plan(Shape(tasks=tasks))
    ends_s = [row[0] for row in stack.rows(_ENDS, plan=plan_id)]
    if len(ends_s) != tasks:
        raise RuntimeError(f"{len(ends_s)} of {tasks} tasks are done")
    return steady_rate(ends_s)


def reference_rates(concurrency: int) -> tuple[float, ...]:
    """Steady rates without a database; the first plan warms the actors."""
    shapes = [Shape(tasks=10 * concurrency), *[Shape(tasks=TASKS)] * RUNS]
    ends_s = reference_ends(shapes, concurrency=concurrency)
    starts = range(shapes[0].tasks, len(ends_s), TASKS)
    return tuple(steady_rate(ends_s[start : start + TASKS]) for start in starts)


def measure() -> Iterator[Figure]:
    """Yield the figures of both concurrencies, each beside its reference, and of three sizes of plans."""
    with ray_cluster():
        for concurrency, aim in AIMS.items():
            reference = reference_rates(concurrency)
            with measured_stack(concurrency) as stack:
                rates = tuple(rate_of(stack, TASKS) for _ in range(RUNS))
                checked = len(check_history(stack.urls.service).attempts)
                sizes = _sizes(stack) if concurrency == min(AIMS) else {}
            at = f"{concurrency} at once"
            yield Figure(name=f"without a database, {at}", values=reference, unit="tasks/s")
            yield Figure(
                name=f"{TASKS:,} tasks, full protocol, {at}", values=rates, unit="tasks/s", at_least=aim
            )
            yield Figure(name=f"attempts in a history without fault, {at}", values=(checked,), unit="")
            share = tuple(rate / statistics.median(reference) for rate in rates)
            yield Figure(
                name=f"share of the rate without a database, {at}",
                values=share,
                unit="",
                at_least=OF_REFERENCE_AT_LEAST,
            )
            if sizes:
                yield from _compare_sizes(sizes)


def _sizes(stack: MeasuredStack) -> dict[int, tuple[float, ...]]:
    rates: dict[int, list[float]] = {SMALL: [], LARGE: []}
    for _ in range(RUNS):
        rates[SMALL].append(statistics.median(rate_of(stack, SMALL) for _ in range(RUNS)))
        rates[LARGE].append(rate_of(stack, LARGE))
    return {size: tuple(values) for size, values in rates.items()}


def _compare_sizes(sizes: dict[int, tuple[float, ...]]) -> Iterator[Figure]:
    for size, values in sizes.items():
        yield Figure(name=f"a plan of {size:,} tasks, 100 at once", values=values, unit="tasks/s")
    small = statistics.median(sizes[SMALL])
    yield Figure(
        name=f"rate at {LARGE:,} tasks by that at {SMALL:,}",
        values=tuple(value / small for value in sizes[LARGE]),
        unit="",
        at_least=OF_SMALL_AT_LEAST,
    )
