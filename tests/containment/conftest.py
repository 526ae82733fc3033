"""Agents that mean harm, as real processes in the real sandbox. Without bubblewrap this group is not run."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.ports import Owner, Workspace
from orchestrator.workspace import tree
from orchestrator.workspace.launcher import LaunchedProcess, ProcessLauncher
from orchestrator.workspace.sandbox import Sandbox

TOKEN = 7

#: As whom root's sessions run; nobody has an account of that number.
OWNERS = [None, Owner(uid=60_999, gid=60_999)] if os.geteuid() == 0 else [None]


class Agent:
    """What an agent of bad intent does, in a sandbox whose folder `home` is hidden.

    Attributes:
        folder: above all that it may reach: `work`, its workspace, and all that it may not.
        home: of the orchestrator, with a token in it.
    """

    def __init__(self, folder: Path, owner: Owner | None) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.records = self.home / "records"
        work = folder / "work"
        work.mkdir(mode=0o700)
        self.home.mkdir(mode=0o700)
        (self.home / "api-token").write_text("let-me-in")
        if owner:
            shutil.chown(work, owner.uid, owner.gid)
        self.workspace = Workspace(path=work, env={"PATH": os.environ["PATH"]}, owner=owner)
        self.started: list[LaunchedProcess] = []

    async def start(self, script: str, *, has_network: bool = True) -> LaunchedProcess:
        """Start a line of shell."""
        sandbox = Sandbox("required", hidden=[self.home], has_network=has_network)
        launcher = ProcessLauncher(records=self.records, sandbox=sandbox)
        process = await launcher.start(["sh", "-c", script], workspace=self.workspace, token=TOKEN)
        self.started.append(process)
        return process

    async def tries(self, script: str, *, has_network: bool = True) -> str:
        """Run a line of shell to its end; return all that it printed."""
        process = await self.start(f"exec 2>&1; {script}", has_network=has_network)
        return b"".join([chunk async for _, chunk in process.output()]).decode(errors="replace")


def python(code: str) -> str:
    """Return the line of shell that runs code with our own Python."""
    return f"{sys.executable} -I -c {shlex.quote(code)}"


@pytest.fixture(params=OWNERS, ids=["as-we", "as-another"][: len(OWNERS)])
async def agent(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Agent]:
    """An agent, run as we are and, where we are root, as another user."""
    found = Agent(tmp_path, request.param)
    yield found
    for process in found.started:
        await process.kill(grace_s=0)
    assert tree.confirm_gone(found.records, TOKEN)
