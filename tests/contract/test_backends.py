"""What every backend promises, tried on each: real processes, real programs, the local API of its provider.

A new backend is one file of `orchestrator/sessions`, one entry of its registry, and one of `API_OF` here.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.words import AttemptKind, AttemptState, FailureClass
from orchestrator.errors import SettingsError
from orchestrator.ports import Assignment, Backend, Outcome, SessionCancelled, SessionLimits, Usage
from orchestrator.runtime.executing import storable_outcome
from orchestrator.runtime.redaction import Redaction
from orchestrator.sessions.config import SessionConfig
from orchestrator.sessions.registry import Provider, make_backends
from orchestrator.store.executors import ExecutorStore
from orchestrator.store.urls import DatabaseUrls
from orchestrator.workspace import tree
from orchestrator.workspace.launcher import ProcessLauncher
from tests.support.claude_code_api import ClaudeCodeApi, turns
from tests.support.journals import MemoryJournals
from tests.support.messages_api import API_KEY, Block, MessagesApi, Reply, call, done, text
from tests.support.notes import MemoryNoteBook
from tests.support.openai_api import OpenAIApi
from tests.support.rows import Rows, lease, make_store
from tests.support.sessions import BASE, MODEL, PRICES, Recorder, assignment, workspace

#: The server of each backend that asks a model.
API_OF: Mapping[str, type[MessagesApi]] = {
    "anthropic": MessagesApi,
    "claude-code": ClaudeCodeApi,
    "openai": OpenAIApi,
}
WITH_MODEL = tuple(API_OF)
NAMES = ("command", "simulated", *WITH_MODEL)

#: Claude Code calls the same tools otherwise.
TOOLS_OF_CLAUDE_CODE = {"bash": "Bash", "report": "StructuredOutput"}

PATIENCE_S = 240.0
HANG = "touch begun; setsid sleep 300 & sleep 300"
LOOK = "{ env; tr '\\0' '\\n' < /proc/$PPID/environ; } > seen"
BABBLE = r"printf 'a\0b \377\376 \303'; head -c 300000 /dev/zero | tr '\0' x; echo; exit 3"
FOREIGN = "postgresql://of-the-executor"


@dataclass(frozen=True)
class Case:
    """One way of an attempt, told to each backend in its own terms."""

    run: tuple[str, ...] = ("true",)
    simulate: str = "1ms"
    replies: tuple[Reply, ...] = (Reply([done()]),)

    @classmethod
    def of_command(cls, line: str, *, simulate: str = "1ms", end: Block | None = None) -> Case:
        """A command line, as a line of the plan or called by the model, who then reports."""
        replies = (Reply([call("bash", command=line)]), Reply([end or done()]))
        return cls(run=(line,), simulate=simulate, replies=replies)


NO_WAY = call("report", status="failed", summary="No way.")
ACCEPTED = call("report", verdict="accepted", summary="It holds.")
REFUSED = call("report", verdict="refused", summary="Not yet.", reasons=["Name the units."])

SUCCESS = Case.of_command("echo work")
FAILURE = Case.of_command("echo work; exit 3", simulate="1ms fail 1", end=NO_WAY)
ACCEPTANCE = Case.of_command("test -d .", end=ACCEPTED)
REFUSAL = Case(simulate="1ms refuse 1", replies=(Reply([REFUSED]),))
HANGING = Case.of_command(HANG, simulate="5 min")


Session = asyncio.Task[Outcome]


@dataclass
class Bench:
    """A backend with all it needs, and what it left behind."""

    backend: Backend
    folder: Path
    records: Path
    api: MessagesApi
    transcript: Recorder = field(default_factory=Recorder)

    @property
    def name(self) -> str:
        """Of the backend."""
        return self.backend.name

    def start(self, case: Case, *, limits: Mapping[str, Any] | None = None, **values: Any) -> Session:
        """Begin a session; its clocks are long unless given."""
        self.api.scenario = turns(*(self._in_its_words(reply) for reply in case.replies))
        times = {"total_timeout_s": PATIENCE_S, "idle_timeout_s": PATIENCE_S, **(limits or {})}
        options = {"simulate": case.simulate}
        given: Assignment = assignment(
            backend=self.name, run=case.run, options=options, limits=times, **values
        )
        return asyncio.create_task(self.backend.run(given, workspace(self.folder), self.transcript))

    def _in_its_words(self, reply: Reply) -> Reply:
        return reply if self.name != "claude-code" else replace(reply, content=_renamed(reply.content))

    def _is_begun(self) -> bool:
        return self.name == "simulated" or (self.folder / "begun").exists()

    async def has_begun(self, session: Session) -> None:
        """Wait until the session of the case HANGING is at its work."""
        if self.name == "simulated":
            await self.transcript.saw("pretends")
        async with asyncio.timeout(PATIENCE_S):
            while not (self._is_begun() or session.done()):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert not session.done()


def _renamed(content: Sequence[Block]) -> list[Block]:
    renamed = TOOLS_OF_CLAUDE_CODE
    return [block | {"name": renamed[block["name"]]} if "name" in block else block for block in content]


@pytest.fixture
def bench(name: str, tmp_path: Path) -> Iterator[Bench]:
    """The backend `name`; after each test nothing of it may be left."""
    folder, records = tmp_path / "work", tmp_path / "records"
    folder.mkdir()
    with API_OF.get(name, MessagesApi)() as api:
        config = SessionConfig(
            api_key=API_KEY, base_url=api.base_url, model=MODEL, prices=PRICES, retries_max=0
        )
        providers = dict.fromkeys(("anthropic", "openai"), Provider(config))
        backends = make_backends(
            providers, ProcessLauncher(records=records), notes=MemoryNoteBook(), journals=MemoryJournals()
        )
        assert sorted(backends) == sorted(NAMES), "a backend that this suite does not know, or one too few"
        yield Bench(backends[name], folder, records, api)
        assert api.problems == []
    assert tree.confirm_gone(records, BASE.token)
    assert not records.exists() or list(records.iterdir()) == []


every_backend = pytest.mark.parametrize("name", NAMES)
every_model = pytest.mark.parametrize("name", WITH_MODEL)


def check_fields(outcome: Outcome) -> None:
    """Hold an outcome against what is written of its fields."""
    assert outcome.summary
    assert "\n" not in outcome.summary
    assert len(outcome.detail) <= 20_000
    ended_well = outcome.state in (AttemptState.SUCCEEDED, AttemptState.CANCELLED)
    assert (outcome.failure_class is None) == ended_well


@every_backend
async def test_success(bench: Bench) -> None:
    outcome = await bench.start(SUCCESS)
    check_fields(outcome)
    assert outcome.state is AttemptState.SUCCEEDED
    assert bench.transcript.entries


@every_backend
async def test_failure_is_charged_to_the_agent(bench: Bench) -> None:
    outcome = await bench.start(FAILURE)
    check_fields(outcome)
    assert (outcome.state, outcome.failure_class) == (AttemptState.FAILED, FailureClass.AGENT)


@every_backend
async def test_a_review_accepts_refuses_or_is_no_work_for_commands(bench: Bench) -> None:
    outcomes = [await bench.start(case, kind=AttemptKind.REVIEW) for case in (ACCEPTANCE, REFUSAL)]
    for outcome in outcomes:
        check_fields(outcome)
    ends = [(outcome.state, outcome.failure_class) for outcome in outcomes]
    if bench.name == "command":
        assert ends == [(AttemptState.FAILED, FailureClass.PLAN_DEFECT)] * 2
        assert bench.transcript.entries == []  # it ran nothing: the lines are the work, not a judgement
        return
    assert ends == [(AttemptState.SUCCEEDED, None), (AttemptState.FAILED, FailureClass.GATE)]
    assert outcomes[1].detail  # the feedback of the next work attempt


@every_model
async def test_without_a_report_there_is_no_success(bench: Bench) -> None:
    trust_me = Case(replies=(Reply([text("It is done, trust me.")]),))
    outcome = await bench.start(trust_me)
    check_fields(outcome)
    assert (outcome.state, outcome.failure_class) == (AttemptState.FAILED, FailureClass.AGENT)
    assert "without a report" in outcome.summary
    assert outcome.report is None
    assert outcome.usage.cost_micros > 0


@every_model
async def test_a_tool_that_its_agent_type_does_not_list_is_not_offered(bench: Bench) -> None:
    outcome = await bench.start(Case(), tools=("Read",))
    assert outcome.state is AttemptState.SUCCEEDED
    tools = bench.api.requests[0].body["tools"]
    offered = {tool.get("function", tool)["name"].lower() for tool in tools}
    assert offered & {"read", "read_file"}
    assert not offered & {"bash", "edit", "edit_file", "glob", "grep", "insert_lines", "write", "write_file"}


@every_backend
async def test_timeout(bench: Bench) -> None:
    started = time.monotonic()
    outcome = await bench.start(HANGING, limits={"total_timeout_s": 0.5})
    check_fields(outcome)
    assert (outcome.state, outcome.failure_class) == (AttemptState.TIMED_OUT, FailureClass.TIMEOUT)
    assert "longer than 0.5 s" in outcome.summary
    assert 0.4 < time.monotonic() - started < PATIENCE_S


@every_backend
async def test_cancel_ends_every_child_and_keeps_the_usage(bench: Bench) -> None:
    session = bench.start(HANGING)
    await bench.has_begun(session)
    if bench.name != "simulated":
        assert not tree.confirm_gone(bench.records, BASE.token)
    session.cancel()
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await session
    assert tree.confirm_gone(bench.records, BASE.token)
    if bench.name in WITH_MODEL:
        assert isinstance(cancelled.value, SessionCancelled)
        assert cancelled.value.usage.requests == len(bench.api.requests) == 1
        assert cancelled.value.usage.cost_micros > 0


@every_backend
async def test_cancel_at_any_moment_leaves_nothing(bench: Bench) -> None:
    for delay_s in (0, 0.01, 0.03, 0.06, 0.2, 0.8):
        session = bench.start(HANGING)
        await asyncio.sleep(delay_s)
        session.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await session
        assert session.done()
        assert tree.confirm_gone(bench.records, BASE.token)


@every_backend
async def test_no_child_gets_a_secret(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the key of the sessions nor anything else of the executor's environment."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", API_KEY)
    monkeypatch.setenv("OPENAI_API_KEY", API_KEY)
    monkeypatch.setenv("DATABASE_URL", FOREIGN)
    outcome = await bench.start(Case.of_command(LOOK))
    assert outcome.state is AttemptState.SUCCEEDED
    if bench.name == "simulated":
        assert list(bench.folder.iterdir()) == []
        return
    seen = (bench.folder / "seen").read_text()
    assert f"ORCHESTRATOR_TOKEN={BASE.token}" in seen
    assert API_KEY not in seen
    assert FOREIGN not in seen


@every_backend
@pytest.mark.parametrize("trouble", ["killed", "workspace gone", "server fails", "babble", "no words"])
async def test_trouble_is_an_outcome_and_never_raised(bench: Bench, trouble: str) -> None:
    cases = {
        "killed": Case.of_command("kill -KILL $$"),
        "server fails": Case(replies=(Reply(status=500, error_type="api_error"),)),
        "babble": Case.of_command(BABBLE),
        "no words": Case(run=(), simulate="soon", replies=(Reply([]),)),
    }
    if trouble == "workspace gone":
        shutil.rmtree(bench.folder)
    outcome = await bench.start(cases.get(trouble, SUCCESS))
    check_fields(outcome)
    assert outcome.state in (AttemptState.SUCCEEDED, AttemptState.FAILED)
    if trouble == "server fails" and bench.name in WITH_MODEL:
        assert outcome.failure_class is FailureClass.INFRASTRUCTURE
    if trouble == "workspace gone" and bench.name in ("command", "claude-code"):
        assert outcome.failure_class is FailureClass.INFRASTRUCTURE
    if trouble == "no words":
        assert outcome.failure_class is not None


@every_backend
async def test_sessions_run_side_by_side(bench: Bench) -> None:
    sessions = [bench.start(Case(), token=BASE.token + n) for n in range(3)]
    outcomes = await asyncio.gather(*sessions)
    assert {outcome.state for outcome in outcomes} == {AttemptState.SUCCEEDED}


@pytest.fixture
async def store(database: DatabaseUrls) -> AsyncIterator[ExecutorStore]:
    """The store of an executor that has started the attempt of BASE."""
    scheduler = make_store(database.direct)
    executor = ExecutorStore(
        database.service, executor="x1", incarnation="i1", node_id="n1", limits=SessionLimits()
    )
    plan_id, [task_id] = Rows(database).plan(1, state="active")
    await scheduler.take_term(incarnation="i1", is_starting=True, patience_s=5)
    await scheduler.commit(1, [lease(BASE.token, plan_id=plan_id, task_id=task_id)])
    assert len(await executor.start([BASE.token])) == 1
    yield executor
    await scheduler.close()
    await executor.close()


@pytest.mark.postgres
@every_backend
async def test_an_outcome_is_stored_as_it_was_told(
    bench: Bench, store: ExecutorStore, database: DatabaseUrls
) -> None:
    """Whatever commands print, and whatever a model says of it."""
    wild = call("report", status="failed", summary="No\x00 \x1b[31mway", files=["a\x00b"])
    outcome = await bench.start(Case.of_command(BABBLE, simulate="1ms fail 1", end=wild))
    check_fields(outcome)
    assert await store.save_results([(BASE.token, storable_outcome(outcome, Redaction()))]) == {BASE.token}
    [row] = Rows(database).all("SELECT * FROM attempts")
    assert (row["state"], row["failure_class"]) == (outcome.state, outcome.failure_class)
    assert (row["report"] is None) == (outcome.report is None)
    stored = Usage(**{name: row[name] for name in Usage.__dataclass_fields__})
    assert stored == outcome.usage


def test_without_a_key_there_is_no_model_backend(tmp_path: Path) -> None:
    backends = make_backends(
        {}, ProcessLauncher(records=tmp_path), notes=MemoryNoteBook(), journals=MemoryJournals()
    )
    assert sorted(backends) == ["command", "simulated"]
    assert {name: backend.name for name, backend in backends.items()} == {name: name for name in backends}


def test_a_key_never_shows() -> None:
    assert API_KEY not in repr(SessionConfig(api_key=API_KEY, model=MODEL, prices=PRICES))


def test_a_key_without_prices_is_refused() -> None:
    with pytest.raises(SettingsError, match="no spend cap could hold"):
        SessionConfig(api_key=API_KEY, model=MODEL)
