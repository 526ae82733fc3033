"""Decomposing tasks on a real PostgreSQL, with a local Messages API: proposed, recorded, applied, refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.program import run
from orchestrator.core.events import ProposalsPaid
from orchestrator.errors import Conflict, EnvironmentFault, Overloaded, PlanError, RequestRefused
from orchestrator.proposals import Proposal
from orchestrator.settings import OpenAI
from orchestrator.store.urls import DatabaseUrls
from orchestrator.views import Revised, ReviseRequest, SubmitRequest
from tests.support.governor import NearGovernor
from tests.support.messages_api import API_KEY, MessagesApi, Reply, Request, call, script
from tests.support.openai_api import OpenAIApi
from tests.support.rows import make_store
from tests.support.scheduled import World, open_world
from tests.support.service import RememberingScheduler, execute, open_service

pytestmark = pytest.mark.postgres

PLAN = """\
# Shop

- [ ] **A.1** Design it
  - agent: backend-development
- [ ] **A.2** Build it
  - agent: backend-development
  - depends: A.1
- [ ] **A.3** Open it
  - run: `true`
- [x] **A.4** Buy a domain
"""
SUBTASKS = [
    {"title": "Draw the screens", "acceptance": ["Each is drawn"], "estimate_min": 90},
    {"title": "Ask for words", "acceptance": ["They are here"], "estimate_min": 30, "depends_on": [1]},
]
ADDED = """\
  - [ ] **A.1.1** Draw the screens
    - estimate: 1h 30min
    - acceptance: Each is drawn
  - [ ] **A.1.2** Ask for words
    - estimate: 30min
    - acceptance: They are here
    - depends: A.1.1
"""
EDITED = PLAN.replace("- [ ] **A.2**", f"{ADDED}- [ ] **A.2**")


def proposed(*subtasks: dict[str, Any]) -> Reply:
    return Reply([call("propose", subtasks=list(subtasks))])


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[MessagesApi]:
    with MessagesApi(script(proposed(*SUBTASKS))) as api:
        monkeypatch.setenv("ANTHROPIC_API_KEY", API_KEY)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.base_url)
        yield api
        assert api.problems == []


@pytest.fixture
async def world(database: DatabaseUrls, tmp_path: Path, api: MessagesApi) -> AsyncIterator[World]:
    async with open_world(database, tmp_path, PLAN) as made:
        yield made


async def propose(world: World, key: str = "A.1") -> Proposal:
    plan_id = await world.service.plan_id("Shop")
    return await world.service.decompose((await world.service.task(key, plan_id=plan_id)).id)


async def apply(world: World, proposal: Proposal) -> Revised:
    request = ReviseRequest(text=proposal.files[""], format=proposal.format, base_digest=proposal.base_digest)
    return await world.service.revise("Shop", request, is_applied=True)


def recorded(world: World) -> list[tuple[object, ...]]:
    return execute(
        world.urls,
        "SELECT task_key, jsonb_array_length(subtasks), error <> '', requests,"
        " input_tokens + output_tokens > 0, cost_micros FROM proposals ORDER BY id",
    )


async def test_a_proposal_is_shown_and_recorded_and_changes_nothing(world: World) -> None:
    before = world.states()
    proposal = await propose(world)
    assert proposal.files == {"": EDITED}
    assert [line[1:] for line in proposal.diff.splitlines()[3:] if line[0] == "+"] == ADDED.splitlines()
    assert (proposal.task_key, proposal.keys) == ("A.1", ("A.1.1", "A.1.2"))
    assert proposal.cost_micros > 0
    assert recorded(world) == [("A.1", 2, False, 1, True, proposal.cost_micros)]
    assert (world.states(), world.revisions()) == (before, [])
    assert (await world.service.source("Shop")).files == {"": PLAN}


async def test_what_is_applied_is_worked_on(world: World) -> None:
    revised = apply(world, await propose(world))
    await world.begin()
    assert (await revised).state == "applied"
    await world.until(**{"A_1.1": "running", "A_1.2": "waiting"}, A_2="waiting")
    await world.end("A.1.1")
    await world.until(**{"A_1.2": "running"})
    await world.end("A.1.2")
    await world.until(**{"A_1.2": "done"}, A_2="running")


async def test_a_task_that_is_held_may_be_decomposed(world: World) -> None:
    await world.begin()
    await world.until(A_1="running")
    task = await world.service.task("A.2", plan_id=await world.service.plan_id("Shop"))
    await world.service.request("hold_task", task_id=task.id)
    await world.until(A_2="held")
    assert (await apply(world, await propose(world, "A.2"))).state == "applied"
    await world.until(**{"A_2.1": "waiting"})
    await world.end("A.1")
    await world.until(**{"A_2.1": "running"})


async def test_what_is_at_work_done_or_a_command_is_refused_and_nobody_asked(
    world: World, api: MessagesApi
) -> None:
    with pytest.raises(Conflict, match=r"A\.4 is done"):
        await propose(world, "A.4")
    with pytest.raises(PlanError, match="`run:`"):
        await propose(world, "A.3")
    await world.begin()
    await world.until(A_1="running")
    with pytest.raises(Conflict, match=r"A\.1 is at work"):
        await propose(world)
    assert (api.requests, recorded(world)) == ([], [])


async def test_a_task_with_subtasks_is_refused(world: World, api: MessagesApi) -> None:
    revised = apply(world, await propose(world))
    await world.begin()
    await revised
    with pytest.raises(PlanError, match="has subtasks already"):
        await propose(world)
    assert len(api.requests) == 1


async def test_what_cannot_be_used_is_paid_for_and_recorded(world: World, api: MessagesApi) -> None:
    api.scenario = script(proposed(SUBTASKS[0]))
    with pytest.raises(RequestRefused, match="at least 2"):
        await propose(world)
    ((key, count, is_error, requests, has_tokens, cost),) = recorded(world)
    assert (key, count, is_error, requests, has_tokens) == ("A.1", 0, True, 2, True)
    assert isinstance(cost, int)
    assert cost > 0


async def test_what_was_proposed_is_given_again_while_the_task_is_as_it_was(
    world: World, api: MessagesApi
) -> None:
    await world.begin()
    first = await propose(world, "A.2")
    longer = PLAN + "- [ ] **A.5** Sell it\n"
    await world.service.revise("Shop", ReviseRequest(text=longer), is_applied=True)
    kept = await propose(world, "A.2")
    assert (first.is_new, kept.is_new, kept.id, kept.keys) == (True, False, first.id, first.keys)
    assert (kept.cost_micros, len(api.requests)) == (first.cost_micros, 1)
    assert kept.base_digest == (await world.service.source("Shop")).digest
    changed = longer.replace("Build it\n", "Build it of brick\n")
    await world.service.revise("Shop", ReviseRequest(text=changed), is_applied=True)
    assert (await propose(world, "A.2")).is_new
    assert len(api.requests) == 2


async def test_a_model_is_asked_once_by_one_key(world: World, api: MessagesApi) -> None:
    plan_id = await world.service.plan_id("Shop")
    ids = [(await world.service.task(key, plan_id=plan_id)).id for key in ("A.1", "A.2")]

    async def ask(task_id: int, key: str) -> int:
        return (await world.service.decompose(task_id, again=True, idempotency_key=key)).id

    assert len({*await asyncio.gather(ask(ids[0], "k1"), ask(ids[0], "k1")), await ask(ids[0], "k1")}) == 1
    assert len(api.requests) == 1
    with pytest.raises(Conflict, match="used for another request"):
        await ask(ids[1], "k1")
    assert await ask(ids[0], "k2") != await ask(ids[0], "k1")
    assert len(api.requests) == 2


async def test_it_counts_for_the_plan_whose_budget_it_may_not_exceed(world: World, api: MessagesApi) -> None:
    execute(world.urls, "UPDATE plans SET budget_micros = 1")
    proposal = await propose(world)
    plan = await world.service.plan("Shop")
    assert (plan.cost_micros, plan.input_tokens) == (proposal.cost_micros, proposal.input_tokens)
    assert not (await propose(world)).is_new
    with pytest.raises(Conflict, match="is used up") as refused:
        await propose(world, "A.2")
    assert "orchestrator budget Shop" in refused.value.remedy
    assert len(api.requests) == 1


@pytest.mark.parametrize("scope", ["day", "tenant"])
async def test_it_is_refused_when_nothing_is_left_of_a_budget_that_plans_share(
    database: DatabaseUrls, tmp_path: Path, api: MessagesApi, scope: str
) -> None:
    scheduler = RememberingScheduler()
    row = {"scope": scope, "name": "local", "tenant_id": "local", "is_short": True}
    sums = {"spent_micros": 600_000, "reserved_micros": 400_000, "budget_micros": 1_000_000}
    others = {**row, "scope": "tenant", "name": "other", "tenant_id": "other", **sums}
    async with open_service(database, tmp_path, scheduler=scheduler) as service:
        submitted = await service.submit(SubmitRequest(text=PLAN))
        task = await service.task("A.1", plan_id=submitted.plan_id)
        scheduler.told = {"budgets": [others, row | sums]}
        with pytest.raises(Conflict, match=r"is used up: \$0\.60 of \$1\.00") as refused:
            await service.decompose(task.id)
        assert f"--{scope}-budget" in refused.value.remedy
        assert api.requests == []
        scheduler.told = {"budgets": [others, row | sums | {"reserved_micros": 399_999}]}
        assert (await service.decompose(task.id)).cost_micros > 0


async def test_it_asks_for_leave_and_waits_where_the_provider_wants_nothing(
    database: DatabaseUrls, tmp_path: Path, api: MessagesApi
) -> None:
    refusal = Reply(status=429, error_type="rate_limit_error", headers={"retry-after-ms": "100"})
    api.scenario = script(refusal, refusal, proposed(*SUBTASKS))
    governor = NearGovernor()
    async with open_service(
        database, tmp_path, scheduler=RememberingScheduler(), governors={"anthropic": governor}
    ) as service:
        submitted = await service.submit(SubmitRequest(text=PLAN))
        task = await service.task("A.1", plan_id=submitted.plan_id)
        proposal = await service.decompose(task.id)
        await governor.heard_of(3)
        assert (len(api.requests), sum(demand.refused for demand in governor.heard)) == (3, 2)
        assert sum(demand.output_tokens for demand in governor.heard) == proposal.output_tokens
        api.scenario = script(
            Reply(status=429, error_type="rate_limit_error", headers={"retry-after": "900"})
        )
        with pytest.raises(Overloaded, match="wants nothing sent for 900 s"):
            await service.decompose(task.id, again=True)


async def test_the_scheduler_counts_it_whether_it_hears_of_it_or_reads_the_plan(world: World) -> None:
    store = make_store(world.urls.direct)
    try:
        assert await store.reports() == []
        paid = [(await propose(world, key)).cost_micros for key in ("A.1", "A.2")]
        plan_id = await world.service.plan_id("Shop")
        assert await store.reports() == [ProposalsPaid(plan_id=plan_id, cost_micros=sum(paid))]
        assert await store.reports() == []
        (part,) = [part async for part in store.load_plan(plan_id)]
        assert (part.plan.spent_micros, part.plan.proposed_micros) == (sum(paid), sum(paid))
        controls = await store.controls()
        assert (controls.spent, controls.spent_today) == ({"local": sum(paid)}, sum(paid))
    finally:
        await store.close()


async def test_a_proposal_for_an_older_text_is_refused(world: World) -> None:
    proposal = await propose(world)
    await world.begin()
    await world.service.revise("Shop", ReviseRequest(text=PLAN + "- [ ] **A.5** Sell it\n"), is_applied=True)
    with pytest.raises(Conflict, match="revised meanwhile"):
        await apply(world, proposal)


@pytest.mark.parametrize(
    ("key", "backend", "wanted"),
    [
        ("", "auto", "Set ANTHROPIC_API_KEY or OPENAI_API_KEY"),
        ("ANTHROPIC_API_KEY", "openai", "Set OPENAI_API_KEY and"),
    ],
)
async def test_without_a_key_the_remedy_is_told(
    database: DatabaseUrls,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    backend: str,
    wanted: str,
) -> None:
    for name in {"ANTHROPIC_API_KEY", "OPENAI_API_KEY"} - {key}:
        monkeypatch.delenv(name, raising=False)
    if key:
        monkeypatch.setenv(key, API_KEY)
    monkeypatch.setenv("ORCHESTRATOR_SESSIONS__BACKEND", backend)
    async with open_service(database, tmp_path, scheduler=RememberingScheduler()) as service:
        submitted = await service.submit(SubmitRequest(text=PLAN))
        task = await service.task("A.1", plan_id=submitted.plan_id)
        with pytest.raises(EnvironmentFault, match=wanted):
            await service.decompose(task.id)


async def test_where_there_is_a_key_of_openai_only_its_model_is_asked_with_leave_and_at_its_price(
    database: DatabaseUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = Reply(status=429, error_type="rate_limit_exceeded", headers={"retry-after-ms": "100"})
    governor = NearGovernor()
    with OpenAIApi(script(refusal, proposed(*SUBTASKS))) as api:
        monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
        monkeypatch.setenv("OPENAI_API_KEY", API_KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", api.base_url)
        async with open_service(
            database, tmp_path, scheduler=RememberingScheduler(), governors={"openai": governor}
        ) as service:
            submitted = await service.submit(SubmitRequest(text=PLAN))
            proposal = await service.decompose((await service.task("A.1", plan_id=submitted.plan_id)).id)
            await governor.heard_of(2)
        assert api.problems == []
    assert (proposal.model, proposal.keys) == (OpenAI().model, ("A.1.1", "A.1.2"))
    assert proposal.files == {"": EDITED}
    assert (len(api.requests), sum(demand.refused for demand in governor.heard)) == (2, 1)
    assert sum(demand.output_tokens for demand in governor.heard) == proposal.output_tokens
    assert proposal.cost_micros > 0


# --- the command


@pytest.fixture
def plan_file(api: MessagesApi, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "shop.md"
    path.write_text(PLAN)
    monkeypatch.setattr("orchestrator.runtime.revision._PATIENCE_S", 0.1)  # there is nobody to take it
    assert run(["submit", str(path)]) == 0
    return path


def command(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    capsys.readouterr()
    assert run(["decompose", *arguments]) == code
    said = capsys.readouterr()
    return said.out + said.err


def test_the_command_shows_and_leaves_all_as_it_is(
    plan_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = command(capsys, "Shop", "A.1")
    assert "+  - [ ] **A.1.1** Draw the screens" in said
    assert "2 subtasks for A.1 by claude-" in said
    assert "tokens, $0.0" in said
    assert "Nothing was changed." in said
    assert command(capsys, str(plan_file), "A.1", "--apply").endswith(
        "Nothing was changed.\n"
    )  # nobody agrees
    assert plan_file.read_text() == PLAN


def test_what_was_shown_is_applied_and_nobody_asked_again(
    plan_file: Path, api: MessagesApi, capsys: pytest.CaptureFixture[str]
) -> None:
    command(capsys, str(plan_file), "A.1")
    said = command(capsys, str(plan_file), "A.1", "--yes")
    assert "proposed before, --again asks anew" in said
    assert plan_file.read_text() == EDITED
    assert len(api.requests) == 1


def test_applied_it_is_a_revision_and_in_the_file(
    database: DatabaseUrls, plan_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = json.loads(command(capsys, str(plan_file), "A.1", "--yes", "--json"))["data"]
    assert (answer["applied"], answer["state"]) == (True, "submitted")
    assert plan_file.read_text() == EDITED
    assert execute(database, "SELECT state FROM plan_revisions") == [("submitted",)]


def test_a_task_that_begins_meanwhile_is_left_to_its_session(
    database: DatabaseUrls, plan_file: Path, api: MessagesApi, capsys: pytest.CaptureFixture[str]
) -> None:
    def begin(_: Request) -> Reply:
        execute(database, "UPDATE task_states SET state = 'running' WHERE state = 'ready'")
        return proposed(*SUBTASKS)

    api.scenario = begin
    assert "has begun meanwhile" in command(capsys, str(plan_file), "A.1", "--yes", code=1)
    assert plan_file.read_text() == PLAN
    assert execute(database, "SELECT 1 FROM plan_revisions") == []


def test_a_file_that_says_something_else_is_refused_and_nobody_asked(
    plan_file: Path, api: MessagesApi, capsys: pytest.CaptureFixture[str]
) -> None:
    plan_file.write_text(PLAN + "- [ ] **A.5** Sell it\n")
    assert "orchestrator import" in command(capsys, str(plan_file), "A.1", "--yes", code=1)
    assert api.requests == []
