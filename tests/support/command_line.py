"""The command line as a process, with a home of its own, and a look at what it leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestrator.client import Client
from orchestrator.stack import read_stack
from orchestrator.store.embedded import purge
from orchestrator.views import TaskDetail
from tests.support.ports import free_port
from tests.support.processes import UNCONTAINED

TIMEOUT_S = 240.0

#: Less than the minute for which Ray keeps a process that waits for what has ended.
GONE_S = 50.0

_PROGRAM = (sys.executable, "-c", "from orchestrator.cli import main; main()")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """Runs `orchestrator` with this home, in this folder, on these ports.

    Attributes:
        environment: variables on top of what every command gets.
        prefix: a program that runs the command, with its arguments.
        is_contained: whether sessions of a Host that is started are kept in as by default; see UNCONTAINED.
    """

    home: Path
    folder: Path
    http_port: int
    dashboard_port: int
    environment: Mapping[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    is_contained: bool = False

    def with_environment(self, **environment: str) -> CommandLine:
        """The same command line with further variables."""
        return replace(self, environment={**self.environment, **environment})

    def plan(self, text: str, name: str = "plan.md") -> Path:
        """Write a plan into the folder."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def start(self, *arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """Start a command whose output the caller reads."""
        return subprocess.Popen(
            [*self.prefix, *_PROGRAM, *arguments],
            cwd=self.folder,
            env=self._environment(),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run a command to its end and return its stdout; it must end with `code`."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
        assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}\n{self.log()}"
        return out

    def data(self, *arguments: str, code: int = 0) -> Any:
        """Run a command with --json and return its data, or its error."""
        found = json.loads(self.run(*arguments, "--json", code=code))
        assert found["schema_version"] == 1
        return found["data"] if "data" in found else found["error"]

    def task(self, key: str, *, plan: str) -> TaskDetail:
        """Return a task as the server tells it: no command is started, so a test may ask again and again."""
        with Client.of_home(self.home) as client:
            return client.task(key, plan_id=client.plan(plan).id)

    def log(self) -> str:
        """The end of the Host's log."""
        path = self.home / "logs" / "host.log"
        return path.read_text(encoding="utf-8", errors="replace")[-4000:] if path.exists() else "no log"

    def processes(self) -> dict[int, str]:
        """The processes that carry our home in their environment: pid → command line."""
        mark = f"ORCHESTRATOR_HOME={self.home}".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def assert_nothing_is_left(self) -> None:
        """Wait a bounded time for the last process to end."""
        deadline_s = time.monotonic() + GONE_S
        while (left := self.processes()) and time.monotonic() < deadline_s:
            time.sleep(0.2)
        assert not left, f"still there: {left}"

    def _environment(self) -> dict[str, str]:
        keep = {name: os.environ[name] for name in ("PATH", "LANG", "PYTHONPATH") if name in os.environ}
        return {
            **keep,
            "HOME": str(self.folder),
            "NO_COLOR": "1",
            "ORCHESTRATOR_HOME": str(self.home),
            "ORCHESTRATOR_HTTP__PORT": str(self.http_port),
            "ORCHESTRATOR_RAY__DASHBOARD_PORT": str(self.dashboard_port),
            **({} if self.is_contained else UNCONTAINED),
            **self.environment,
        }


@contextlib.contextmanager
def own_command_line() -> Iterator[CommandLine]:
    """A command line in a new folder; whatever it started is ended, and the folder removed."""
    folder = Path(tempfile.mkdtemp(prefix="orchestrator-cli-"))
    folder.chmod(0o755)
    found = CommandLine(
        home=folder / "home", folder=folder, http_port=free_port(), dashboard_port=free_port()
    )
    try:
        yield found
    finally:
        _end(found)
        purge(found.home)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def running_stack(*, is_contained: bool = True) -> Iterator[CommandLine]:
    """The command line of a stack that is up; `down` must leave no process.

    Args:
        is_contained: of its sessions, also when a test stops the stack and starts it again.
    """
    with own_command_line() as made:
        found = replace(made, is_contained=is_contained)
        found.run("up")
        yield found
        found.run("down")
        found.assert_nothing_is_left()


def read_until(process: subprocess.Popen[str], pattern: str) -> str:
    """Read the stdout of a command up to the line with `pattern`; return that line.

    A command that does not come to it within TIMEOUT_S is killed.
    """
    assert process.stdout is not None
    patience = threading.Timer(TIMEOUT_S, process.kill)
    patience.start()
    seen = []
    try:
        for line in process.stdout:
            seen.append(line)
            if re.search(pattern, line):
                return line
    finally:
        patience.cancel()
    raise AssertionError(f"{pattern!r} did not come: {''.join(seen)}")


def _end(command_line: CommandLine) -> None:
    stack = read_stack(command_line.home)
    if stack is not None:
        os.kill(stack.pid, signal.SIGTERM)
    deadline_s = time.monotonic() + GONE_S
    while (left := command_line.processes()) and time.monotonic() < deadline_s:
        time.sleep(0.2)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
