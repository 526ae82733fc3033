"""The simulated backend: the same session again, labelled, for next to nothing."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from orchestrator.core.words import AttemptKind, AttemptState, FailureClass
from orchestrator.ports import Outcome, Usage
from orchestrator.sessions.simulated import LABEL, SimulatedBackend, parse_simulate
from tests.support.sessions import Recorder, assignment, workspace


async def run(seed: int = 0, **values) -> tuple[Outcome, Recorder]:
    transcript = Recorder()
    given = assignment(backend="simulated", **values)
    return await SimulatedBackend(seed=seed).run(given, workspace(Path()), transcript), transcript


async def test_everything_is_labelled_and_nothing_is_spent():
    outcome, transcript = await run(options={"simulate": "1ms"})
    assert outcome.state is AttemptState.SUCCEEDED
    assert outcome.summary.startswith(LABEL)
    assert outcome.usage == Usage()
    assert all(text.startswith(LABEL) for _, text in transcript.entries)


async def test_the_first_attempts_fail_as_asked_and_gates_do_not():
    options = {"simulate": "0s fail 2"}
    states = [(await run(number=number, options=options))[0].state for number in (1, 2, 3)]
    assert states == [AttemptState.FAILED, AttemptState.FAILED, AttemptState.SUCCEEDED]
    assert (await run(kind=AttemptKind.GATE, options=options))[0].state is AttemptState.SUCCEEDED


async def test_a_draw_depends_on_seed_plan_key_and_attempt_alone():
    async def drawn(seed: int = 0, **values) -> str:
        _, transcript = await run(seed, limits={"total_timeout_s": 0.001}, **values)
        return transcript.text().rpartition(" for ")[2]

    first = await drawn()
    assert await drawn() == first
    others = [await drawn(1), await drawn(plan_name="q"), await drawn(key="B"), await drawn(number=2)]
    assert first not in others


async def test_a_thousand_sessions_cost_little():
    transcript, place, backend = Recorder(), workspace(Path()), SimulatedBackend()
    given = assignment(options={"simulate": "50 ms"})
    started = time.process_time()
    await asyncio.gather(*(backend.run(given, place, transcript) for _ in range(1000)))
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("1s", {"duration_ms": 1000}),
        ("250ms fail 1", {"duration_ms": 250, "fail_attempts": 1}),
        ("1.5 min", {"duration_ms": 90_000}),
        ("0s", {"duration_ms": 0}),
        ("fail 2", {"fail_attempts": 2}),
        ("", {}),
    ],
)
def test_simulate_lines(text, options):
    assert parse_simulate(text) == options


@pytest.mark.parametrize("text", ["soon", "1", "1s fail", "soon fail 1", "fail x"])
async def test_a_bad_simulate_line_is_a_defect_of_the_plan(text):
    outcome, _ = await run(options={"simulate": text})
    assert outcome.failure_class is FailureClass.PLAN_DEFECT
    assert "write for example" in outcome.summary
