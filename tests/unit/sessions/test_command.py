"""The backend `command` with real shells."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.core.words import AttemptKind, AttemptState, FailureClass
from orchestrator.ports import Outcome
from orchestrator.sessions.command import CommandBackend
from orchestrator.workspace.launcher import ProcessLauncher
from tests.support.sessions import Recorder, assignment, workspace


@pytest.fixture
def run(tmp_path: Path):
    async def run(*lines: str, transcript: Recorder | None = None, **values) -> Outcome:
        backend = CommandBackend(ProcessLauncher(records=tmp_path / "records"))
        return await backend.run(
            assignment(run=lines, **values), workspace(tmp_path), transcript or Recorder()
        )

    return run


async def test_lines_run_in_order_in_the_workspace(run, tmp_path):
    outcome = await run("echo one > out", "echo two >> out")
    assert (outcome.state, outcome.exit_code) == (AttemptState.SUCCEEDED, 0)
    assert outcome.summary == "Ran 2 lines, exit code 0."
    assert (tmp_path / "out").read_text() == "one\ntwo\n"


async def test_first_failing_line_ends_it(run, tmp_path):
    transcript = Recorder()
    outcome = await run("echo fine", "echo broken >&2; exit 3", "touch never", transcript=transcript)
    assert (outcome.state, outcome.failure_class) == (AttemptState.FAILED, FailureClass.AGENT)
    assert outcome.exit_code == 3
    assert outcome.summary == "exit code 3: echo broken >&2; exit 3"
    assert outcome.detail == "fine\nbroken\n"
    assert not (tmp_path / "never").exists()
    assert transcript.text("note") == "$ echo fine\n$ echo broken >&2; exit 3\n"
    assert (transcript.text("stdout"), transcript.text("stderr")) == ("fine\n", "broken\n")


async def test_a_gate_runs_its_verify_lines_and_is_charged_as_a_gate(run, tmp_path):
    outcome = await run("touch never", kind=AttemptKind.GATE, verify=("true", "false"))
    assert outcome.failure_class is FailureClass.GATE
    assert outcome.summary == "exit code 1: false"
    assert not (tmp_path / "never").exists()


async def test_a_signal_is_named(run):
    outcome = await run("kill -KILL $$")
    assert (outcome.exit_code, outcome.summary) == (-9, "ended by SIGKILL: kill -KILL $$")


async def test_no_lines_are_a_defect_of_the_plan(run):
    assert (await run()).failure_class is FailureClass.PLAN_DEFECT


async def test_a_missing_workspace_is_nobody_s_fault(run, tmp_path):
    backend = CommandBackend(ProcessLauncher(records=tmp_path / "records"))
    outcome = await backend.run(assignment(run=("true",)), workspace(tmp_path / "gone"), Recorder())
    assert outcome.failure_class is FailureClass.INFRASTRUCTURE
    assert "gone" in outcome.summary


async def test_silence_ends_it_and_output_sets_the_clock_back(run):
    limits = {"idle_timeout_s": 0.4}
    talking = await run("for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done", limits=limits)
    assert talking.state is AttemptState.SUCCEEDED
    silent = await run("echo last words; sleep 300", limits=limits)
    assert (silent.state, silent.failure_class) == (AttemptState.TIMED_OUT, FailureClass.TIMEOUT)
    assert silent.summary == "It was silent for 0.4 s."
    assert silent.detail == "last words\n"


async def test_endless_output_stays_bounded_and_says_what_is_missing(run):
    transcript = Recorder()
    line = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; done"
    outcome = await run(line, transcript=transcript, limits={"output_bytes_max": 10_000})
    assert outcome.detail.startswith("line 1\n")
    assert outcome.detail.endswith("line 20000\n")
    assert "characters left out" in outcome.detail
    assert len(outcome.detail) <= 20_000
    assert len(transcript.text("stdout")) <= 10_000
    assert "bytes of output left out" in transcript.text("note")
    assert transcript.text().endswith("line 20000\n")


async def test_bytes_that_are_no_text_do_no_harm(run):
    outcome = await run(r"printf '\377\376 \303'; printf '\251 no newline'")
    assert outcome.detail == "\ufffd\ufffd é no newline"
