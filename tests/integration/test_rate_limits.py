"""Real sessions of the SDK in a storm of refusals by a local Messages API: all wait it out, none fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from orchestrator.core.words import AttemptState, FailureClass
from orchestrator.ports import Outcome
from orchestrator.runtime.governor import GovernorPolicy
from orchestrator.sessions.config import SessionConfig
from orchestrator.sessions.grants import ExecutorGrants, GrantSettings
from orchestrator.sessions.models import messages
from orchestrator.sessions.models.backend import ModelBackend
from orchestrator.workspace.launcher import ProcessLauncher
from tests.support.governor import NearGovernor
from tests.support.journals import MemoryJournals
from tests.support.messages_api import API_KEY, MessagesApi, Reply
from tests.support.notes import MemoryNoteBook
from tests.support.sessions import MODEL, PRICES, Recorder, assignment, workspace
from tests.support.storm import TURNS, Storm

SESSIONS = 50

#: Fewer at once than there are sessions, so that the local server keeps up on a busy machine.
POLICY = GovernorPolicy(at_once_max=32, start_per_s=10.0)


def grants(governor: NearGovernor, *, wait_max_s: float = 900.0) -> ExecutorGrants:
    return ExecutorGrants(executor="e1", governor=governor, settings=GrantSettings(wait_max_s=wait_max_s))


async def run_sessions(
    api: MessagesApi, folder: Path, governor: ExecutorGrants, *, sessions: int, retries_max: int = 0
) -> tuple[list[Outcome], list[Recorder]]:
    work = folder / "work"
    work.mkdir()
    (work / "seen.txt").write_text("seen\n")
    config = SessionConfig(
        api_key=API_KEY, base_url=api.base_url, model=MODEL, prices=PRICES, retries_max=retries_max
    )
    launcher = ProcessLauncher(records=folder / "records")
    backend = ModelBackend(
        messages.MessagesApi(config),
        launcher,
        notes=MemoryNoteBook(),
        journals=MemoryJournals(),
        grants=governor,
    )
    given = [
        assignment(
            backend="anthropic", token=100 + n, limits={"total_timeout_s": 240.0, "idle_timeout_s": 240.0}
        )
        for n in range(sessions)
    ]
    transcripts = [Recorder() for _ in given]
    outcomes = await asyncio.gather(
        *(backend.run(one, workspace(work), t) for one, t in zip(given, transcripts, strict=True))
    )
    return outcomes, transcripts


@pytest.mark.parametrize(
    "refusal",
    [
        Reply(status=429, error_type="rate_limit_error", headers={"retry-after": "1"}),
        Reply(status=529, error_type="overloaded_error"),
    ],
    ids=["429", "529"],
)
async def test_fifty_sessions_wait_a_storm_out_and_none_fails(tmp_path: Path, refusal: Reply) -> None:
    storm = Storm(from_request=40, lasts_s=4.0, refusal=refusal)
    governor = NearGovernor(POLICY)
    with MessagesApi(storm) as api:
        outcomes, transcripts = await run_sessions(api, tmp_path, grants(governor), sessions=SESSIONS)

    assert [outcome.state for outcome in outcomes] == [AttemptState.SUCCEEDED] * SESSIONS
    assert len(storm.accepted) == SESSIONS * TURNS
    assert len(storm.refused) <= POLICY.at_once_max + 6  # what was under way, then one at a time
    assert max(storm.refused) < storm.ends_s
    noted = sum("asking again with leave" in transcript.text("note") for transcript in transcripts)
    assert noted > 0
    after = sorted(moment - storm.ends_s for moment in storm.accepted if moment >= storm.ends_s)
    print(f"{len(storm.refused)} refused; after the storm: {[round(moment, 1) for moment in after[:20]]}")
    assert after[14] - after[0] >= 0.2  # not all at once
    assert sum(demand.refused for demand in governor.heard) == len(storm.refused)


async def test_a_wait_that_is_too_long_ends_the_attempt_and_charges_nobody(tmp_path: Path) -> None:
    refusal = Reply(status=429, error_type="rate_limit_error", headers={"retry-after": "7200"})
    storm = Storm(from_request=0, lasts_s=1000.0, refusal=refusal)
    with MessagesApi(storm) as api:
        outcomes, _ = await run_sessions(api, tmp_path, grants(NearGovernor(POLICY)), sessions=3)

    assert {outcome.failure_class for outcome in outcomes} == {FailureClass.RATE_LIMITED}
    assert "nothing sent for" in outcomes[0].summary


async def test_what_the_headers_say_and_what_was_used_reaches_the_governor(tmp_path: Path) -> None:
    governor = NearGovernor(POLICY)
    with MessagesApi(Storm(from_request=10**6, lasts_s=0.0, refusal=Reply(status=429))) as api:
        outcomes, _ = await run_sessions(api, tmp_path, grants(governor), sessions=2)
        await governor.heard_of(2 * TURNS)

    fresh = sum(o.usage.input_tokens + o.usage.cache_write_tokens for o in outcomes)
    assert sum(demand.input_tokens for demand in governor.heard) == fresh
    assert sum(demand.output_tokens for demand in governor.heard) == sum(
        o.usage.output_tokens for o in outcomes
    )
