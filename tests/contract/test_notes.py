"""Notes, and what stands around a task, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.core.commands import RecordNote
from orchestrator.core.events import NotesWritten
from orchestrator.core.words import AttemptState, FailureClass
from orchestrator.ports import Assignment, Outcome, SessionLimits
from orchestrator.runtime.redaction import REDACTED, Redaction
from orchestrator.runtime.service import Service
from orchestrator.store.executors import ExecutorStore
from orchestrator.store.notebook import PostgresNoteBook
from orchestrator.store.urls import DatabaseUrls
from orchestrator.surroundings import TaskOutcome
from orchestrator.views import NewNote, NoteKind, SubmitRequest
from tests.support.rows import Rows, make_store
from tests.support.service import RememberingScheduler, open_service

pytestmark = pytest.mark.postgres

#: Known to the executor; another one is known by its shape alone.
SECRET = "a secret of the executor"
SHAPED = "ghp_" + "a1B2" * 9

PLAN = """\
# Ship it

## Phase 1: Base

All of it must run offline.

- [ ] **A.1** Store the rows
- [ ] **A.2** Read the rows

## Phase 2: Front

Two pages, and no more.

### Pages

- [ ] **B.1** List them
  - depends: A.1
  - accept: It is sorted
  - verify: `true`
  - touches: `pages/**`
- [ ] **B.2** Show one
"""


class Stage:
    """The plan, stored; attempts are written as the scheduler would."""

    def __init__(self, urls: DatabaseUrls) -> None:
        self.urls = urls
        self.rows = Rows(urls)
        self.executor = ExecutorStore(
            urls.service, executor="x1", incarnation="i1", node_id="n1", limits=SessionLimits()
        )
        self.book = PostgresNoteBook(urls.service, name="notes", redact=Redaction([SECRET]).whole)
        self._token = 0

    def attempt(self, key: str, *, backend: str = "anthropic", kind: str = "work") -> int:
        """Lease an attempt of a task; returns its token."""
        self._token += 1
        self.rows.all(
            "INSERT INTO attempts (token, plan_id, task_id, number, kind, agent_type, backend, executor,"
            " cluster_id, epoch, state)"
            " SELECT %s, plan_id, id, 1 + (SELECT count(*) FROM attempts WHERE task_id = t.id), %s, 'poet',"
            " %s, 'x1', 'c', 1, 'leased' FROM tasks AS t WHERE key = %s",
            *(self._token, kind, backend, key),
        )
        return self._token

    def end(self, token: int, outcome: Outcome, *, task_state: str = "") -> None:
        """Write how an attempt ended, and with `task_state` what became of its task."""
        self.rows.all(
            "UPDATE attempts SET state = %s, failure_class = %s, summary = %s, detail = %s,"
            " report = %s::jsonb, ended_at = now() WHERE token = %s",
            *(outcome.state, outcome.failure_class, outcome.summary, outcome.detail),
            json.dumps(outcome.report),
            token,
        )
        if task_state:
            self.rows.all(
                "UPDATE task_states SET state = %s"
                " WHERE task_id = (SELECT task_id FROM attempts WHERE token = %s)",
                *(task_state, token),
            )

    async def start(self, key: str) -> Assignment:
        """Start an attempt of a task as its executor does."""
        (assignment,) = await self.executor.start([self.attempt(key)])
        return assignment


@pytest.fixture
async def service(database: DatabaseUrls, tmp_path: Path) -> AsyncIterator[Service]:
    async with open_service(database, tmp_path, scheduler=RememberingScheduler()) as service:
        yield service


@pytest.fixture
async def stage(database: DatabaseUrls, service: Service) -> AsyncIterator[Stage]:
    await service.submit(SubmitRequest(text=PLAN))
    made = Stage(database)
    yield made
    await made.executor.close()
    await made.book.close()


DONE = Outcome(
    state=AttemptState.SUCCEEDED,
    summary="did it",
    report={"summary": "Rows lie in rows.db.", "files": ["rows.py"], "follow_ups": ["an index"]},
)


async def test_a_session_is_told_where_its_task_belongs_and_what_it_builds_on(stage: Stage) -> None:
    stage.end(stage.attempt("A.1"), DONE, task_state="done")
    around = (await stage.start("B.1")).surroundings
    assert (around.plan, around.touches) == ("Ship it", ("pages/**",))
    titles = [ancestor.title for ancestor in around.ancestors]
    assert titles == ["Phase 2: Front", "Pages"]
    assert "no more" in around.ancestors[0].body
    (outcome,) = around.dependencies
    assert outcome == TaskOutcome(
        key="A.1",
        title="Store the rows",
        state="done",
        summary="Rows lie in rows.db.",
        files=("rows.py",),
        follow_ups=("an index",),
    )


async def test_a_dependency_on_a_container_tells_what_came_of_the_tasks_in_it(stage: Stage) -> None:
    stage.end(stage.attempt("A.1"), DONE, task_state="done")
    stage.rows.all(
        "INSERT INTO task_dependencies (plan_id, task_id, on_task_id, kind, is_explicit)"
        " SELECT t.plan_id, t.id, o.id, 'blocks', true FROM tasks t, tasks o"
        " WHERE t.key = 'B.2' AND o.title = 'Phase 1: Base'"
    )
    around = (await stage.start("B.2")).surroundings
    container, *within = around.dependencies
    assert (container.title, container.within) == ("Phase 1: Base", "")
    assert {(each.key, each.within, each.summary) for each in within} == {
        ("A.1", container.key, "Rows lie in rows.db."),
        ("A.2", container.key, ""),
    }


async def test_what_failed_by_its_own_doing_is_told_the_latest_at_length(stage: Stage) -> None:
    def failed(by: FailureClass, summary: str) -> Outcome:
        return Outcome(
            state=AttemptState.FAILED, failure_class=by, summary=summary, detail=f"all of {summary}"
        )

    for by, summary in (
        (FailureClass.AGENT, "first"),
        (FailureClass.GATE, "second"),
        (FailureClass.RATE_LIMITED, "third"),
    ):
        stage.end(stage.attempt("B.1"), failed(by, summary))
    found = (await stage.start("B.1")).surroundings.failed
    assert [(each.summary, each.detail) for each in found] == [("second", "all of second"), ("first", "")]


async def test_nothing_is_read_for_commands(stage: Stage) -> None:
    (assignment,) = await stage.executor.start([stage.attempt("B.1", backend="command")])
    assert assignment.surroundings.plan == ""


async def test_notes_reach_those_who_rely_on_the_task_and_decisions_everybody(
    stage: Stage, service: Service
) -> None:
    token = stage.attempt("A.1")
    await stage.book.write(token, kind=NoteKind.NOTE, text="rows are sorted")
    await stage.book.write(token, kind=NoteKind.DECISION, text="UTC everywhere")
    told = {key: (await stage.start(key)).surroundings for key in ("B.1", "B.2")}
    assert [note.text for note in told["B.1"].notes] == ["UTC everywhere", "rows are sorted"]
    assert [note.text for note in told["B.2"].notes] == ["UTC everywhere"]
    decision = told["B.2"].notes[0]
    assert (decision.kind, decision.task_key, decision.author) == (NoteKind.DECISION, "A.1", "poet")


async def test_a_note_on_a_container_or_the_plan_reaches_the_tasks_in_it(
    stage: Stage, service: Service
) -> None:
    (row,) = stage.rows.all("SELECT plan_id, key FROM tasks WHERE title = 'Phase 2: Front'")
    await service.write_note(row["plan_id"], NewNote(text="blue pages", task=row["key"]))
    await service.write_note(row["plan_id"], NewNote(text="be quick"))
    told = {key: (await stage.start(key)).surroundings.notes for key in ("A.1", "B.2")}
    assert [note.text for note in told["A.1"]] == ["be quick"]
    assert [(note.text, note.author) for note in told["B.2"]] == [("be quick", ""), ("blue pages", "")]


async def test_only_a_live_attempt_writes_and_the_same_text_is_kept_once(stage: Stage) -> None:
    token = stage.attempt("A.1")
    for _ in range(2):
        assert await stage.book.write(token, kind=NoteKind.NOTE, text="once \0")
    stage.end(token, DONE)
    assert not await stage.book.write(token, kind=NoteKind.NOTE, text="late")
    assert not await stage.book.write(999, kind=NoteKind.NOTE, text="nobody's")
    assert stage.rows.column("SELECT text FROM notes") == ["once \ufffd"]


async def test_notes_written_at_once_are_all_kept(stage: Stage) -> None:
    token = stage.attempt("A.1")
    written = await asyncio.gather(
        *(stage.book.write(token, kind=NoteKind.NOTE, text=f"note {n}") for n in range(20))
    )
    assert written == [True] * 20
    assert len(await stage.book.read(token)) == 20


async def test_a_session_recalls_another_task_of_its_plan(stage: Stage) -> None:
    mine = stage.attempt("B.1")
    other = stage.attempt("A.1")
    await stage.book.write(other, kind=NoteKind.NOTE, text="rows are sorted")
    stage.end(other, DONE, task_state="done")
    recalled = await stage.book.recall(mine, "A.1")
    assert recalled is not None
    assert (recalled.outcome.summary, recalled.notes[0].text) == ("Rows lie in rows.db.", "rows are sorted")
    assert await stage.book.recall(mine, "Z.9") is None


async def test_no_note_keeps_a_secret_whoever_writes_it(stage: Stage, service: Service) -> None:
    await stage.book.write(stage.attempt("A.1"), kind=NoteKind.NOTE, text=f"Use {SECRET} and {SHAPED}.")
    plan_id = await service.plan_id("Ship it")
    told = await service.write_note(plan_id, NewNote(text=f"Mine is {SHAPED}."))
    assert told.text == f"Mine is {REDACTED}."
    texts = {note.text for note in (await service.notes(plan_id)).items}
    assert texts == {f"Use {REDACTED} and {REDACTED}.", f"Mine is {REDACTED}."}


async def test_each_note_becomes_one_event_also_when_it_is_found_twice(
    stage: Stage, service: Service
) -> None:
    scheduler = make_store(stage.urls.direct)
    await scheduler.take_term(incarnation="i1", is_starting=True, patience_s=5)
    token = stage.attempt("A.1")
    await stage.book.write(token, kind=NoteKind.DECISION, text="By rows.")
    plan_id = await service.plan_id("Ship it")
    note = await service.write_note(plan_id, NewNote(text="On Friday."))
    found = [report for report in await scheduler.reports() if isinstance(report, NotesWritten)]
    assert found == [NotesWritten(note_ids=(note.id - 1, note.id))]
    rows = [RecordNote(note_id=note_id) for note_id in found[0].note_ids]
    await scheduler.commit(1, rows)
    await scheduler.commit(2, [*rows, *rows])
    assert not [report for report in await scheduler.reports() if isinstance(report, NotesWritten)]
    events = stage.rows.all("SELECT type, plan_id, task_id IS NULL AS is_of_plan, token, payload FROM events")
    told = {"type": "note.written", "plan_id": plan_id}
    assert events == [
        told | {"is_of_plan": False, "token": token, "payload": {"note": note.id - 1, "kind": "decision"}},
        told | {"is_of_plan": True, "token": None, "payload": {"note": note.id, "kind": "note"}},
    ]
    await scheduler.close()
