"""Starting the programs of one attempt: in its workspace, with its environment, under the launcher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestrator.ports import Assignment, Launcher, Process, Transcript, Workspace
from orchestrator.sessions.output import OutputTap


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """What the shells of one attempt share.

    Attributes:
        launcher: starts the processes.
        workspace: their folder and environment.
        assignment: whose token, grace and output cap hold.
        transcript: gets the output while it comes.
        touch: called at every sign of life.
    """

    launcher: Launcher
    workspace: Workspace
    assignment: Assignment
    transcript: Transcript
    touch: Callable[[], None]

    async def start(self, argv: Sequence[str], *, has_input: bool = False) -> Process:
        """Start a program. Raises EnvironmentFault: it could not be started."""
        return await self.launcher.start(
            argv,
            workspace=self.workspace,
            token=self.assignment.token,
            has_input=has_input,
        )

    async def end(self, process: Process) -> None:
        """End a program with all that it started."""
        await process.kill(grace_s=self.assignment.limits.grace_s)

    def tap(self) -> OutputTap:
        """Return a new way of output to the transcript, with a cap of its own."""
        return OutputTap(self.transcript, bytes_max=self.assignment.limits.output_bytes_max)
