"""Starting children that cannot outlive us: the executor's side of the launcher program.

Between us and each launcher stands one socket. Its end tells the launcher that we are gone, so even SIGKILL
of this process ends every descendant; on it the launcher reports the exit code, so that codes are true also
in a process where SIGCHLD is ignored and waitpid knows nothing. Rule: no child is started in any other way.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from orchestrator.errors import EnvironmentFault
from orchestrator.ports import Workspace
from orchestrator.workspace import launcher_main, tree
from orchestrator.workspace.limits import ProcessLimits
from orchestrator.workspace.sandbox import Sandbox

_CHUNK_BYTES = 65_536
_DEFAULT_GRACE_S = 5.0
_DEFAULT_LIMITS = ProcessLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class LauncherCommand:
    """How to start a launcher: for `subprocess` with `pass_fds` of the descriptors named in it."""

    argv: list[str]
    env: dict[str, str]


def launcher_command(
    argv: Sequence[str],
    *options: str,
    records: Path,
    token: int,
    env: Mapping[str, str],
    hold_fd: int | None = None,
    report_fd: int | None = None,
    grace_s: float = _DEFAULT_GRACE_S,
    orphan_signal: int = signal.SIGKILL,
) -> LauncherCommand:
    """Say how to run `argv` under a launcher. Its stdio is what the launcher is started with.

    Sessions are started by `ProcessLauncher`. A service such as the Host is guarded with this: token 0, a
    pipe whose write end its parent keeps open as `hold_fd` (none if nobody shall be watched), and SIGTERM as
    `orphan_signal`, so that it can still shut down in order.

    Args:
        argv: program and arguments.
        options: of the launcher, besides those that follow from the other arguments.
        records: existing folder of this machine for the record.
        token: whose tree it is; 0 is never the token of an attempt.
        env: the whole environment of the command; the marker is added.
        hold_fd: readable descriptor whose end ends the tree.
        report_fd: writable descriptor for the launcher's reports; with it the launcher is our grandchild.
        grace_s: from SIGTERM to SIGKILL.
        orphan_signal: what the command gets if the launcher itself is killed.
    """
    words = [*options, "--token", str(token), "--records", str(records.resolve()), "--grace", str(grace_s)]
    words += ["--orphan-signal", str(int(orphan_signal))]
    if hold_fd is not None:
        words += ["--hold", str(hold_fd)]
    if report_fd is not None:
        words += ["--report", str(report_fd)]
    return LauncherCommand(
        argv=[sys.executable, "-I", "-S", launcher_main.__file__, *words, "--", *argv],
        env={**env, tree.MARKER: tree.marker(records, token)},
    )


class ProcessLauncher:
    """Implements `ports.Launcher` with one launcher program per child.

    Args:
        records: folder of this machine for the records; made when missing.
        grace_s: what a tree gets between SIGTERM and SIGKILL when this process dies.
        limits: of every child.
        sandbox: that children are in; None = they reach what their user reaches.
    """

    def __init__(
        self,
        *,
        records: Path,
        grace_s: float = _DEFAULT_GRACE_S,
        limits: ProcessLimits = _DEFAULT_LIMITS,
        sandbox: Sandbox | None = None,
    ) -> None:
        self._records = records
        self._grace_s = grace_s
        self._limits = limits
        self._sandbox = sandbox
        self._turn = asyncio.Lock()

    async def start(
        self,
        argv: Sequence[str],
        *,
        workspace: Workspace,
        token: int,
        has_input: bool = False,
        needs_network: bool = False,
    ) -> LaunchedProcess:
        """Start `argv` with the workspace's environment and the marker; stdin is a pipe of ours or /dev/null.

        Raises:
            EnvironmentFault: the program or the folder is missing, the record cannot be written, or there is
                no sandbox though the settings require one.
        """
        argv, options = await asyncio.to_thread(self._confined, argv, workspace, needs_network)
        stdin = subprocess.PIPE if has_input else subprocess.DEVNULL
        async with self._turn:  # one in a turn of the loop: each stands still until its child runs
            await asyncio.sleep(0)
            control, popen = self._spawn(argv, options, workspace=workspace, token=token, stdin=stdin)
        process = LaunchedProcess(popen, control, records=self._records, token=token)
        try:
            await process.open()
        except BaseException:
            await asyncio.shield(process.kill(grace_s=0.0))
            raise
        return process

    def _confined(
        self, argv: Sequence[str], workspace: Workspace, needs_network: bool
    ) -> tuple[Sequence[str], list[str]]:
        """Return what to start in place of `argv`, and with which options of the launcher."""
        options = ["--limits", self._limits.for_launcher()]
        if self._sandbox is not None and self._sandbox.is_to_be_used():
            return self._sandbox.command(argv, workspace, needs_network), [*options, "--monitored", "yes"]
        if workspace.owner is not None:
            options += ["--user", f"{workspace.owner.uid}:{workspace.owner.gid}"]
        return argv, options

    def _spawn(
        self, argv: Sequence[str], options: Sequence[str], *, workspace: Workspace, token: int, stdin: int
    ) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        """Start the launcher in one uninterruptible step: a cancel cannot lose it."""
        ours, theirs = socket.socketpair()
        fd = theirs.fileno()
        try:
            self._records.mkdir(parents=True, exist_ok=True)
            command = launcher_command(
                argv,
                *options,
                records=self._records,
                token=token,
                env=workspace.env,
                hold_fd=fd,
                report_fd=fd,
                grace_s=self._grace_s,
            )
            popen = subprocess.Popen(
                command.argv,
                cwd=workspace.path,
                env=command.env,
                bufsize=0,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(fd,),
                start_new_session=True,  # a Ctrl-C on our terminal is for us; what follows from it we decide
            )
        except OSError as error:
            ours.close()
            raise EnvironmentFault(
                f"Cannot start {argv[0]} in {workspace.path}: {error.strerror}: {error.filename}.",
                remedy="Check that the folder exists and that processes and open files are not used up.",
            ) from error
        finally:
            theirs.close()
        return ours, popen


class LaunchedProcess:
    """Implements `ports.Process`: a command whose whole tree hangs on our socket to its launcher."""

    def __init__(
        self, popen: subprocess.Popen[bytes], control: socket.socket, *, records: Path, token: int
    ) -> None:
        self._popen = popen
        self._control = control
        self._records = records
        self._token = token
        self._pid = 0
        self._writer: asyncio.StreamWriter | None = None
        self._input: asyncio.StreamWriter | None = None
        self._unread = {"stdout": popen.stdout, "stderr": popen.stderr}
        self._outputs: dict[str, asyncio.StreamReader] = {}
        self._pipes: list[asyncio.BaseTransport] = []
        self._ending: asyncio.Task[int] | None = None

    @property
    def pid(self) -> int:
        """The pid of the launcher, once it has started the command; 0 before."""
        return self._pid

    async def open(self) -> None:
        """Connect to the running launcher and wait until it has started the command.

        Raises:
            EnvironmentFault: it could not.
        """
        reports, self._writer = await asyncio.open_connection(sock=self._control)
        self._ending = asyncio.create_task(self._end(reports, started := asyncio.Event()))
        while self._unread:
            await self._connect(*self._unread.popitem())
        if self._popen.stdin is not None:
            await self._connect_input(self._popen.stdin)
        waiting = asyncio.create_task(started.wait())
        try:
            await asyncio.wait({waiting, self._ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if self._ending.done():
            self._ending.result()

    async def _connect(self, name: str, pipe: IO[bytes] | None) -> None:
        self._outputs[name] = reader = asyncio.StreamReader(limit=_CHUNK_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        self._pipes.append(transport)

    async def _connect_input(self, pipe: IO[bytes]) -> None:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), pipe
        )
        self._pipes.append(transport)
        self._input = asyncio.StreamWriter(transport, protocol, None, loop)

    async def write(self, data: bytes) -> None:
        """Give `data` to the command's stdin and wait until little of it is left unread.

        Raises:
            ConnectionError: it reads no more.
        """
        assert self._input is not None, "the command was started without input"
        if self._input.is_closing():
            raise BrokenPipeError("the command reads no more")
        self._input.write(data)
        await self._input.drain()

    def end_input(self) -> None:
        """End the command's stdin; harmless to repeat."""
        if self._input is not None:
            self._input.close()

    async def output(self) -> AsyncIterator[tuple[str, bytes]]:
        """Yield `(stream, chunk)` until both of stdout and stderr have ended."""
        reads = {self._read(name): name for name in self._outputs}
        try:
            while reads:
                done, _ = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
                for read in done:
                    name = reads.pop(read)
                    if chunk := read.result():
                        reads[self._read(name)] = name
                        yield name, chunk
        finally:
            for read in reads:
                read.cancel()

    def _read(self, name: str) -> asyncio.Task[bytes]:
        return asyncio.create_task(self._outputs[name].read(_CHUNK_BYTES))

    async def wait(self) -> int:
        """Return the exit code of the command, negative for a signal, once its whole tree is gone."""
        assert self._ending is not None
        return await asyncio.shield(self._ending)

    async def kill(self, *, grace_s: float) -> None:
        """End the tree and let go of the pipes. After the end of the command it only does the latter."""
        if self._ending is None:  # cancelled while connecting: the end of the socket says it all
            self._control.close()
            await asyncio.to_thread(self._popen.wait)
        elif not self._ending.done():
            assert self._writer is not None
            self._writer.write(f"{grace_s}\n".encode())
            self._writer.write_eof()
            with contextlib.suppress(EnvironmentFault):
                await asyncio.shield(self._ending)
        for pipe in (*self._pipes, *self._unread.values(), None if self._input else self._popen.stdin):
            if pipe:
                pipe.close()

    async def _end(self, reports: asyncio.StreamReader, started: asyncio.Event) -> int:
        """Follow the launcher's reports to the end of the tree; returns the exit code."""
        code, refusal = None, ""
        with contextlib.suppress(ConnectionError):  # a killed launcher ends the socket, in whatever way
            async for line in reports:
                word, _, rest = line.decode().strip().partition(" ")
                if word == "started":
                    self._pid = int(rest)
                    started.set()
                elif word == "ended":
                    code = int(rest)
                elif word == "refused":
                    refusal = rest
        if code is None and not refusal:
            code = -signal.SIGKILL
            await asyncio.to_thread(tree.kill_tree, self._records, self._token, grace_s=0.0)
        await self._release()
        if code is None:
            raise EnvironmentFault(
                f"The launcher gave up: {refusal}.",
                remedy="Install the program, or make the folder writable.",
            )
        return code

    async def _release(self) -> None:
        assert self._writer is not None
        self._writer.close()
        await asyncio.to_thread(self._popen.wait)
