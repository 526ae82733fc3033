"""A Host as a process of its own, spoken to over its pipes like the command line does, and its victims."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.stack import Stack, read_stack
from orchestrator.store.address import read_record
from tests.support.command_line import CommandLine

Message = dict[str, Any]

#: For a start of a whole stack, and for every other thing, on a machine with other work.
WAIT_S = 240.0

#: `A.2` waits until somebody makes the file `word`.
LONG_PLAN = """---
name: long
---
# A plan that takes long

- [ ] **A.1** Begin
  - run: `echo begun > begun`
- [ ] **A.2** Wait for the word
  - depends: A.1
  - run: `echo $$ >> waiting; while ! test -e word; do sleep 0.1; done`
- [ ] **A.3** End
  - depends: A.2
  - run: `echo ended >> ended`
"""


class RunningHost:
    """A Host in mode `run`. Its messages are read as they come."""

    def __init__(self, cli: CommandLine, *arguments: str) -> None:
        self.cli = cli
        (cli.home / "logs").mkdir(parents=True, exist_ok=True)
        with (cli.home / "logs" / "host.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "cluster.host", *(arguments or ("--stdio",))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=cli._environment(),
                cwd=cli.folder,
                start_new_session=True,
            )
        self.heard: list[Message] = []
        self._news: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        for line in self.process.stdout:
            self._news.put(json.loads(line))
        self._news.put(None)

    def submit(self, text: str) -> None:
        """Hand in a plan whose work is done in the folder."""
        request = {"text": text, "workdir": str(self.cli.folder), "backend": "command"}
        self.process.stdin.write(json.dumps({"op": "submit", "request": request}).encode() + b"\n")
        self.process.stdin.flush()

    def hear(self, is_wanted: Callable[[Message], bool], *, timeout_s: float = WAIT_S) -> Message:
        """Return the first message from now on that is wanted."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                message = self._news.get(timeout=max(deadline_s - time.monotonic(), 0.0))
            except queue.Empty:
                raise AssertionError(f"not heard within {timeout_s} s\n{self.cli.log()}") from None
            assert message is not None, f"the Host has ended; it said {self.heard[-3:]}\n{self.cli.log()}"
            self.heard.append(message)
            if is_wanted(message):
                return message

    def hear_kind(self, kind: str, *, timeout_s: float = WAIT_S) -> Message:
        """Return the next message of a kind."""
        return self.hear(lambda message: message["kind"] == kind, timeout_s=timeout_s)

    def hear_event(self, type_: str, key: str) -> Message:
        """Return the next event of this type about this task."""
        return self.hear(lambda m: m["kind"] == "event" and (m["type"], m["task_key"]) == (type_, key))

    def stack(self) -> Stack:
        """What the Host says of itself."""
        stack = read_stack(self.cli.home)
        assert stack is not None, self.cli.log()
        return stack

    def close(self) -> None:
        """Hang up, and see the Host end."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(90)
        finally:
            self.process.kill()
            self._listener.join()
            self.process.stdout.close()

    def wait(self, timeout_s: float = 90.0) -> int:
        """Return the exit code."""
        return self.process.wait(timeout_s)


@contextmanager
def running_host(cli: CommandLine, *arguments: str) -> Iterator[RunningHost]:
    """A Host that has ended with all of its processes when the test leaves."""
    host = RunningHost(cli, *arguments)
    try:
        yield host
    finally:
        host.close()


def pids_of(cli: CommandLine, words: str) -> list[int]:
    """The processes of the stack whose command line has these words."""
    return sorted(pid for pid, command in cli.processes().items() if words in command)


def pid_of(cli: CommandLine, words: str) -> int:
    """The one process of the stack whose command line has these words."""
    (pid,) = pids_of(cli, words)
    return pid


def postmaster_pid(home: Path) -> int:
    """The postmaster of the embedded PostgreSQL."""
    record = read_record(home)
    return int((Path(record.data_dir) / "postmaster.pid").read_text().split("\n")[0])


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def kill(pid: int) -> None:
    """End a process as nobody expects it."""
    os.kill(pid, signal.SIGKILL)


def wait_until(is_so: Callable[[], bool], *, timeout_s: float, what: str) -> float:
    """Wait for something that no event tells; return how long it took."""
    start_s = time.monotonic()
    while not is_so():
        assert time.monotonic() - start_s < timeout_s, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - start_s
