"""The shell of a model session: one for all commands, so that folder, variables and functions stay.

The shell reads its commands from a pipe and marks the end of each on both of its outputs. Rule: whichever way
a command ends the shell, by `exit`, a clock or a cancel, its whole process tree is gone, and the next command
gets a new shell and is told so.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import shlex
import shutil
from contextlib import aclosing
from typing import NamedTuple

from orchestrator.ports import Process
from orchestrator.sessions.output import Excerpt
from orchestrator.sessions.programs import Programs

_MARK_BYTES_MAX = 64

#: `command` keeps a syntax error from ending a plain `sh`. The mark goes to both outputs, after all else.
_SCRIPT = """\
command eval {line} </dev/null
__status=$?; printf '\\036%s %d\\n' {mark} "$__status"; printf '\\036%s %d\\n' {mark} "$__status" >&2
"""


class Ran(NamedTuple):
    """How a command ended.

    Attributes:
        code: its exit code, or that of the shell if the command ended it; negative for a signal.
        has_ended_shell: the command ended the shell.
        is_new_shell: it ran in a new shell, because the one before was gone.
    """

    code: int
    has_ended_shell: bool
    is_new_shell: bool


class PersistentShell:
    """The shell of one attempt; close it.

    Args:
        programs: starts it, with the first command.
    """

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._tap = programs.tap()
        self._process: Process | None = None
        self._hearing: asyncio.Task[None] | None = None
        self._command: _Command | None = None
        self._is_lost = False

    async def close(self) -> None:
        """End the shell, with all that it started."""
        await asyncio.shield(self._end())

    async def run(self, line: str, *, excerpt: Excerpt, timeout_s: float) -> Ran:
        """Run one command; its output also goes into `excerpt`. One caller at a time.

        Raises:
            EnvironmentFault: no shell could be started.
            TimeoutError: the command took too long and was ended, the shell with it.
        """
        is_new_shell = self._is_lost or self._has_died()
        try:
            if self._process is None or self._has_died():
                await self._start()
            command = self._command = _Command(excerpt)
            async with asyncio.timeout(timeout_s):
                await self._send(line, command)
                code = await command.code
        except BaseException:
            await self.close()
            raise
        finally:
            excerpt.add(self._tap.finish())
            self._command = None
        has_ended_shell = not command.is_marked
        if has_ended_shell:
            await self.close()
        return Ran(code, has_ended_shell=has_ended_shell, is_new_shell=is_new_shell)

    def _has_died(self) -> bool:
        return self._hearing is not None and self._hearing.done()

    async def _start(self) -> None:
        await self._end()
        program = shutil.which("bash", path=self._programs.workspace.env.get("PATH"))
        argv = [program, "--noprofile", "--norc"] if program else ["sh"]
        self._process = await self._programs.start(argv, has_input=True)
        self._is_lost = False
        self._hearing = asyncio.create_task(self._hear(self._process), name="hearing a shell")

    async def _send(self, line: str, command: _Command) -> None:
        assert self._process is not None
        script = _SCRIPT.format(line=shlex.quote(line), mark=command.mark)
        with contextlib.suppress(ConnectionError):  # it ended just now: `_hear` tells with which code
            await self._process.write(script.encode())

    async def _hear(self, process: Process) -> None:
        """Pass on all that the shell prints, between commands too: what nobody reads blocks who writes it."""
        async with aclosing(process.output()) as output:  # type: ignore[type-var]
            async for stream, chunk in output:
                command = self._command
                if command is None or command.has_heard(stream):
                    self._tap.add(stream, chunk)  # of what runs in the background
                    continue
                self._programs.touch()
                before, after = command.hear(stream, chunk)
                command.excerpt.add(self._tap.add(stream, before))
                self._tap.add(stream, after)
        code = await process.wait()
        if self._command is not None:
            self._command.end(code)

    async def _end(self) -> None:
        process, self._process = self._process, None
        hearing, self._hearing = self._hearing, None
        if process is not None:
            self._is_lost = True
            await self._programs.end(process)
        if hearing is not None:
            hearing.cancel()
            await asyncio.wait([hearing])


class _Command:
    """One command: its mark, and what of it has been heard."""

    def __init__(self, excerpt: Excerpt) -> None:
        self.excerpt = excerpt
        self.mark = secrets.token_hex(8)
        self.code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.is_marked = False
        self._pattern = re.compile(b"\x1e%s ([0-9]+)\n" % self.mark.encode())
        self._held = {"stdout": b"", "stderr": b""}  # the beginning of what may become a mark
        self._left = {"stdout", "stderr"}

    def has_heard(self, stream: str) -> bool:
        """Tell whether the mark came on this stream."""
        return stream not in self._left

    def hear(self, stream: str, chunk: bytes) -> tuple[bytes, bytes]:
        """Take a chunk; return what of the output came before the mark, and what after it."""
        data = self._held[stream] + chunk
        found = self._pattern.search(data)
        if found is None:
            start = data.rfind(b"\x1e")
            keeps = start >= 0 and len(data) - start < _MARK_BYTES_MAX
            self._held[stream] = data[start:] if keeps else b""
            return (data[:start] if keeps else data), b""
        self._left.discard(stream)
        if not self._left:
            self.is_marked = True
            self.end(int(found[1]))
        return data[: found.start()], data[found.end() :]

    def end(self, code: int) -> None:
        """Say with which code it ended."""
        if not self.code.done():
            self.code.set_result(code)
