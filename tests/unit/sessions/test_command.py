"""The backend `command` with real shells."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.core.words import AttemptKind, AttemptState, FailureClass
from orchestrator.ports import Outcome
from orchestrator.sessions.command import CommandBackend
from orchestrator.workspace import tree
from orchestrator.workspace.launcher import ProcessLauncher
from tests.support.sessions import BASE, Recorder, assignment, workspace


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


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("no-such-program-here", "exit code 127 (no such program): no-such-program-here"),
        ("./plain", "exit code 126 (cannot be executed): ./plain"),
        ("sh -c 'kill -SEGV $$'; exit $?", "exit code 139 (SIGSEGV)"),
        ("exit 250", "exit code 250: exit 250"),
    ],
)
async def test_what_a_shell_says_by_its_code_is_named(run, tmp_path, line, words):
    (tmp_path / "plain").write_text("no program")
    outcome = await run(line)
    assert outcome.failure_class is FailureClass.AGENT
    assert outcome.summary.startswith(words)


async def test_standard_input_is_empty(run):
    outcome = await run("cat; read answer || echo nobody answers")
    assert (outcome.state, outcome.detail) == (AttemptState.SUCCEEDED, "nobody answers\n")


async def test_a_line_gets_the_environment_of_its_workspace_and_nothing_else(run, monkeypatch):
    monkeypatch.setenv("OF_THE_EXECUTOR", "secret")
    outcome = await run("env")
    assert "LANG=C.UTF-8" in outcome.detail
    assert "secret" not in outcome.detail


async def test_what_a_line_leaves_in_the_background_ends_with_it(run, tmp_path):
    outcome = await run("setsid sleep 300 >/dev/null 2>&1 & echo started", "echo next")
    assert (outcome.state, outcome.detail) == (AttemptState.SUCCEEDED, "started\nnext\n")
    assert tree.confirm_gone(tmp_path / "records", BASE.token)


async def test_a_line_of_megabytes_without_an_end_stays_bounded(run):
    transcript = Recorder()
    line = "head -c 5000000 /dev/zero | tr '\\0' x; printf end"
    outcome = await run(line, transcript=transcript, limits={"output_bytes_max": 100_000})
    assert outcome.state is AttemptState.SUCCEEDED
    assert outcome.detail.endswith("xend")
    assert "4,982,003 characters left out" in outcome.detail
    assert len(transcript.text("stdout")) <= 100_000


async def test_control_characters_and_nulls_come_through_as_they_are(run):
    outcome = await run(r"printf 'a\0b \033[31mred\033[0m\r\n'")
    assert outcome.detail == "a\0b \x1b[31mred\x1b[0m\r\n"


async def test_no_lines_are_a_defect_of_the_plan(run):
    assert (await run()).failure_class is FailureClass.PLAN_DEFECT


async def test_a_missing_workspace_is_nobody_s_fault(run, tmp_path):
    backend = CommandBackend(ProcessLauncher(records=tmp_path / "records"))
    outcome = await backend.run(assignment(run=("true",)), workspace(tmp_path / "gone"), Recorder())
    assert outcome.failure_class is FailureClass.INFRASTRUCTURE
    assert "gone" in outcome.summary


async def test_silence_ends_it_and_output_sets_the_clock_back(run):
    limits = {"idle_timeout_s": 2.0}
    talking = await run("for i in 1 2 3 4 5 6; do echo $i; sleep 0.5; done", limits=limits)
    assert talking.state is AttemptState.SUCCEEDED
    silent = await run("echo last words; sleep 300", limits=limits)
    assert (silent.state, silent.failure_class) == (AttemptState.TIMED_OUT, FailureClass.TIMEOUT)
    assert silent.summary == "It was silent for 2 s."
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
