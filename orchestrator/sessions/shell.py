"""Runs shell lines of one attempt, each in a shell of its own.

Rule: whichever way a line is left, by its end, a clock or a cancel, its process tree is gone afterwards.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from orchestrator.sessions.output import Excerpt
from orchestrator.sessions.programs import Programs


class Shell:
    """Runs lines of one attempt, one at a time, each in a new shell.

    Args:
        programs: starts the shells.
    """

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._tap = programs.tap()

    async def run(self, line: str, *, excerpt: Excerpt) -> int:
        """Run one line with `sh -c`; its output also goes into `excerpt`.

        Returns:
            The exit code; negative means the number of the signal that ended it.

        Raises:
            EnvironmentFault: the line could not be started.
        """
        process = await self._programs.start(["sh", "-c", line])
        try:
            async with aclosing(process.output()) as output:  # type: ignore[type-var]
                async for stream, chunk in output:
                    self._programs.touch()
                    excerpt.add(self._tap.add(stream, chunk))
            return await process.wait()
        finally:
            excerpt.add(self._tap.finish())
            await asyncio.shield(self._programs.end(process))
