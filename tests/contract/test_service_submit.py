"""Submitting plans to the Service on a real PostgreSQL, as the role `api`."""

import asyncio

import pytest

from orchestrator.errors import Conflict, DatabaseUnavailable, Overloaded, PlanError
from orchestrator.views import SubmitRequest
from tests.support.service import PLAN, execute, open_service

pytestmark = pytest.mark.postgres


def rows_count(urls):
    tables = ("plans", "tasks", "task_states", "task_dependencies", "routing_decisions", "idempotency_keys")
    return {name: execute(urls, f"SELECT count(*) FROM {name}")[0][0] for name in tables}


NOTHING = dict.fromkeys(
    ("plans", "tasks", "task_states", "task_dependencies", "routing_decisions", "idempotency_keys"), 0
)


async def test_a_plan_is_stored_whole_and_inert(service, scheduler, database):
    submitted = await service.submit(SubmitRequest(text=PLAN))
    assert (submitted.name, submitted.is_new, submitted.tasks_total) == ("Ship it", True, 5)
    assert scheduler.nudges == 1
    assert (await service.plan("Ship it")).state == "submitted"
    states = execute(
        database,
        "SELECT t.key, s.state, s.reason FROM task_states s"
        " JOIN tasks t ON t.id = s.task_id WHERE t.kind = 'leaf' ORDER BY t.ordinal",
    )
    assert states == [
        ("A.1", "done", "by import, no evidence"),
        ("A.2", "ready", ""),
        ("A.3", "waiting", ""),
        ("A.4", "held", "in progress elsewhere"),
        ("A.5", "held", "blocked in the plan"),
    ]
    ranks = dict(execute(database, "SELECT key, rank FROM tasks"))
    assert ranks["A.2"] > ranks["A.3"] > 0
    assert execute(database, "SELECT agent_type FROM tasks WHERE key = 'A.2'") == [("backend-development",)]


async def test_taken_tasks_wait_like_the_others(service):
    submitted = await service.submit(SubmitRequest(text=PLAN, take=True))
    assert (await service.task("A.4", plan_id=submitted.plan_id)).state == "ready"


async def test_a_container_is_done_when_nothing_below_it_is_open(service):
    text = "# P\n\n## One\n\n- [x] **A.1** x\n\n## Two\n\n- [x] **B.1** x\n- [ ] **B.2** x\n"
    submitted = await service.submit(SubmitRequest(text=text))
    page = await service.tasks(submitted.plan_id)
    containers = {task.title: task.state for task in page.items if task.kind == "container"}
    assert set(containers.values()) == {"done", "waiting"}, containers


@pytest.mark.parametrize(
    "request_",
    [
        SubmitRequest(text=""),
        SubmitRequest(text="# Only words\n\nand more\n"),
        SubmitRequest(text="- [ ] **A.1** no name and no title\n"),
        SubmitRequest(text="# P\n\n- [ ] **A.1** x\n  - depends: A.1\n"),
        SubmitRequest(text="# P\n\n- [ ] **A.1** x\n  - depends: A.2\n- [ ] **A.2** y\n  - depends: A.1\n"),
        SubmitRequest(text=PLAN, until_key="A.99"),
        SubmitRequest(text=PLAN, backend="telepathy"),
        SubmitRequest(text=PLAN, workdir="work"),
        SubmitRequest(text=PLAN, name="n" * 501),
        SubmitRequest(text='{"plan_version": 1, "title": "NUL \\u0000", "tasks": [{"title": "x"}]}'),
        SubmitRequest(text=PLAN, name="half a pair \ud800"),
    ],
    ids=lambda request: repr(request.text[:20]) + request.name[:5],
)
async def test_a_bad_plan_is_refused_and_nothing_is_stored(service, scheduler, database, request_):
    with pytest.raises(PlanError) as caught:
        await service.submit(request_, idempotency_key="k")
    assert caught.value.message
    assert rows_count(database) == NOTHING
    assert scheduler.nudges == 0


async def test_findings_come_with_the_refusal(service):
    with pytest.raises(PlanError) as caught:
        await service.submit(SubmitRequest(text="# P\n\n- [ ] **A.1** x\n  - depends: A.7\n", source="p.md"))
    (finding,) = [finding for finding in caught.value.findings if finding.severity == "error"]
    assert (finding.line, finding.code) == (4, "unknown-dependency")
    assert "p.md, line 4" in str(caught.value)


async def test_fifty_posts_of_one_key_make_one_plan(service, scheduler, database):
    answers = await asyncio.gather(
        *(service.submit(SubmitRequest(text=PLAN), idempotency_key="once") for _ in range(50))
    )
    assert len(set(answers)) == 1
    assert answers[0].is_new
    assert rows_count(database)["plans"] == 1


async def test_fifty_posts_without_a_key_make_one_plan(service, database):
    answers = await asyncio.gather(*(service.submit(SubmitRequest(text=PLAN)) for _ in range(50)))
    assert sorted(answer.is_new for answer in answers) == [False] * 49 + [True]
    assert rows_count(database)["plans"] == 1


async def test_a_key_belongs_to_one_request(service):
    await service.submit(SubmitRequest(text=PLAN), idempotency_key="k")
    with pytest.raises(Conflict, match="another request"):
        await service.submit(SubmitRequest(text=PLAN, name="other"), idempotency_key="k")


async def test_a_known_plan_goes_on(service, scheduler):
    first = await service.submit(SubmitRequest(text=PLAN))
    again = await service.submit(SubmitRequest(text=PLAN))
    assert (again.plan_id, again.is_new, again.tasks_total) == (first.plan_id, False, 5)
    assert (scheduler.nudges, scheduler.requests) == (2, [])


async def test_another_end_resumes_the_known_plan(service, scheduler):
    first = await service.submit(SubmitRequest(text=PLAN))
    await service.submit(SubmitRequest(text=PLAN, until_key="A.2"))
    ((kind, args, _),) = scheduler.requests
    task = await service.task("A.2", plan_id=first.plan_id)
    assert (kind, args["plan_id"], args["until_task"]) == ("resume_plan", first.plan_id, task.id)


async def test_a_paused_plan_is_resumed(service, scheduler, database):
    await service.submit(SubmitRequest(text=PLAN))
    execute(database, "UPDATE plans SET state = 'paused'")
    await service.submit(SubmitRequest(text=PLAN))
    assert [kind for kind, _, _ in scheduler.requests] == ["resume_plan"]


async def test_what_the_scheduler_refused_is_asked_for_again_under_the_same_key(service, scheduler, database):
    await service.submit(SubmitRequest(text=PLAN))
    execute(database, "UPDATE plans SET state = 'stalled'")
    scheduler.error = Overloaded("The scheduler is starting.")
    with pytest.raises(Overloaded):
        await service.submit(SubmitRequest(text=PLAN, retry=True), idempotency_key="k")
    scheduler.error = None
    await service.submit(SubmitRequest(text=PLAN, retry=True), idempotency_key="k")
    await service.submit(SubmitRequest(text=PLAN, retry=True), idempotency_key="k")
    assert [kind for kind, _, _ in scheduler.requests] == ["resume_plan"]


async def test_a_known_name_with_another_text_is_a_conflict(service, database):
    await service.submit(SubmitRequest(text=PLAN))
    with pytest.raises(Conflict, match="--fresh"):
        await service.submit(SubmitRequest(text=PLAN + "- [ ] **A.6** More\n"))
    assert rows_count(database)["plans"] == 1


async def test_a_known_plan_keeps_its_backend(service, scheduler):
    await service.submit(SubmitRequest(text=PLAN, backend="simulated"))
    with pytest.raises(Conflict, match="known with the backend `simulated`") as refused:
        await service.submit(SubmitRequest(text=PLAN, backend="openai"))
    assert "--fresh" in refused.value.remedy
    for backend in ("auto", "simulated"):
        assert not (await service.submit(SubmitRequest(text=PLAN, backend=backend))).is_new


async def test_a_cancelled_plan_does_not_go_on(service, database):
    await service.submit(SubmitRequest(text=PLAN))
    execute(database, "UPDATE plans SET state = 'cancelled'")
    with pytest.raises(Conflict, match="--fresh"):
        await service.submit(SubmitRequest(text=PLAN))


async def test_fresh_sets_the_old_one_aside(service, scheduler, database):
    ids = [(await service.submit(SubmitRequest(text=PLAN, is_fresh=True))).plan_id for _ in range(3)]
    assert len(set(ids)) == 3
    assert execute(database, "SELECT name FROM plans ORDER BY id") == [
        ("Ship it@1",),
        ("Ship it@2",),
        ("Ship it",),
    ]
    assert [(kind, args["plan_id"]) for kind, args, _ in scheduler.requests] == [
        ("cancel_plan", ids[0]),
        ("cancel_plan", ids[1]),
    ]


async def test_fresh_does_not_cancel_what_is_over(service, scheduler, database):
    await service.submit(SubmitRequest(text=PLAN))
    execute(database, "UPDATE plans SET state = 'done'")
    await service.submit(SubmitRequest(text=PLAN, is_fresh=True))
    assert scheduler.requests == []


async def test_a_repeated_fresh_post_cancels_nothing(service, scheduler):
    first = await service.submit(SubmitRequest(text=PLAN, is_fresh=True), idempotency_key="k")
    assert await service.submit(SubmitRequest(text=PLAN, is_fresh=True), idempotency_key="k") == first
    assert scheduler.requests == []


async def test_a_workdir_is_relative_to_the_base(service, database):
    text = "---\nworkdir: work\nbackend: simulated\n---\n" + PLAN
    await service.submit(SubmitRequest(text=text, base_dir="/srv/plans"))
    assert execute(database, "SELECT workdir, backend FROM plans") == [("/srv/plans/work", "simulated")]


async def test_tenants_do_not_see_each_other(service, database, tmp_path, scheduler):
    await service.submit(SubmitRequest(text=PLAN), idempotency_key="k")
    async with open_service(database, tmp_path, scheduler=scheduler, tenant_id="other") as other:
        assert (await other.plans()).items == ()
        assert (await other.submit(SubmitRequest(text=PLAN), idempotency_key="k")).is_new
        assert len((await other.plans()).items) == 1
    assert len((await service.plans()).items) == 1


async def test_a_thousand_tasks_are_stored_at_once(service):
    tasks = 1_000
    lines = [f"- [ ] **A.1.{n}** Do number {n}\n  - depends: A.1.{n - 1}\n" for n in range(2, tasks + 1)]
    submitted = await service.submit(
        SubmitRequest(text="# Many\n\n- [ ] **A.1.1** Do number 1\n" + "".join(lines))
    )
    assert submitted.tasks_total == tasks
    assert (await service.plan(str(submitted.plan_id))).tasks_total == tasks


async def test_a_database_that_is_away_is_named_without_its_password(database, tmp_path, scheduler):
    away = type(database)(**dict.fromkeys(database.__slots__, "postgresql://u:secret@127.0.0.1:1/d"))
    async with open_service(away, tmp_path, scheduler=scheduler) as service:
        with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1:1/d") as caught:
            await service.submit(SubmitRequest(text=PLAN))
    assert "secret" not in str(caught.value)
