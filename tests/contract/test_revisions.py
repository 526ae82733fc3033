"""Revising a plan on a real PostgreSQL: with a scheduler at work, and step by step with crashes between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.core.words import AttemptState
from orchestrator.errors import Conflict, PlanError
from orchestrator.store.urls import DatabaseUrls
from orchestrator.views import Revised, ReviseRequest
from tests.support.rows import make_store
from tests.support.scheduled import World, open_world
from tests.support.service import execute

pytestmark = pytest.mark.postgres

PLAN = """\
# Shop

- [ ] **A.1** Design it
- [ ] **A.2** Build it
  - depends: A.1
- [ ] Write the words
- [x] Buy a domain
"""


@pytest.fixture
async def world(database: DatabaseUrls, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(database, tmp_path, PLAN) as made:
        yield made


async def revise(world: World, text: str, *, is_applied: bool = True, base: str = "") -> Revised:
    request = ReviseRequest(text=text, base_digest=base)
    return await world.service.revise("Shop", request, is_applied=is_applied)


def told(revised: Revised) -> list[tuple[str, str]]:
    return [(change.kind, change.key) for change in revised.changes]


async def test_a_diff_is_shown_and_changes_nothing(world: World) -> None:
    before = world.states()
    shown = await revise(world, PLAN + "- [ ] **A.3** Ship it\n", is_applied=False)
    assert (shown.state, told(shown)) == ("shown", [("added", "A.3")])
    assert (world.states(), world.revisions()) == (before, [])


async def test_the_same_text_stores_nothing(world: World) -> None:
    revised = await revise(world, PLAN)
    assert (revised.state, revised.changes, world.revisions()) == ("unchanged", (), [])


async def test_an_edit_is_taken_while_the_plan_runs(world: World) -> None:
    await world.begin()
    await world.until(A_1="running")
    text = (
        PLAN.replace("Design it\n", "Design it well\n")
        .replace("- [ ] Write the words\n", "")
        .replace("# Shop\n", "# Shop\n\n- [ ] **A.0** Think\n")
        .replace("  - depends: A.1\n", "  - depends: A.0\n")
    )
    revised = await revise(world, text)
    assert revised.state == "applied"
    assert told(revised) == [
        ("added", "A.0"),
        ("changed", "A.1"),
        ("changed", "A.2"),
        ("removed", "write-the-words"),
    ]
    await world.until(A_0="running")
    task = await world.service.task("A.1", plan_id=revised.plan_id)
    assert (task.title, task.state, len(task.attempts)) == ("Design it well", "running", 1)
    await world.end("A.1")
    await world.until(A_1="done", A_2="waiting")
    await world.end("A.0")
    await world.until(A_2="running")
    gone = {key: state for key, state in world.states().items() if "@" in key}
    assert len(gone) == 1
    source = await world.service.source("Shop")
    assert source.files == {"": text}
    assert [task.key for task in source.tasks if task.kind == "leaf"] == ["A.0", "A.1", "A.2", "buy-a-domain"]


async def test_a_plan_that_is_done_goes_on(world: World) -> None:
    await world.begin()
    await world.until(A_1="running", **{"write-the-words": "running"})
    await world.end("A.1")
    await world.end("write-the-words")
    await world.until(A_2="running")
    await world.end("A.2")
    await world.until(A_2="done")
    await revise(world, PLAN + "- [ ] **A.3** Ship it\n")
    await world.until(A_3="running")


async def test_marks_of_the_text_count_where_the_author_has_changed_them(world: World) -> None:
    await world.begin()
    await world.until(A_1="running")
    edited = PLAN.replace("[ ] Write", "[!] Write").replace("[x] Buy", "[ ] Buy")
    with pytest.raises(Conflict):  # it runs already
        await revise(world, edited)
    revised = await revise(world, PLAN.replace("[x] Buy", "[ ] Buy").replace("[ ] **A.1", "[x] **A.1"))
    assert sorted(revised.asked) == ["A.1", "buy-a-domain"]
    await world.until(**{"buy-a-domain": "running"})
    await world.end("A.1", AttemptState.CANCELLED)
    await world.until(A_1="done", A_2="running")


async def test_ids_that_change_hands_and_tasks_that_become_containers(world: World) -> None:
    text = (
        PLAN.replace("**A.1** Design", "**A.9** Design")
        .replace("**A.2** Build", "**A.1** Build")
        .replace("depends: A.1", "depends: A.9")
        .replace("- [ ] Write the words\n", "- [ ] Write the words\n  - [ ] Title\n  - [ ] Text\n")
    )
    await world.begin()
    revised = await revise(world, text)
    assert revised.state == "applied"
    assert revised.findings == ()
    states = world.states()
    assert {"A.9", "A.1", "title", "text"} <= states.keys()


async def test_what_one_has_shown_another_may_not_have_changed(world: World) -> None:
    await world.begin()
    first = await world.service.source("Shop")
    await revise(world, PLAN + "- [ ] **A.3** Ship it\n", base=first.digest)
    with pytest.raises(Conflict, match="revised meanwhile"):
        await revise(world, PLAN + "- [ ] **A.4** Sell it\n", base=first.digest)


async def test_of_two_at_once_one_is_refused(world: World) -> None:
    texts = [PLAN + f"- [ ] **A.{n}** Ship it\n" for n in (3, 4)]
    waiting = [asyncio.create_task(revise(world, text)) for text in texts]
    async with asyncio.timeout(30):
        while len(world.revisions()) < 2:  # noqa: ASYNC110  rows tell nobody
            await asyncio.sleep(0.02)
    await world.begin()
    states = {(await one).state for one in waiting}
    assert states == {"applied", "refused"}


DECIDE = (
    "INSERT INTO task_dependencies (tenant_id, plan_id, task_id, on_task_id, kind, is_explicit, evidence)"
    " SELECT task.tenant_id, task.plan_id, task.id, other.id, 'blocks', true, 'by hand'"
    " FROM tasks task, tasks other"
    " WHERE task.key = 'A.1' AND other.key = 'write-the-words'"
)


async def test_a_text_that_was_compared_before_a_decision_is_compared_again(world: World) -> None:
    text = PLAN.replace("Write the words\n", "Write the words\n  - depends: A.2\n")
    revising = asyncio.create_task(revise(world, text))
    async with asyncio.timeout(30):
        while not world.revisions():  # noqa: ASYNC110  rows tell nobody
            await asyncio.sleep(0.02)
    execute(world.urls, DECIDE)
    await world.begin()
    revised = await revising
    assert (revised.state, revised.reason) == ("refused", "dependencies were decided on by hand meanwhile")
    assert (await world.service.source("Shop")).files == {"": PLAN}
    with pytest.raises(Conflict, match="wait for each other"):
        await revise(world, text)


async def test_a_text_that_contradicts_a_decision_is_refused_with_the_cycle(
    world: World, database: DatabaseUrls
) -> None:
    execute(database, DECIDE)
    text = PLAN.replace("Write the words\n", "Write the words\n  - depends: A.2\n")
    with pytest.raises(Conflict, match=r"A\.1 → write-the-words → A\.2 → A\.1") as refused:
        await revise(world, text, is_applied=False)
    assert "by hand" in refused.value.remedy
    assert (await revise(world, PLAN + "- [ ] **A.3** Ship it\n", is_applied=False)).state == "shown"


async def test_errors_of_the_text_refuse_it(world: World) -> None:
    with pytest.raises(PlanError):
        await revise(world, PLAN + "- [ ] **A.3** Box\n  - run: `true`\n  - [ ] **A.3.1** In it\n")
    assert world.revisions() == []


@pytest.mark.parametrize("step", ["submitted", "stored", "applied"])
async def test_a_scheduler_that_dies_at_any_step_loses_nothing(world: World, step: str) -> None:
    await world.begin()
    await world.until(A_1="running")
    await world.die()
    revising = asyncio.create_task(
        revise(world, PLAN.replace("- [ ] Write the words\n", "") + "- [ ] **A.3** Ship it\n")
    )
    async with asyncio.timeout(30):
        while not world.revisions():  # noqa: ASYNC110  rows tell nobody
            await asyncio.sleep(0.02)
    if step != "submitted":
        store = make_store(world.urls.direct)
        await store.take_term(incarnation="i1", is_starting=True, patience_s=0.1)
        assert await store.store_revision(1)
        assert await store.store_revision(1)
        await store.close()
        assert world.revisions() == ["stored"]
    if step == "applied":
        await world.begin()
        await revising
        await world.die()
    await world.begin()
    assert (await revising).state == "applied"
    await world.until(A_1="running", A_2="waiting", A_3="running")
    ((attempts,),) = execute(
        world.urls, "SELECT count(*) FROM attempts a JOIN tasks t ON t.id = a.task_id WHERE t.key = 'A.1'"
    )
    assert attempts == 1
