"""What agents of bad intent reach from inside of the sandbox: their workspace, and nothing else to write."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time

import pytest

from orchestrator.errors import EnvironmentFault
from orchestrator.workspace import sandbox, tree
from orchestrator.workspace.launcher import LaunchedProcess, ProcessLauncher
from orchestrator.workspace.sandbox import Sandbox
from tests.containment.conftest import TOKEN, Agent, python

#: The longest that any process of a session may live on after its end.
SURVIVAL_MAX_S = 5.0


async def first_line(process: LaunchedProcess) -> str:
    line = b""
    async for _, chunk in process.output():
        line += chunk
        if b"\n" in line:
            break
    return line.decode().strip()


async def test_its_workspace_is_its_own_to_write(agent: Agent) -> None:
    assert await agent.tries("echo work > done; cat done; echo x > /tmp/x && cat /tmp/x") == "work\nx\n"
    done = agent.workspace.path / "done"
    assert done.read_text() == "work\n"
    assert done.stat().st_uid == (agent.workspace.owner.uid if agent.workspace.owner else os.geteuid())


async def test_the_system_is_there_to_read_and_root_has_no_power(agent: Agent) -> None:
    setting = "/proc/sys/kernel/core_pattern"  # of the whole machine, and of root
    tried = f"touch /usr/mine /etc/mine; cat {setting} > {setting}; cat /etc/shadow /etc/shadow-"
    said = await agent.tries(f"{tried}; grep CapEff /proc/self/status")
    assert said.count("Read-only file system") + said.count("Permission denied") >= 3
    assert "root:" not in said
    assert int(said.rsplit(maxsplit=1)[-1], 16) == 0


async def test_where_a_file_of_passwords_is_not_there_none_is_hidden(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_PASSWORDS", ("/etc/shadow", "/etc/not-of-this-system"))
    process = await agent.start("exit 4")
    assert await process.wait() == 4


def test_a_machine_that_is_too_busy_to_try_one_does_not_go_without(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Sandbox("auto")
    with monkeypatch.context() as patched:
        patched.setattr(sandbox, "_PROBE_MAX_S", 0.0)
        with pytest.raises(EnvironmentFault, match="does not start within 0 s"):
            found.is_to_be_used()
    assert found.is_to_be_used(), "and it is tried again"


async def test_a_link_leads_to_nothing_outside(agent: Agent) -> None:
    outside = agent.folder / "outside.txt"
    outside.write_text("not yours")
    said = await agent.tries(f"ln -s {outside} link; cat link; echo mine > link; readlink link")
    assert "not yours" not in said
    assert said.endswith(f"{outside}\n")
    assert outside.read_text() == "not yours"


async def test_git_reaches_no_other_repository(agent: Agent) -> None:
    other = agent.folder / "other"
    made = await asyncio.create_subprocess_exec("git", "init", "--quiet", str(other))
    assert await made.wait() == 0
    said = await agent.tries(f"git -C {other} commit --allow-empty -m mine; git --git-dir {other}/.git log")
    assert "cannot change to" in said
    assert "not a git repository" in said.lower()
    assert not any((other / ".git" / "objects").rglob("??/*"))


async def test_tokens_are_not_there(agent: Agent) -> None:
    said = await agent.tries(f"cat {agent.home}/api-token; ls -A {agent.home}; env")
    assert "No such file" in said
    assert "let-me-in" not in said


async def test_the_environment_and_memory_of_other_processes_are_out_of_reach(agent: Agent) -> None:
    other = await asyncio.create_subprocess_exec("sleep", "300", env={"KEY": "only-for-another"})
    try:
        said = await agent.tries(f"cat /proc/[0-9]*/environ; ls /proc/{other.pid}/fd /proc/{other.pid}/mem")
    finally:
        other.kill()
        await other.wait()
    assert "ORCHESTRATOR_TOKEN=" in said  # its own
    assert "only-for-another" not in said
    assert said.count("No such file or directory") == 2


async def test_nothing_survives_its_kill(agent: Agent) -> None:
    loose = "trap '' TERM; setsid sleep 300 & (setsid sh -c 'env -i sleep 300 & sleep 300' &) & sleep 300 &"
    process = await agent.start(f"{loose} echo ready; wait; sleep 300")
    assert await first_line(process) == "ready"
    pids = {member.pid for member in tree.members(agent.records, TOKEN)}
    assert len(pids) > 4  # launcher, monitor, its init, shell, sleeps
    began_s = time.monotonic()
    await process.kill(grace_s=0.2)
    assert time.monotonic() - began_s < SURVIVAL_MAX_S
    assert not pids & {found.pid for found in tree.living_processes()}


@pytest.mark.parametrize("victim", ["launcher", "monitor"])
async def test_nothing_survives_what_holds_it(agent: Agent, victim: str) -> None:
    process = await agent.start("setsid sleep 300 & echo ready; wait")
    assert await first_line(process) == "ready"
    below = [found.pid for found in tree.living_processes() if found.parent == process.pid]
    os.kill(process.pid if victim == "launcher" else below[0], signal.SIGKILL)
    await asyncio.wait_for(process.wait(), SURVIVAL_MAX_S)
    assert tree.confirm_gone(agent.records, TOKEN)


async def test_it_may_clean_up_within_its_grace(agent: Agent) -> None:
    process = await agent.start("trap 'echo bye > bye; exit 5' TERM; echo ready; sleep 300 & wait")
    assert await first_line(process) == "ready"
    await process.kill(grace_s=30)
    assert await process.wait() == 5
    assert (agent.workspace.path / "bye").read_text() == "bye\n"


async def test_a_server_that_it_leaves_is_closed(agent: Agent) -> None:
    serve = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); "
    serve += "print(s.getsockname()[1], flush=True); time.sleep(300)"
    process = await agent.start(f"{python(serve)} & read -r _ < /dev/null; sleep 1; exit 3")
    port = int(await first_line(process))
    assert await process.wait() == 3
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


async def test_without_network_it_reaches_not_even_this_machine(agent: Agent) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect = (
            f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]})); print('in')"
        )
        assert await agent.tries(python(connect)) == "in\n"
        assert "Error" in await agent.tries(python(connect), has_network=False)


async def test_where_none_can_be_made_a_required_one_starts_nothing(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "TRUSTED_PATH", "/nowhere")
    with pytest.raises(EnvironmentFault, match="the program bwrap is not in /nowhere"):
        await agent.start("touch started")
    open_one = ProcessLauncher(records=agent.records, sandbox=Sandbox("auto"))
    process = await open_one.start(["sh", "-c", "exit 4"], workspace=agent.workspace, token=TOKEN)
    assert await process.wait() == 4
    assert not (agent.workspace.path / "started").exists()
