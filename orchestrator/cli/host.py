"""The Host as a process: started as a child that reports over pipes (`run`), or detached (`up`).

It gets a session of its own, so that Ctrl-C reaches the command line alone, which then ends it in good
order; when the command line dies, the Host's stdin closes and it stops by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Self

from orchestrator.cli.messages import Message, read_message
from orchestrator.cli.text import tail
from orchestrator.errors import EnvironmentFault, Interrupted, OrchestratorError
from orchestrator.stack import HOST_LOG, HOST_PROGRESS, read_stack
from orchestrator.views import SubmitRequest

_END_WAIT_MAX_S = 30.0
_POLL_S = 0.1

#: A disk with less free than this is full for us: not even a log line may fit.
FREE_BYTES_MIN = 1_000_000


def start(
    home: Path,
    arguments: Sequence[str],
    *,
    settings: Mapping[str, str],
    stdin: int = subprocess.DEVNULL,
    stdout: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a Host; what it writes to stderr goes to its log.

    Args:
        arguments: of `python -m cluster.host`.
        settings: environment variables on top of ours.
        stdout: None = to the log as well.

    Raises:
        EnvironmentFault: its log cannot be opened, or it cannot be started.
    """
    path = home / HOST_LOG
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.parent.mkdir(exist_ok=True, mode=0o700)
        with path.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "cluster.host", *arguments],
                stdin=stdin,
                stdout=log if stdout is None else stdout,
                stderr=log,
                env={**os.environ, "ORCHESTRATOR_HOME": str(home), **settings},
                start_new_session=True,
            )
    except OSError as error:
        raise EnvironmentFault(
            f"The Host cannot be started: {error}.", remedy=f"Make sure that {home} is writable."
        ) from error


def died(home: Path, return_code: int | None) -> OrchestratorError:
    """Return the error for a Host that ended without saying why."""
    if return_code == 0:
        return Interrupted(
            "The Host was told to stop before the plan had ended.",
            remedy="Nothing that was recorded is lost: run the plan again and it goes on where it stopped.",
        )
    how = f"signal {-return_code}" if return_code and return_code < 0 else f"exit code {return_code}"
    log = home / HOST_LOG
    if home.exists() and shutil.disk_usage(home).free < FREE_BYTES_MIN:
        return EnvironmentFault(
            f"The Host ended ({how}), and the disk of {home} is full.",
            remedy="Free some space there, or set ORCHESTRATOR_HOME to a folder on another disk.",
        )
    return EnvironmentFault(
        f"The Host ended unexpectedly ({how}). The end of {log}:\n{tail(log)}",
        remedy="Nothing that was recorded is lost: run the plan again and it goes on where it stopped.",
    )


def start_detached(home: Path, arguments: Sequence[str]) -> Iterator[Message]:
    """Start a Host that outlives us, and yield its progress until a stack is ready.

    Two that start at once get one stack: the Host that comes second gives way.

    Raises:
        OrchestratorError: what it could not start for.
        EnvironmentFault: it died.
        Interrupted: Ctrl-C; the Host is told to stop.
    """
    progress = home / HOST_PROGRESS
    position = progress.stat().st_size if progress.exists() else 0
    process = start(home, ["--daemon", *arguments], settings={})
    refusal: OrchestratorError | None = None
    try:
        while True:
            time.sleep(_POLL_S)
            is_over = process.poll() is not None
            stack = read_stack(home)
            lines, position = _read_on(progress, position)
            for line in lines:
                try:
                    yield read_message(line)
                except OrchestratorError as error:
                    refusal = error  # ours, if our Host ends now: another one that tried writes here too
            if stack is not None and (stack.state == "ready" or is_over):
                return
            if is_over:
                raise refusal or died(home, process.returncode)
    except KeyboardInterrupt:
        process.terminate()
        raise Interrupted("The start was given up.", remedy="Start again with `orchestrator up`.") from None


def _read_on(path: Path, position: int) -> tuple[list[bytes], int]:
    """Return the whole lines that were written behind `position`, and the new position.

    A file that got shorter was started anew.
    """
    try:
        with path.open("rb") as file:
            position = position if position <= path.stat().st_size else 0
            file.seek(position)
            whole, newline, _ = file.read().rpartition(b"\n")
    except FileNotFoundError:
        return [], position
    return whole.splitlines(), position + len(whole) + len(newline)


class HostChild:
    """A Host that works on one plan for us. Use as a context manager; leaving it ends the Host.

    The first interrupt (Ctrl-C, or SIGTERM to us) asks the Host to stop in good order, the second
    signals it; `is_interrupted` tells of it.
    """

    def __init__(self, home: Path, *, settings: Mapping[str, str]) -> None:
        self.home = home
        self.is_interrupted = False
        self._process = start(
            home, ["--stdio"], settings=settings, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._handlers = {
            number: signal.signal(number, self._on_interrupt) for number in (signal.SIGINT, signal.SIGTERM)
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._hang_up()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_WAIT_MAX_S)
        if self._process.poll() is None:
            self._process.terminate()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def submit(self, request: SubmitRequest) -> None:
        """Hand the plan to the Host."""
        line = json.dumps({"op": "submit", "request": request.model_dump()}) + "\n"
        with contextlib.suppress(BrokenPipeError):  # it died; the end of its messages tells
            _pipe(self._process.stdin).write(line.encode())
            _pipe(self._process.stdin).flush()

    def messages(self) -> Iterator[Message]:
        """Yield what the Host says, until it says no more.

        Raises:
            OrchestratorError: what the Host refused with.
            EnvironmentFault: it died.
        """
        for line in _pipe(self._process.stdout):
            yield read_message(line)
        if not self.is_interrupted:
            raise died(self.home, self._process.wait())

    def _on_interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self.is_interrupted:
            self._tell("Stopping at once: sessions that run are cut off, and run again next time.")
            self._process.terminate()
            return
        self.is_interrupted = True
        self._tell("Stopping: sessions end, then the database. Ctrl-C again stops at once.")
        self._hang_up()

    def _tell(self, text: str) -> None:
        os.write(sys.stderr.fileno(), f"\n{text}\n".encode())  # a signal handler may not use buffers

    def _hang_up(self) -> None:
        """Close the Host's stdin, also from a signal handler that interrupts a write to it."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, _pipe(self._process.stdin).fileno())
        os.close(nowhere)


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise AssertionError("the Host was started without this pipe")
    return stream
