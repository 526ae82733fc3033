"""The program of Claude Code as a child of ours: what the SDK says to it and hears goes through our launcher.

The SDK would start the program itself, with the whole environment of this process and with nobody to end what
it leaves behind. Rule: the program gets exactly the environment that it is given, and whichever way a session
is left, its process tree is gone afterwards.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, CLIConnectionError, ProcessError
from claude_agent_sdk._internal.transport.subprocess_cli import SubprocessCLITransport

from orchestrator.ports import Launcher, Process, Workspace
from orchestrator.sessions.output import Excerpt

_STDERR_CHARS = 4_000


class LaunchedCli(SubprocessCLITransport):
    """The SDK's transport, with the program under our launcher. The SDK is pinned: its inside is used here.

    Args:
        launcher: starts the program.
        options: of the session; they become the program's arguments.
        workspace: of the session, with the environment of the program.
        token: of the attempt.
        grace_s: from SIGTERM to SIGKILL.
        on_stderr: gets what the program complains about.
    """

    def __init__(
        self,
        launcher: Launcher,
        *,
        options: ClaudeAgentOptions,
        workspace: Workspace,
        token: int,
        grace_s: float,
        on_stderr: Callable[[str], None],
    ) -> None:
        super().__init__(prompt="", options=options)
        self._launcher = launcher
        self._workspace = workspace
        self._token = token
        self._grace_s = grace_s
        self._on_stderr = on_stderr
        self._child: Process | None = None
        self._stderr = Excerpt(head_max=_STDERR_CHARS // 2, tail_max=_STDERR_CHARS // 2)

    async def connect(self) -> None:
        """Start the program. Raises EnvironmentFault: it could not be started."""
        self._cli_path = self._find_cli()
        self._child = await self._launcher.start(
            self._build_command(),
            workspace=self._workspace,
            token=self._token,
            has_input=True,
            needs_network=True,  # it asks the model through the proxy of this process
        )
        self._ready = True

    async def write(self, data: str) -> None:
        """Send the program a line."""
        assert self._child is not None
        try:
            await self._child.write(data.encode())
        except ConnectionError as error:
            raise CLIConnectionError(f"Claude Code reads no more: {error}") from error

    async def end_input(self) -> None:
        """Tell the program that nothing follows."""
        if self._child is not None:
            self._child.end_input()

    async def _read_messages_impl(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what the program says, a message a line.

        Raises:
            ProcessError: it ended with another exit code than 0.
        """
        assert self._child is not None
        unread = b""
        async with aclosing(self._child.output()) as output:  # type: ignore[type-var]
            async for stream, chunk in output:
                if stream == "stderr":
                    self._complain(chunk)
                    continue
                *lines, unread = (unread + chunk).split(b"\n")
                for line in lines:
                    if line.startswith(b"{"):
                        yield json.loads(line)
        code = await self._child.wait()
        if code:
            raise ProcessError("Claude Code failed", exit_code=code, stderr=self._stderr.text)

    def _complain(self, chunk: bytes) -> None:
        text = chunk.decode(errors="replace")
        self._stderr.add(text)
        self._on_stderr(text)

    async def close(self) -> None:
        """End the program with all its children; harmless to repeat, and not to be interrupted."""
        self._ready = False
        if self._child is not None:
            await asyncio.shield(self._child.kill(grace_s=self._grace_s))
