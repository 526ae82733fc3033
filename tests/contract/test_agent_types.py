"""Agent types as stored: in step with their files, brought along by plans, and what executors work by."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from orchestrator.agent_types import AgentLimits, AgentType, LiveAgentType
from orchestrator.errors import NotFound, Overloaded, PlanError
from orchestrator.ports import SessionLimits
from orchestrator.routing import choose_backend
from orchestrator.runtime import revision
from orchestrator.runtime.service import Service
from orchestrator.store import executors
from orchestrator.store.agent_types import keep_agent_types, read_agent_types, save_own
from orchestrator.store.engine import make_engine, tenant_transaction
from orchestrator.store.executors import ExecutorStore
from orchestrator.store.scheduler import PostgresSchedulerStore
from orchestrator.store.urls import DatabaseUrls
from orchestrator.views import NewLimits, ReviseRequest, SubmitRequest
from tests.support.rows import Rows, lease, make_store
from tests.support.service import RememberingScheduler

pytestmark = pytest.mark.postgres

GENERAL = AgentType(name="general-purpose", prompt="Do anything.")
CODER = AgentType(name="coder", prompt="Write code.", tools=("Read",), model="m", file="agents/coder.md")
BROKEN = AgentType(name="coder", file="agents/coder.md", fault="line 3: it is no YAML")


class Stage:
    """An executor of the pool `coder`, or of another, and what the tables say."""

    def __init__(self, urls: DatabaseUrls) -> None:
        self.urls = urls
        self.rows = Rows(urls)
        self.scheduler = make_store(urls.direct)
        self.executors: list[ExecutorStore] = []
        self.batch = 0

    async def works_by(self, pool: str = "coder", *, options: dict[str, str] | None = None, again=None):
        """Start an attempt on a new executor, or again on one; return what it is to do, and the executor."""
        executor = again or ExecutorStore(
            self.urls.service, executor="x1", incarnation="i1", node_id="n1", agent_type=pool,
            limits=SessionLimits(),
        )  # fmt: skip
        self.executors.append(executor)
        plan_id, (task_id,) = self.rows.plan(1, state="active", options=options)
        self.batch += 1
        await self.scheduler.commit(self.batch, [lease(self.batch, plan_id=plan_id, task_id=task_id)])
        (assignment,) = await executor.start([self.batch])
        return assignment, executor

    def stored(self) -> dict[str, tuple[object, str]]:
        found = self.rows.all("SELECT name, definition->>'prompt' AS prompt, fault FROM agent_types")
        return {row["name"]: (row["prompt"], row["fault"]) for row in found}


@pytest.fixture
async def stage(database: DatabaseUrls) -> AsyncIterator[Stage]:
    made = Stage(database)
    await made.scheduler.take_term(incarnation="i1", is_starting=True, patience_s=5)
    yield made
    await made.scheduler.close()
    for executor in made.executors:
        await executor.close()


def test_what_is_stored_follows_the_files(database: DatabaseUrls) -> None:
    rows = Rows(database)
    keep_agent_types(database.service, [GENERAL, CODER])
    since = rows.column("SELECT updated_at FROM agent_types WHERE name = 'coder'")
    keep_agent_types(database.service, [GENERAL, CODER])
    assert rows.column("SELECT updated_at FROM agent_types WHERE name = 'coder'") == since, "nothing changed"
    keep_agent_types(database.service, [GENERAL, CODER.model_copy(update={"prompt": "Write more."})])
    assert rows.column("SELECT definition->>'prompt' FROM agent_types ORDER BY name") == [
        "Write more.",
        "Do anything.",
    ]
    keep_agent_types(database.service, [GENERAL])
    assert rows.column("SELECT name FROM agent_types") == ["general-purpose"]


def test_a_file_that_turns_bad_changes_nothing_until_it_is_mended(stage: Stage) -> None:
    keep_agent_types(stage.urls.service, [BROKEN])
    assert stage.stored() == {"coder": (None, BROKEN.fault)}
    keep_agent_types(stage.urls.service, [CODER])
    assert stage.stored() == {"coder": ("Write code.", "")}
    keep_agent_types(stage.urls.service, [BROKEN])
    assert stage.stored() == {"coder": ("Write code.", BROKEN.fault)}


async def test_a_session_works_by_the_file_of_its_type(stage: Stage) -> None:
    limits = AgentLimits(timeout_s=60, idle_timeout_s=10**6, turns=3, cost_micros=7)
    keep_agent_types(stage.urls.service, [GENERAL, CODER.model_copy(update={"limits": limits})])
    assignment, _ = await stage.works_by()
    assert (assignment.prompt, assignment.tools, assignment.model) == ("Write code.", ("Read",), "m")
    told = assignment.limits
    assert (told.total_timeout_s, told.turns_max, told.cost_micros_max) == (60, 3, 7)
    assert told.idle_timeout_s == SessionLimits().idle_timeout_s, "a file never widens what may be"
    by_task, _ = await stage.works_by(options={"timeout": "5 min"})
    assert by_task.limits.total_timeout_s == 300, "the task says it more closely"


async def test_a_name_without_a_file_works_by_the_general_one(stage: Stage) -> None:
    keep_agent_types(stage.urls.service, [GENERAL])
    assignment, _ = await stage.works_by("stern-poet")
    assert assignment.prompt == "Do anything."


async def test_a_session_that_begins_later_works_by_the_file_as_it_is_then(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "_AGENT_TYPE_S", 0.0)
    keep_agent_types(stage.urls.service, [GENERAL, CODER])
    before, executor = await stage.works_by()
    keep_agent_types(stage.urls.service, [GENERAL, CODER.model_copy(update={"prompt": "Write tests."})])
    after, _ = await stage.works_by(again=executor)
    keep_agent_types(stage.urls.service, [GENERAL])
    gone, _ = await stage.works_by(again=executor)
    assert [each.prompt for each in (before, after, gone)] == ["Write code.", "Write tests.", "Do anything."]


async def test_what_a_plan_brings_along_holds_for_that_plan(stage: Stage) -> None:
    keep_agent_types(stage.urls.service, [GENERAL, CODER])
    plan_id, _ = stage.rows.plan(1, state="active", options={"review": "coder"})
    stage.rows.all("UPDATE tasks SET run = '[]'")
    engine = make_engine(stage.urls.api)
    own = AgentType(name="coder", prompt="Ours.", backend="simulated", limits=AgentLimits(sessions=2))
    async with tenant_transaction(engine, "local") as connection:
        await save_own(connection, [own], plan_id=plan_id, tenant_id="local")
        found = [each.agent_type.prompt for each in await read_agent_types(connection, plan_id=plan_id)]
    await engine.dispose()
    assert found == ["Write code.", "Do anything.", "Ours."]

    name = f"coder@{plan_id}"
    assert [(await stage.works_by(pool))[0].prompt for pool in (name, "coder")] == ["Ours.", "Write code."]
    store = PostgresSchedulerStore(
        stage.urls.direct, cluster_id="c1", attempts_max=3, choose_backend=choose_backend
    )
    (task,) = [part.tasks[0] async for part in store.load_plan(plan_id)]
    assert (task.agent_type, task.rules.review_agent) == (name, name)
    assert (task.backend, task.rules.review_backend) == ("simulated", "simulated")
    assert await store.agent_sessions() == {"coder": None, "general-purpose": None, name: 2}
    await store.close()
    keep_agent_types(stage.urls.service, [GENERAL])
    assert set(stage.stored()) == {"general-purpose", name}, "files of everybody are no plan's"


POET = "---\nname: poet\nkeywords: [ode]\nlimits: {sessions: 1}\n---\nYou write odes."


async def test_a_plan_is_handed_in_with_its_own(service: Service, database: DatabaseUrls) -> None:
    rows = Rows(database)
    request = SubmitRequest(text="# P\n\n- [ ] An ode to tests\n", agents={"agents/poet.md": POET})
    submitted = await service.submit(request)
    (name,) = rows.column("SELECT name FROM agent_types WHERE plan_id = %s", submitted.plan_id)
    assert name == f"poet@{submitted.plan_id}"
    assert rows.column("SELECT agent_type FROM tasks WHERE kind = 'leaf'") == ["poet"]

    changed = POET.replace("odes", "sonnets")
    await service.submit(request.model_copy(update={"agents": {"agents/poet.md": changed}}))
    assert rows.column("SELECT definition->>'prompt' FROM agent_types") == ["You write sonnets."]
    await service.submit(request.model_copy(update={"agents": {}}))
    assert rows.column("SELECT name FROM agent_types") == [name], "its tasks still need it"


async def test_readers_see_what_files_say_and_how_types_stand(
    service: Service, scheduler: RememberingScheduler, database: DatabaseUrls
) -> None:
    keep_agent_types(database.service, [GENERAL, CODER, BROKEN.model_copy(update={"name": "lost"})])
    request = SubmitRequest(text="# P\n\n- [ ] An ode\n", agents={"agents/poet.md": POET})
    plan_id = (await service.submit(request)).plan_id
    name = f"poet@{plan_id}"
    pools = [{"agent_type": name, "running": 1, "queued": 2, "breaker": "open"}]
    limits = [{"scope": "agent", "name": "coder", "sessions_max": 3}]
    scheduler.told = {"pools": pools, "limits": limits}
    found = {view.pool: view for view in await service.agent_types(plan_id=plan_id)}
    assert list(found) == ["coder", "general-purpose", "lost", name]
    assert found[name].live == LiveAgentType(running=1, queued=2, sessions_max=1, breaker="open")
    assert found["coder"].live == LiveAgentType(running=0, queued=0, sessions_max=3, breaker="closed")
    assert (found["lost"].fault, found["coder"].fault) == (BROKEN.fault, "")
    assert set(found) - {view.pool for view in await service.agent_types()} == {name}
    assert (await service.agent_type(name)).prompt == "You write odes."
    with pytest.raises(NotFound, match="'codre'") as unknown:
        await service.agent_type("codre")
    assert "'coder'" in unknown.value.remedy
    scheduler.error = Overloaded("away")
    assert (await service.agent_type("coder")).live is None


async def test_a_limit_may_name_a_type_of_a_plan(service: Service, database: DatabaseUrls) -> None:
    request = SubmitRequest(text="# P\n\n- [ ] An ode\n", agents={"agents/poet.md": POET})
    plan_id = (await service.submit(request)).plan_id
    await service.request("set_limits", limits=NewLimits(agents={f"poet@{plan_id}": 2}))
    with pytest.raises(NotFound):
        await service.request("set_limits", limits=NewLimits(agents={"poet@999": 2}))


async def test_a_revision_is_routed_by_what_the_plan_brought_along(
    service: Service, database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revision, "_PATIENCE_S", 0.1)  # no scheduler takes it here
    text = "# P\n\n- [ ] A.1 An ode\n"
    plan_id = (await service.submit(SubmitRequest(text=text, agents={"agents/poet.md": POET}))).plan_id
    revised = await service.revise(
        str(plan_id), ReviseRequest(text=text + "- [ ] A.2 Another ode\n"), is_applied=True
    )
    (content,) = Rows(database).column(
        "SELECT content FROM plan_revisions WHERE id = %s", revised.revision_id
    )
    assert "the title says `ode` first" in str(content)


async def test_a_revision_brings_agent_types_along(
    service: Service, database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revision, "_PATIENCE_S", 0.1)  # no scheduler takes it here
    rows, text = Rows(database), "# P\n\n- [ ] A.1 An ode\n"
    plan_id = (await service.submit(SubmitRequest(text=text))).plan_id
    more = ReviseRequest(text=text + "- [ ] A.2 Another ode\n", agents={"agents/poet.md": POET})
    await service.revise(str(plan_id), more, is_applied=False)
    assert rows.all("SELECT FROM agent_types") == [], "it was only shown"
    revised = await service.revise(str(plan_id), more, is_applied=True)
    assert rows.column("SELECT name FROM agent_types") == [f"poet@{plan_id}"]
    (content,) = rows.column("SELECT content FROM plan_revisions WHERE id = %s", revised.revision_id)
    assert "the title says `ode` first" in str(content)

    same = ReviseRequest(text=text, agents={"agents/poet.md": POET.replace("odes", "sonnets")})
    assert (await service.revise(str(plan_id), same, is_applied=True)).state == "unchanged"
    assert rows.column("SELECT definition->>'prompt' FROM agent_types") == ["You write sonnets."]
    bad = ReviseRequest(text=text, agents={"agents/poet.md": POET.replace("sessions: 1", "sessions: none")})
    with pytest.raises(PlanError, match="sessions: none"):
        await service.revise(str(plan_id), bad, is_applied=True)
    assert rows.column("SELECT definition->>'prompt' FROM agent_types") == ["You write sonnets."]


async def test_a_plan_with_a_bad_agent_type_file_is_refused(service: Service, database: DatabaseUrls) -> None:
    bad = POET.replace("sessions: 1", "sessions: none")
    request = SubmitRequest(text="# P\n\n- [ ] a\n", agents={"agents/poet.md": bad})
    with pytest.raises(PlanError) as refused:
        await service.submit(request)
    ((line, source),) = [(found.line, found.source) for found in refused.value.findings]
    assert (line, source) == (4, "agents/poet.md")
    assert Rows(database).all("SELECT FROM plans") == []
