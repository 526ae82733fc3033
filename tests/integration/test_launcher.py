"""The launcher against real processes: nothing of a tree survives its holder, and exit codes are true."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from orchestrator.errors import EnvironmentFault
from orchestrator.ports import Workspace
from orchestrator.workspace import tree
from orchestrator.workspace.launcher import LaunchedProcess, ProcessLauncher, launcher_command
from orchestrator.workspace.launcher_main import living_processes, read_process

TOKEN = 7
ENV = {"PATH": os.environ["PATH"], "GREETING": "hello"}

#: A tree that resists: a child that ignores SIGTERM, one in its own session, one that forked twice.
STUBBORN = """
trap '' TERM
setsid sleep 300 &
(setsid sh -c 'sleep 300 & sleep 300' &) &
sleep 300 &
echo ready
wait; sleep 300
"""


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "records"
    yield folder
    for token in (0, TOKEN):  # a test that failed may have left some
        tree.kill_tree(folder, token, grace_s=0)


@pytest.fixture
async def launch(records: Path, tmp_path: Path) -> AsyncIterator[object]:
    started: list[LaunchedProcess] = []

    async def start(*argv: str, has_input: bool = False) -> LaunchedProcess:
        process = await ProcessLauncher(records=records).start(
            argv, workspace=Workspace(path=tmp_path, env=ENV), token=TOKEN, has_input=has_input
        )
        started.append(process)
        return process

    yield start
    for process in started:
        await process.kill(grace_s=0)


async def collect(process: LaunchedProcess) -> tuple[str, str]:
    parts: dict[str, bytes] = {"stdout": b"", "stderr": b""}
    async for stream, chunk in process.output():
        parts[stream] += chunk
    return parts["stdout"].decode(), parts["stderr"].decode()


async def read_line(process: LaunchedProcess) -> str:
    line = b""
    async with contextlib.aclosing(process.output()) as output:
        async for _, chunk in output:
            line += chunk
            if b"\n" in line:
                break
    return line.decode().strip()


def wait_until(condition, timeout_s: float = 60) -> None:
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_at, "it did not come true"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", -9), ("kill -TERM $$", -15)]
)
async def test_exit_code_and_output_are_those_of_the_command(launch, records, script, code):
    process = await launch("sh", "-c", f"echo out; echo err >&2; {script}")
    assert await collect(process) == ("out\n", "err\n")
    assert await process.wait() == code
    assert tree.confirm_gone(records, TOKEN)
    assert list(records.iterdir()) == []


async def test_environment_is_what_is_given_and_the_marker(launch, records, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    process = await launch("/usr/bin/env")
    lines = (await collect(process))[0].splitlines()
    assert sorted(lines) == sorted(
        [f"{name}={value}" for name, value in ENV.items()] + [f"ORCHESTRATOR_TOKEN=7@{records.resolve()}"]
    )


async def test_stdin_is_empty_and_signals_are_reset(launch):
    script = "import signal, sys; print(repr(sys.stdin.read()), signal.pthread_sigmask(0, []))"
    process = await launch(sys.executable, "-c", script)
    out, _ = await collect(process)
    assert out == "'' set()\n"
    status = await launch("grep", "SigIgn", "/proc/self/status")
    ignored = int((await collect(status))[0].split()[1], 16)
    of_the_c_library = 1 << (32 - 1) | 1 << (33 - 1)  # no program can set these two; see signal(7), NPTL
    assert ignored & ~of_the_c_library == 0


async def test_input_is_what_is_written_until_it_is_ended(launch):
    process = await launch("cat", has_input=True)
    await process.write(b"one\n")
    assert await read_line(process) == "one"
    writing = asyncio.create_task(process.write(b"x" * 1_000_000))
    writing.add_done_callback(lambda _: process.end_input())
    assert len((await collect(process))[0]) == 1_000_000
    assert await process.wait() == 0
    with pytest.raises(ConnectionError):
        await process.write(b"too late")


async def test_a_command_that_does_not_read_is_killed_with_its_input(launch, records):
    process = await launch("sleep", "300", has_input=True)
    writing = asyncio.create_task(process.write(b"x" * 1_000_000))
    await asyncio.sleep(0)
    await process.kill(grace_s=0)
    with pytest.raises(ConnectionError):
        await writing
    assert tree.confirm_gone(records, TOKEN)


async def test_record_names_launcher_and_child_while_it_runs(launch, records):
    process = await launch("sh", "-c", "echo $$; exec sleep 300")
    child = int(await read_line(process))
    assert [path.name for path in records.iterdir()] == [f"{TOKEN}.{process.pid}.json"]
    assert not tree.confirm_gone(records, TOKEN)
    assert {process.pid, child} <= {member.pid for member in tree.members(records, TOKEN)}


async def test_kill_ends_daemons_and_the_deaf(launch, records):
    process = await launch("sh", "-c", STUBBORN)
    assert await read_line(process) == "ready"
    wait_until(lambda: len(tree.members(records, TOKEN)) >= 6)
    await process.kill(grace_s=0.2)
    assert await process.wait() == -signal.SIGKILL
    assert tree.confirm_gone(records, TOKEN)
    assert list(records.iterdir()) == []


async def test_kill_lets_the_command_clean_up_within_the_grace(launch, tmp_path):
    process = await launch("sh", "-c", "trap 'echo bye > bye; exit 5' TERM; echo ready; sleep 300 & wait")
    await read_line(process)
    await process.kill(grace_s=10)
    assert await process.wait() == 5
    assert (tmp_path / "bye").read_text() == "bye\n"


async def test_what_a_command_leaves_behind_is_ended_before_its_code_is_told(launch, records):
    process = await launch("sh", "-c", "setsid sleep 300 >/dev/null 2>&1 & exit 4")
    assert await process.wait() == 4
    assert tree.confirm_gone(records, TOKEN)


async def test_missing_program_and_folder_are_environment_faults(launch, records, tmp_path):
    with pytest.raises(EnvironmentFault, match=r"cannot start no-such-program: No such file"):
        await launch("no-such-program")
    nowhere = Workspace(path=tmp_path / "nowhere", env=ENV)
    with pytest.raises(EnvironmentFault, match=r"No such file or directory: .*nowhere"):
        await ProcessLauncher(records=records).start(["true"], workspace=nowhere, token=1)
    assert list(records.iterdir()) == []


async def test_nothing_starts_where_records_cannot_be_kept(launch, records, tmp_path):
    records.write_text("in the way")
    with pytest.raises(EnvironmentFault, match="File exists"):
        await launch("touch", "started")
    assert not (tmp_path / "started").exists()


def test_nothing_starts_without_a_record(records, tmp_path):
    records.mkdir()
    command = launcher_command(["touch", "started"], records=records, token=TOKEN, env=ENV)
    records.rmdir()
    done = subprocess.run(
        command.argv, env=command.env, cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert done.returncode == 125
    assert "cannot write" in done.stderr
    assert not (tmp_path / "started").exists()


@pytest.mark.faults
async def test_killed_launcher_takes_its_tree_along(launch, records):
    process = await launch("sh", "-c", STUBBORN)
    await read_line(process)
    os.kill(process.pid, signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL
    assert tree.confirm_gone(records, TOKEN)
    assert list(records.iterdir()) == []


@pytest.mark.faults
def test_kill_tree_finds_orphans_by_marker_without_any_record(records, tmp_path):
    records.mkdir()
    env = {**ENV, tree.MARKER: tree.marker(records, TOKEN)}
    other = {**ENV, tree.MARKER: tree.marker(records, TOKEN + 1)}
    ours = subprocess.Popen(["setsid", "sleep", "300"], env=env)
    theirs = subprocess.Popen(["sleep", "300"], env=other)
    try:
        wait_until(lambda: not tree.confirm_gone(records, TOKEN))
        assert tree.kill_tree(records, TOKEN, grace_s=1)
        assert ours.wait(60) == -signal.SIGTERM
        assert tree.confirm_gone(records, TOKEN)
        assert theirs.poll() is None
    finally:
        for process in (ours, theirs):
            process.kill()
            process.wait()


@pytest.mark.faults
def test_a_reused_pid_is_never_killed(records):
    records.mkdir()
    stranger = subprocess.Popen(["sleep", "300"], env=ENV)
    try:
        identity = f'{{"pid": {stranger.pid}, "start_time": 1}}'
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        record = records / f"{TOKEN}.1.json"
        record.write_text(f'{{"token": 7, "boot_id": "{boot}", "launcher": {identity}, "child": {identity}}}')
        assert tree.confirm_gone(records, TOKEN)
        assert tree.kill_tree(records, TOKEN, grace_s=0)
        assert stranger.poll() is None
        assert not record.exists()
    finally:
        stranger.kill()
        stranger.wait()


EXECUTOR = """
import asyncio, os, signal, sys
from pathlib import Path
from orchestrator.ports import Workspace
from orchestrator.workspace.launcher import ProcessLauncher
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
async def main():
    records = Path(sys.argv[1])
    launcher = ProcessLauncher(records=records, grace_s=0.2)
    argv = ["sh", "-c", sys.argv[3]]
    workspace = Workspace(path=records.parent, env=dict(os.environ))
    process = await launcher.start(argv, workspace=workspace, token=7)
    async for _, chunk in process.output():
        os.write(1, chunk)
    print("code", await process.wait())
asyncio.run(main())
"""


@contextlib.contextmanager
def executor(records: Path, mood: str, script: str) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-c", textwrap.dedent(EXECUTOR), str(records), mood, script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.faults
@pytest.mark.parametrize("does_kill_children", [False, True], ids=["alone", "children-first"])
def test_killed_executor_leaves_no_descendant(records, does_kill_children):
    """A worker of Ray that ends in order kills its children itself, with SIGKILL."""
    with executor(records, "well", STUBBORN) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        wait_until(lambda: len(tree.members(records, TOKEN)) >= 6)
        pids = [member.pid for member in tree.members(records, TOKEN)]
        children = [found.pid for found in living_processes() if found.parent == process.pid]
        assert children
        for pid in children if does_kill_children else []:
            os.kill(pid, signal.SIGKILL)
        process.kill()
        wait_until(lambda: tree.confirm_gone(records, TOKEN))
    survivors = {process.pid for process in living_processes()} & set(pids)
    assert survivors == set()
    assert list(records.iterdir()) == []


def test_exit_code_is_true_where_sigchld_is_ignored(records):
    with executor(records, "deaf", "exit 3") as process:
        assert process.stdout is not None
        assert process.stdout.read() == "code 3\n"


def guard(records: Path, script: str, **options) -> subprocess.Popen[bytes]:
    records.mkdir(exist_ok=True)
    command = launcher_command(["sh", "-c", script], records=records, token=0, env=ENV, **options)
    fds = tuple(fd for fd in (options.get("hold_fd"),) if fd is not None)
    return subprocess.Popen(
        command.argv, env=command.env, pass_fds=fds, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_guard_inherits_stdio_and_forwards_signals(records, number):
    name = signal.Signals(number).name[3:]
    with guard(
        records, f"read word; trap 'echo got $word; exit 6' {name}; echo ready; sleep 300 & wait"
    ) as process:
        process.stdin.write(b"it\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == b"got it\n"
        assert process.wait(60) == 6
    assert tree.confirm_gone(records, 0)


@pytest.mark.faults
def test_guard_ends_everything_when_its_parent_lets_go(records):
    hold, parent = os.pipe()
    with guard(records, STUBBORN, hold_fd=hold, grace_s=0.1) as process:
        os.close(hold)
        assert process.stdout.readline() == b"ready\n"
        os.close(parent)
        assert process.wait(60) == 128 + signal.SIGKILL
    assert tree.confirm_gone(records, 0)


@pytest.mark.faults
def test_service_of_a_killed_guard_gets_its_orphan_signal(records):
    with guard(
        records,
        "trap 'echo bye; exit' TERM; echo $$; while :; do sleep 0.05; done",
        orphan_signal=signal.SIGTERM,
    ) as process:
        service = int(process.stdout.readline())
        process.kill()
        assert process.stdout.readline() == b"bye\n"
        wait_until(lambda: read_process(service) is None or read_process(service).is_dead)
    assert tree.kill_tree(records, 0, grace_s=1)


async def test_cancelled_start_leaves_nothing(records, tmp_path):
    launcher = ProcessLauncher(records=records)
    for delay_s in (0.0, 0.005, 0.02, 0.05):
        workspace = Workspace(path=tmp_path, env=ENV)
        start = asyncio.create_task(launcher.start(["sleep", "300"], workspace=workspace, token=TOKEN))
        await asyncio.sleep(delay_s)
        if start.done():
            await start.result().kill(grace_s=0)
        start.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await start
        assert tree.confirm_gone(records, TOKEN)
