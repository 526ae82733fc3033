"""The backend `command`: the `run:` lines of a task, or the `verify:` lines of its gate, in a shell.

Real work with no model. Rule: one line after the other, and the first that fails ends the attempt.
"""

from __future__ import annotations

import signal

from orchestrator.core.words import AttemptKind, AttemptState, FailureClass
from orchestrator.errors import EnvironmentFault
from orchestrator.ports import Assignment, Launcher, Outcome, Transcript, Workspace
from orchestrator.sessions.output import Excerpt
from orchestrator.sessions.programs import Programs
from orchestrator.sessions.shell import Shell
from orchestrator.sessions.watch import TimedOut, effective_limits, watched

_HEAD_CHARS = 4_000
_TAIL_CHARS = 14_000
_SUMMARY_CHARS = 200

#: What a shell says by an exit code of its own: what ended by a signal has that number on top of this.
_SIGNALLED = 128
_MEANINGS = {126: "cannot be executed", 127: "no such program"}


class CommandBackend:
    """Implements `ports.Backend` with any program the plan names."""

    name = "command"

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher

    async def run(self, assignment: Assignment, workspace: Workspace, transcript: Transcript) -> Outcome:
        """Run the lines of the attempt's kind to the first failure, a timeout or the end."""
        if assignment.kind is AttemptKind.REVIEW:
            return _failed(FailureClass.PLAN_DEFECT, "Commands cannot review; a `verify:` line can check.")
        is_gate = assignment.kind is AttemptKind.GATE
        lines = assignment.verify if is_gate else assignment.run
        if not lines:
            return _failed(FailureClass.PLAN_DEFECT, "There are no lines to run.")
        excerpt = Excerpt(head_max=_HEAD_CHARS, tail_max=_TAIL_CHARS)
        try:
            async with watched(effective_limits(assignment.limits)) as touch:
                programs = Programs(
                    launcher=self._launcher,
                    workspace=workspace,
                    assignment=assignment,
                    transcript=transcript,
                    touch=touch,
                )
                shell = Shell(programs)
                for line in lines:
                    transcript.write("note", f"$ {line}\n")
                    code = await shell.run(line, excerpt=excerpt)
                    if code:
                        blame = FailureClass.GATE if is_gate else FailureClass.AGENT
                        return _failed(
                            blame, f"{_describe(code)}: {line}", detail=excerpt.text, exit_code=code
                        )
        except TimedOut as late:
            return Outcome(
                state=AttemptState.TIMED_OUT,
                failure_class=FailureClass.TIMEOUT,
                summary=_one_line(str(late)),
                detail=excerpt.text,
            )
        except EnvironmentFault as fault:
            return _failed(FailureClass.INFRASTRUCTURE, str(fault), detail=excerpt.text)
        ran = "1 line" if len(lines) == 1 else f"{len(lines)} lines"
        return Outcome(
            state=AttemptState.SUCCEEDED, summary=f"Ran {ran}, exit code 0.", detail=excerpt.text, exit_code=0
        )


def _failed(
    failure_class: FailureClass, summary: str, *, detail: str = "", exit_code: int | None = None
) -> Outcome:
    return Outcome(
        state=AttemptState.FAILED,
        failure_class=failure_class,
        summary=_one_line(summary),
        detail=detail,
        exit_code=exit_code,
    )


def _describe(code: int) -> str:
    """Say how a line ended; a shell tells by its exit code what became of the last program of the line."""
    if code < 0:
        return f"ended by {_signal(-code)}"
    meaning = _MEANINGS.get(code, "")
    if _SIGNALLED < code < _SIGNALLED + signal.NSIG:
        meaning = _signal(code - _SIGNALLED)
    return f"exit code {code} ({meaning})" if meaning else f"exit code {code}"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_SUMMARY_CHARS]
