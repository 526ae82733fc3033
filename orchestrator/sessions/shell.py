"""Runs shell lines of one attempt in its workspace, under the launcher.

Rule: whichever way a line is left, by its end, a clock or a cancel, its process tree is gone afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from orchestrator.ports import Assignment, Launcher, Transcript, Workspace
from orchestrator.sessions.output import Excerpt, OutputTap


class Shell:
    """The shell of one attempt.

    Args:
        launcher: starts the processes.
        workspace: their folder and environment.
        assignment: whose token, grace and output cap hold.
        transcript: gets the output while it comes.
        touch: called at every sign of life.
    """

    def __init__(
        self,
        launcher: Launcher,
        *,
        workspace: Workspace,
        assignment: Assignment,
        transcript: Transcript,
        touch: Callable[[], None],
    ) -> None:
        self._launcher = launcher
        self._workspace = workspace
        self._token = assignment.token
        self._grace_s = assignment.limits.grace_s
        self._tap = OutputTap(transcript, bytes_max=assignment.limits.output_bytes_max)
        self._touch = touch

    async def run(self, line: str, *, excerpt: Excerpt) -> int:
        """Run one line with `sh -c`; its output also goes into `excerpt`.

        Returns:
            The exit code; negative means the number of the signal that ended it.

        Raises:
            EnvironmentFault: the line could not be started.
        """
        process = await self._launcher.start(
            ["sh", "-c", line], cwd=self._workspace.path, env=self._workspace.env, token=self._token
        )
        try:
            async with aclosing(process.output()) as output:  # type: ignore[type-var]
                async for stream, chunk in output:
                    self._touch()
                    excerpt.add(self._tap.add(stream, chunk))
            return await process.wait()
        finally:
            excerpt.add(self._tap.finish())
            await asyncio.shield(process.kill(grace_s=self._grace_s))
