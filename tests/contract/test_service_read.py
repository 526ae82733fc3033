"""Reading and watching through the Service on a real PostgreSQL, as the role `api`."""

import asyncio
import json
import zlib
from dataclasses import replace

import psycopg
import pytest

from orchestrator.core.limits import Overrides
from orchestrator.errors import Conflict, NotFound, Overloaded
from orchestrator.grant_ports import GrantDemand, Headroom
from orchestrator.runtime import service as service_module
from orchestrator.views import NewLimits, SubmitRequest
from tests.support.governor import NearGovernor
from tests.support.service import PLAN, commit_events, execute, open_service

pytestmark = pytest.mark.postgres


@pytest.fixture
async def plan_id(service):
    return (await service.submit(SubmitRequest(text=PLAN))).plan_id


def set_state(urls, key, state):
    execute(
        urls,
        "UPDATE task_states SET state = %s WHERE task_id = (SELECT id FROM tasks WHERE key = %s)",
        state,
        key,
    )


def attempt(urls, key, *, token, state="succeeded", kind="work", cost=0):
    execute(
        urls,
        "INSERT INTO attempts (token, plan_id, task_id, number, kind, agent_type, backend, executor,"
        " cluster_id, epoch, state, input_tokens, output_tokens, cost_micros, leased_at, started_at,"
        " ended_at)"
        " SELECT %s, plan_id, id, %s, %s, agent_type, 'command', 'executor-1', 'c', 1, %s, 10, 5, %s,"
        " now() - interval '30 s', now() - interval '10 s', CASE WHEN %s IN ('leased', 'started') THEN NULL"
        " ELSE now() END FROM tasks WHERE key = %s",
        *(token, token, kind, state, cost, state, key),
    )


async def test_a_plan_rolls_its_leaves_up(service, database, plan_id):
    set_state(database, "A.2", "running")
    attempt(database, "A.1", token=1, cost=700)
    attempt(database, "A.2", token=2, state="started")
    execute(database, "UPDATE attempts SET reserved_micros = 10 + token")
    plan = await service.plan(str(plan_id))
    assert (plan.sessions, plan.reserved_micros) == (1, 12)
    assert dict(plan.tasks) == {"done": 1, "running": 1, "waiting": 1, "held": 2}
    assert plan.tasks_total == sum(plan.tasks.values()) == sum(part.tasks for part in plan.agent_types)
    assert (plan.attempts, plan.input_tokens, plan.output_tokens, plan.cost_micros) == (2, 20, 10, 700)
    (backend,) = [part for part in plan.agent_types if part.agent_type == "backend-development"]
    assert (backend.tasks, backend.running) == (1, 1)
    assert plan.eta_s == pytest.approx(40, abs=2)  # 4 open leaves of 10 s each since their starts, in turn


async def test_eta_is_unknown_while_nothing_runs_and_zero_at_the_end(service, database, plan_id):
    assert (await service.plan("Ship it")).eta_s is None
    execute(database, "UPDATE task_states SET state = 'done'")
    assert (await service.plan("Ship it")).eta_s == 0


async def test_plans_come_page_by_page_newest_first(service):
    ids = [
        (await service.submit(SubmitRequest(text="- [ ] **A.1** x\n", name=f"plan {n}"))).plan_id
        for n in range(5)
    ]
    found, after = [], ""
    while True:
        page = await service.plans(after=after, limit=2)
        found += [plan.id for plan in page.items]
        after = page.next
        if not after:
            break
    assert found == ids[::-1]


async def test_tasks_come_page_by_page_in_the_plans_order(service, plan_id):
    whole = (await service.tasks(plan_id)).items
    first = await service.tasks(plan_id, limit=4)
    rest = await service.tasks(plan_id, after=first.next)
    assert first.next
    assert not rest.next
    assert first.items + rest.items == whole
    assert [task.key for task in whole if task.kind == "leaf"] == ["A.1", "A.2", "A.3", "A.4", "A.5"]
    assert [task.key for task in (await service.tasks(plan_id, state="held")).items] == ["A.4", "A.5"]


async def test_ready_tasks_come_in_the_order_of_dispatch(service, database):
    text = "# R\n\n- [ ] **A.1** low [P3]\n- [ ] **A.2** short [P1] (1h)\n- [ ] **A.3** long [P1] (9h)\n"
    plan_id = (await service.submit(SubmitRequest(text=text))).plan_id
    execute(database, "UPDATE task_states SET state = 'ready'")
    assert [task.key for task in await service.ready(plan_id)] == ["A.3", "A.2", "A.1"]


async def test_a_task_tells_everything(service, database, plan_id):
    attempt(database, "A.2", token=9)
    task = await service.task("A.2", plan_id=plan_id)
    assert (task.run, task.priority, task.agent_type) == (("true",), 0, "backend-development")
    assert task.routing_rule == "override"
    assert [(edge.key, edge.state) for edge in task.depends_on] == [("A.1", "done")]
    assert [edge.key for edge in task.dependents] == ["A.3"]
    assert [(one.token, one.state) for one in task.attempts] == [(9, "succeeded")]
    assert task == await service.task(str(task.id)) == await service.task("A.2")


async def test_a_key_of_two_plans_needs_its_plan(service, plan_id):
    other = await service.submit(SubmitRequest(text=PLAN, name="twin"))
    with pytest.raises(Conflict, match=r"'twin', 'Ship it'"):
        await service.task("A.2")
    assert (await service.task("A.2", plan_id=other.plan_id)).plan_id == other.plan_id


@pytest.mark.parametrize("ref", ["99999", "nobody", "", "9" * 40, "²", "a\0b"])
async def test_what_does_not_exist_is_not_found(service, plan_id, ref):
    with pytest.raises(NotFound):
        await service.plan(ref)
    with pytest.raises(NotFound):
        await service.task(ref)
    with pytest.raises(NotFound):
        await service.logs(99999)


async def test_logs_unfold_the_chunks_in_order(service, database, plan_id):
    attempt(database, "A.1", token=5)
    attempt(database, "A.1", token=6, kind="gate")
    chunks = [
        (6, 1, [[0, "stdout", "gate"]]),
        (5, 2, [[20, "stderr", "two"], [30, "stdout", "drei\n"]]),
        (5, 1, [[10, "stdout", "one"]]),
    ]
    with psycopg.connect(database.service) as connection:
        for token, seq, lines in chunks:
            packed = zlib.compress("\n".join(json.dumps(line) for line in lines).encode())
            connection.execute(
                "INSERT INTO transcript_chunks (token, seq, bytes) VALUES (%s, %s, %s)", (token, seq, packed)
            )
    task = await service.task("A.1")
    logs = await service.logs(task.id)
    assert [(log.token, log.kind, log.offset_ms, log.stream, log.text) for log in logs] == [
        (5, "work", 10, "stdout", "one"),
        (5, "work", 20, "stderr", "two"),
        (5, "work", 30, "stdout", "drei\n"),
        (6, "gate", 0, "stdout", "gate"),
    ]
    assert [log.text for log in await service.logs(task.id, token=6)] == ["gate"]
    assert [log.text for log in await service.logs(task.id, token=5, after=1)] == ["two", "drei\n"]
    assert await service.logs(task.id, token=5, after=2) == ()


async def test_events_are_read_from_any_seq_on(service, database, plan_id):
    seqs = commit_events(database, "plan.taken", "plan.active", plan_id=plan_id)
    commit_events(database, "plan.taken")
    assert [event.seq for event in await service.events(plan_id=plan_id)] == seqs
    assert [event.type for event in await service.events(after=seqs[0], plan_id=plan_id)] == ["plan.active"]
    assert len(await service.events(limit=2)) == 2
    assert (await service.plan(str(plan_id))).last_seq == seqs[-1]


async def test_watch_yields_what_was_and_what_comes_without_polling(service, database, plan_id, monkeypatch):
    monkeypatch.setattr(service_module, "_POLL_S", 600.0)
    commit_events(database, "plan.taken", plan_id=plan_id)
    watched = service.watch(plan_id=plan_id)
    assert (await anext(watched)).type == "plan.taken"
    for _ in range(5):
        following = asyncio.ensure_future(anext(watched))
        await asyncio.sleep(0.1)  # let it wait; the listener must wake it
        await asyncio.to_thread(commit_events, database, "task.done", plan_id=plan_id)
        assert (await asyncio.wait_for(following, 60)).type == "task.done"
    await watched.aclose()


async def test_watch_gives_every_event_once_to_every_watcher(service, database):
    async def take(count):
        watched = service.watch()
        seqs = [(await anext(watched)).seq for _ in range(count)]
        await watched.aclose()
        return seqs

    watchers = [asyncio.create_task(take(700)) for _ in range(3)]
    for _ in range(7):
        await asyncio.to_thread(commit_events, database, *["task.done"] * 100)
    for seqs in await asyncio.wait_for(asyncio.gather(*watchers), 120):
        assert seqs == sorted(set(seqs))
        assert len(seqs) == 700


async def test_watch_outlives_a_lost_connection(service, database):
    watched = service.watch()
    following = asyncio.ensure_future(anext(watched))
    await asyncio.sleep(0.1)
    with psycopg.connect(database.admin, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'orchestrator_api'"
        )
    commit_events(database, "task.done")
    assert (await asyncio.wait_for(following, 60)).type == "task.done"
    await watched.aclose()


async def test_requests_name_plan_and_task_to_the_scheduler(service, scheduler, plan_id):
    task = await service.task("A.3")
    await service.request("retry_task", task_id=task.id, reason="again", idempotency_key="k")
    ((kind, args, key),) = scheduler.requests
    assert (kind, key) == ("retry_task", "k")
    ours = {"tenant_id": "local", "plan_id": plan_id, "task_id": task.id, "reason": "again"}
    assert {name: value for name, value in args.items() if value} == ours


async def test_a_limit_of_a_plan_that_there_is_not_is_refused(service, scheduler, plan_id):
    with pytest.raises(NotFound):
        await service.request("set_limits", limits=NewLimits(plans={plan_id + 1: 2}))
    assert scheduler.requests == []
    await service.request("set_limits", limits=NewLimits(sessions_max=3, plans={plan_id: 2}))
    limits = scheduler.requests[0][1]["limits"]
    told = {"sessions_max": 3, "agents": {}, "tenants": {}, "plans": {plan_id: 2}}
    assert Overrides.from_json(limits) == Overrides.from_json(told)


async def test_a_limit_of_an_agent_type_that_there_is_not_is_refused(service, scheduler, plan_id):
    known = {"code-reviewer": 2, "backend-development": 1}  # of a file, and of a task of the plan
    await service.request("set_limits", limits=NewLimits(agents={**known, "long-gone": 0}))
    scheduler.requests.clear()
    with pytest.raises(NotFound, match="no agent type 'code-reviwer'") as refused:
        await service.request("set_limits", limits=NewLimits(agents={"code-reviwer": 2}))
    assert "'code-reviewer'" in refused.value.remedy
    assert scheduler.requests == []


async def test_requests_for_the_things_of_others_are_not_passed_on(
    service, scheduler, database, tmp_path, plan_id
):
    task = await service.task("A.3")
    async with open_service(database, tmp_path, scheduler=scheduler, tenant_id="other") as other:
        for kind, ids in (("cancel_plan", {"plan_id": plan_id}), ("cancel_task", {"task_id": task.id})):
            with pytest.raises(NotFound):
                await other.request(kind, **ids)
    with pytest.raises(Conflict, match="explode"):
        await service.request("explode", plan_id=plan_id)
    assert scheduler.requests == []


async def test_status_joins_memory_and_tables(service, scheduler, plan_id):
    status = await service.status()
    assert (status.epoch, status.is_ready, status.sessions) == (3, True, 2)
    assert dict(status.plans) == {"submitted": 1}
    assert dict(status.tasks) == {"done": 1, "ready": 1, "waiting": 1, "held": 2}
    scheduler.error = Overloaded("starting")
    assert not (await service.status()).is_ready


async def test_status_tells_how_each_governor_stands(scheduler, database, tmp_path):
    governor = NearGovernor()
    demand = GrantDemand(executor="e1", model="m", waiting=9)
    headroom = {"requests": Headroom(limit=600, remaining=500)}
    async with open_service(
        database, tmp_path, scheduler=scheduler, governors={"anthropic": governor}
    ) as service:
        await governor.grant(demand)
        await governor.grant(replace(demand, in_flight=5, headroom=headroom))
        (told,) = (await service.status()).governors
        assert (told.credential, told.is_away, told.in_flight, told.at_once_max) == (
            "anthropic",
            False,
            5,
            64,
        )
        assert (told.pause_s, told.refused, told.left["m"]["requests"]) == (
            0.0,
            0,
            pytest.approx(500, abs=20),
        )
        await governor.grant(replace(demand, refused=2, retry_after_s=30.0))
        (told,) = (await service.status()).governors
        assert (told.pause_s, told.refused, told.per_s) == (pytest.approx(30, abs=5), 2, 5.0)
        governor.is_away = True
        (told,) = (await service.status()).governors
        assert told.is_away
