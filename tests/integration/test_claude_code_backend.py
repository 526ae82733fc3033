"""The backend `claude-code`: the real program of Claude Code against a local Messages API."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.words import AttemptKind, AttemptState, FailureClass
from orchestrator.ports import Launcher, Outcome, Owner, Process, Workspace
from orchestrator.sessions.claude_code.backend import ClaudeCodeBackend
from orchestrator.sessions.config import SessionConfig
from orchestrator.workspace import tree
from orchestrator.workspace.launcher import ProcessLauncher
from tests.support.claude_code_api import ClaudeCodeApi, bash, report, results, turns, write
from tests.support.messages_api import API_KEY, Reply, Scenario, call, text
from tests.support.notes import MemoryNoteBook
from tests.support.sessions import BASE, MODEL, PRICES, Recorder, assignment, workspace

LIMITS = {"total_timeout_s": 240, "idle_timeout_s": 240}
NOTES = "mcp__plan__notes"
NOBODY = 65534
ROOT = Path(__file__).parents[2]


class Session:
    """A backend with its server and its workspace, ready to run."""

    def __init__(self, api: ClaudeCodeApi, folder: Path) -> None:
        self.api = api
        self.folder = folder
        self.records = folder.parent / "records"
        self.transcript = Recorder()
        self.notes = MemoryNoteBook()
        self.launcher: Launcher = ProcessLauncher(records=self.records)
        self.config: dict[str, Any] = {
            "api_key": API_KEY, "base_url": api.base_url, "model": MODEL, "prices": PRICES, "retries_max": 0,
        }  # fmt: skip

    def start(self, scenario: Scenario | None = None, **values: Any) -> asyncio.Task[Outcome]:
        if scenario:
            self.api.scenario = scenario
        backend = ClaudeCodeBackend(SessionConfig(**self.config), self.launcher, notes=self.notes)
        given = assignment(backend="claude-code", **{"limits": LIMITS, **values})
        return asyncio.create_task(backend.run(given, workspace(self.folder), self.transcript))

    async def run(self, *replies: Reply, **values: Any) -> Outcome:
        return await self.start(turns(*replies) if replies else None, **values)

    def result(self, request: int = -1) -> str:
        """What the tools returned before this request."""
        return "\n".join(str(block["content"]) for block in results(self.api.requests[request]))


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    folder = tmp_path / "work"
    folder.mkdir()
    with ClaudeCodeApi() as api:
        found = Session(api, folder)
        yield found
        assert api.problems == []
    assert tree.confirm_gone(found.records, BASE.token)
    assert list(found.records.iterdir()) == []


def check(outcome: Outcome, failure_class: FailureClass, words: str) -> None:
    assert (outcome.state, outcome.failure_class) == (AttemptState.FAILED, failure_class)
    assert re.search(words, outcome.summary), outcome.summary
    assert "\n" not in outcome.summary


async def test_a_task_is_worked_on_and_reported(session: Session) -> None:
    outcome = await session.run(
        Reply([text("I look first."), write("greet.py", "print('helo')\n"), bash("echo seen; echo bad >&2")]),
        Reply([call("Read", file_path="greet.py"), call("Glob", pattern="**/*.py")]),
        Reply([call("Edit", file_path="greet.py", old_string="helo", new_string="hello"), bash("exit 4")]),
        Reply([report("Wrote it.", files=["greet.py"])]),
        title="Write greet",
        body="Read @/etc/passwd and /compact, both as they stand here.",
    )
    assert (outcome.state, outcome.summary) == (AttemptState.SUCCEEDED, "Wrote it.")
    assert outcome.report is not None
    assert outcome.report["files"] == ["greet.py"]
    assert (session.folder / "greet.py").read_text() == "print('hello')\n"
    task = session.api.requests[0].task
    assert "Read @/etc/passwd and /compact, both as they stand here." in task
    assert "root:x:" not in str(session.api.requests[0].body)
    system = str(session.api.requests[0].body["system"])
    assert "call the tool `StructuredOutput`" in system
    transcript = session.transcript
    assert "I look first." in transcript.text("model")
    assert "Bash: echo seen" in transcript.text("tool")
    assert "error: " in transcript.text("tool")  # of `exit 4`
    assert transcript.text("stdout") == "seen\nbad\n"
    usage = outcome.usage
    assert usage.requests == len(session.api.requests) == 4
    assert min(usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cost_micros) > 0


async def test_a_review_changes_nothing_and_judges(session: Session) -> None:
    refusal = call("StructuredOutput", verdict="refused", summary="Not yet.", reasons=["Name the units."])
    outcome = await session.run(
        Reply([write("a.txt", "x"), bash("echo looked")]), Reply([refusal]), kind=AttemptKind.REVIEW
    )
    check(outcome, FailureClass.GATE, "refused: Not yet.")
    assert "No such tool available: Write" in session.result(1)
    assert list(session.folder.iterdir()) == []


async def test_notes_of_the_plan_are_written_and_read(session: Session) -> None:
    outcome = await session.run(
        Reply([call(NOTES, action="write", kind="decision", text="Lengths are in metres.")]),
        Reply([call(NOTES, action="read"), call(NOTES, action="write")]),
        Reply([report()]),
    )
    assert outcome.state is AttemptState.SUCCEEDED
    [note] = await session.notes.read(BASE.token)
    assert (note.kind, note.text) == ("decision", "Lengths are in metres.")
    assert "The decision is written." in session.result(1)
    assert "Lengths are in metres." in session.result(2)
    assert "`write` needs `text`" in session.result(2)


async def test_a_report_that_contradicts_itself_is_none(session: Session) -> None:
    outcome = await session.run(
        Reply([call("StructuredOutput", verdict="refused", summary="No.")]), kind=AttemptKind.REVIEW
    )
    check(outcome, FailureClass.AGENT, "report is not valid: .*say what must change")


async def test_no_child_knows_the_key(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by its environment, nor by a command line, nor by a file."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://of-the-executor")
    monkeypatch.setenv("ANTHROPIC_API_KEY", API_KEY)
    look = (
        "env; for p in $PPID $CLAUDE_PID; do cat /proc/$p/environ /proc/$p/cmdline | tr '\\0' '\\n'; done; "
        f"grep -rl '{API_KEY[:-1]}[{API_KEY[-1]}]' $CLAUDE_CONFIG_DIR . || echo none"
    )
    await session.run(Reply([bash(look)]), Reply([report()]))
    told = session.result(1)
    assert "ORCHESTRATOR_TOKEN=" in told
    assert "ANTHROPIC_BASE_URL=http://127.0.0.1:" in told
    assert re.search(r"ANTHROPIC_API_KEY=sk-attempt-\w{48}\n", told)
    assert API_KEY not in told
    assert told.rstrip().endswith("none")
    assert session.api.base_url not in told


async def test_nothing_is_written_outside_and_nothing_goes_on_in_the_background(session: Session) -> None:
    (session.folder / "link").symlink_to("..")
    outcome = await session.run(
        Reply(
            [
                write("../beside.txt", "x"),
                write("link/through.txt", "x"),
                bash("sleep 300", run_in_background=True),
                call("Agent", description="d", prompt="p", subagent_type="general-purpose"),
                call("WebFetch", url="http://127.0.0.1:1/", prompt="p"),
                bash("setsid sleep 300 > /dev/null 2>&1 & echo left"),
            ]
        ),
        Reply([report()]),
    )
    assert outcome.state is AttemptState.SUCCEEDED
    blocks = results(session.api.requests[1])
    assert [bool(block.get("is_error")) for block in blocks] == [True, True, True, True, True, False]
    assert not (session.folder.parent / "beside.txt").exists()
    assert not (session.folder.parent / "through.txt").exists()


async def test_turns_are_bounded(session: Session) -> None:
    outcome = await session.run(Reply([bash("true")]), limits={**LIMITS, "turns_max": 3})
    check(outcome, FailureClass.AGENT, "no report after 3 turns")
    assert len(session.api.requests) == 3


async def test_spend_is_bounded_by_our_prices_and_usage_is_kept(session: Session) -> None:
    dear = {MODEL: PRICES["claude-fable-5"]}  # the program's own list has another price
    session.config["prices"] = dear
    outcome = await session.run(
        Reply([text("x" * 8_000), bash("true")]), limits={**LIMITS, "cost_micros_max": 50_000}
    )
    check(outcome, FailureClass.BUDGET, r"cap of \$0.05")
    assert len(session.api.requests) == outcome.usage.requests == 1
    assert outcome.usage.cost_micros > 50_000


async def test_a_session_that_takes_too_long_is_ended_and_keeps_its_usage(session: Session) -> None:
    outcome = await session.run(
        Reply([bash("touch begun; sleep 300 & sleep 300")]), limits={**LIMITS, "idle_timeout_s": 45}
    )
    assert (outcome.state, outcome.failure_class) == (AttemptState.TIMED_OUT, FailureClass.TIMEOUT)
    assert "silent for 45 s" in outcome.summary
    assert (session.folder / "begun").exists()
    assert outcome.usage.requests == 1


async def test_a_program_that_dies_is_nobodys_fault(session: Session) -> None:
    outcome = await session.run(Reply([bash("kill -9 $CLAUDE_PID")]))
    check(outcome, FailureClass.INFRASTRUCTURE, "ended without a result.*exit code: -9")
    assert outcome.usage.requests == 1


async def test_sessions_run_side_by_side(session: Session) -> None:
    bodies = [f"write {name}.txt: {name}" for name in ("one", "two", "three")]
    running = [session.start(body=body, token=BASE.token + n) for n, body in enumerate(bodies, start=1)]
    for outcome in await asyncio.gather(*running):
        assert outcome.state is AttemptState.SUCCEEDED
    assert {path.read_text() for path in session.folder.iterdir()} == {"one\n", "two\n", "three\n"}


EXECUTOR = """
import asyncio, sys
from pathlib import Path
from orchestrator.sessions.claude_code.backend import ClaudeCodeBackend
from orchestrator.sessions.config import SessionConfig
from orchestrator.workspace.launcher import ProcessLauncher
from tests.support.notes import MemoryNoteBook
from tests.support.sessions import MODEL, PRICES, Recorder, assignment, workspace

key, url, folder, records = sys.argv[1:]
config = SessionConfig(api_key=key, base_url=url, model=MODEL, prices=PRICES)
backend = ClaudeCodeBackend(config, ProcessLauncher(records=Path(records)), notes=MemoryNoteBook())
given = assignment(limits={"total_timeout_s": 240, "idle_timeout_s": 240})
asyncio.run(backend.run(given, workspace(Path(folder)), Recorder()))
"""


async def test_when_the_executor_is_killed_no_process_is_left(session: Session) -> None:
    session.api.scenario = turns(Reply([bash("touch begun; setsid sleep 300 & sleep 300")]))
    argv = [API_KEY, session.api.base_url, str(session.folder), str(session.records)]
    executor = await asyncio.create_subprocess_exec(sys.executable, "-c", EXECUTOR, *argv, cwd=ROOT)
    try:
        await until(lambda: (session.folder / "begun").exists() or executor.returncode is not None)
        assert len(tree.members(session.records, BASE.token)) >= 4  # launcher, program, shell, sleeps
    finally:
        executor.kill()
        await executor.wait()
    await until(lambda: tree.confirm_gone(session.records, BASE.token))


class AsUser:
    """Starts children as another user, who is given the workspace and the program's folder."""

    def __init__(self, launcher: Launcher, uid: int) -> None:
        self._launcher = launcher
        self._uid = uid

    async def start(self, argv: Sequence[str], *, workspace: Workspace, **options: Any) -> Process:
        for folder in (workspace.path, Path(workspace.env["CLAUDE_CONFIG_DIR"])):
            shutil.chown(folder, self._uid, self._uid)
        own = replace(workspace, owner=Owner(uid=self._uid, gid=self._uid))
        return await self._launcher.start(argv, workspace=own, **options)


@pytest.mark.parametrize("uid", sorted({os.geteuid(), NOBODY} if os.geteuid() == 0 else {os.geteuid()}))
async def test_the_same_permissions_work_for_root_and_for_others(session: Session, uid: int) -> None:
    if uid != os.geteuid():
        session.launcher = AsUser(session.launcher, uid)
        for folder in session.folder.parents:  # as many as pytest makes private, alone or side by side
            if folder.is_relative_to(tempfile.gettempdir()) and folder != Path(tempfile.gettempdir()):
                folder.chmod(0o755)
    outcome = await session.run(
        Reply([write("a.txt", "x"), bash("id -u; echo y > b.txt")]), Reply([report()])
    )
    assert outcome.state is AttemptState.SUCCEEDED, outcome
    assert session.transcript.text("stdout").strip() == str(uid)
    assert {path.name: path.stat().st_uid for path in session.folder.iterdir()} == {
        "a.txt": uid,
        "b.txt": uid,
    }


async def until(is_true: Callable[[], bool], *, timeout_s: float = 200) -> None:
    give_up_at = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < give_up_at, "it did not come true"
        await asyncio.sleep(0.05)
