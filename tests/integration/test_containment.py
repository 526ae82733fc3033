"""What keeps sessions in without a sandbox: limits, another user where we are root, secrets that are gone."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.core.words import AttemptState
from orchestrator.file_owner import acting_as
from orchestrator.ports import Owner, Workspace
from orchestrator.sessions.command import CommandBackend
from orchestrator.workspace.launcher import ProcessLauncher
from orchestrator.workspace.limits import ProcessLimits
from orchestrator.workspace.shared import SharedWorkspaces
from tests.support.sessions import Recorder, assignment

ROOT = Path(__file__).parents[2]
UIDS = range(60_900, 60_910)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


async def said(script: str, workspace: Workspace, records: Path, limits: ProcessLimits | None = None) -> str:
    """Run a line of shell under the launcher; return all that it printed."""
    launcher = ProcessLauncher(records=records, limits=limits or ProcessLimits())
    process = await launcher.start(["sh", "-c", f"exec 2>&1; {script}"], workspace=workspace, token=1)
    printed = b"".join([chunk async for _, chunk in process.output()])
    await process.wait()
    return printed.decode(errors="replace")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "work").mkdir()
    return Workspace(path=tmp_path / "work", env={"PATH": "/usr/bin:/bin"})


async def test_limits_hold_for_every_process(workspace, tmp_path):
    limits = ProcessLimits(open_files=100, processes=5_000, file_mb=1, memory_mb=512)
    told = await said(
        "grep -E '^Max (open|proc|file size|core|addr)' /proc/self/limits", workspace, tmp_path, limits
    )
    found = {line[:25].strip(): line[25:].split()[:2] for line in told.splitlines()}
    assert found == {
        "Max open files": ["100", "100"],
        "Max processes": ["5000", "5000"],
        "Max file size": ["1048576", "1048576"],
        "Max core file size": ["0", "0"],
        "Max address space": [str(512 * 2**20)] * 2,
    }
    await said("head -c 2000000 /dev/zero > big", workspace, tmp_path, limits)
    assert (workspace.path / "big").stat().st_size == 2**20


async def test_a_limit_that_is_lower_already_stays(workspace, tmp_path):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    told = await said("ulimit -Hn", workspace, tmp_path, ProcessLimits(open_files=hard + 1))
    assert int(told) == hard


async def test_a_gigabyte_of_output_is_cut_and_counted(workspace, tmp_path):
    transcript = Recorder()
    line = "yes 0123456789abcdef0123456789abcdef | head -c 1000000000"
    task = assignment(run=(line,), limits={"output_bytes_max": 100_000})
    backend = CommandBackend(ProcessLauncher(records=tmp_path / "records"))
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = await backend.run(task, workspace, transcript)
    assert outcome.state is AttemptState.SUCCEEDED
    assert len(outcome.detail) < 20_000
    assert len(transcript.text()) < 200_000
    assert "bytes of output left out" in transcript.text("note")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 50_000


@as_root
async def test_root_runs_the_sessions_of_each_plan_as_another_user(tmp_path):
    _open(tmp_path)
    provider = SharedWorkspaces(root=tmp_path / "root", search_path="/usr/bin:/bin", uids=UIDS)
    async with (
        provider.open(assignment(plan_id=3, token=1), Recorder()) as one,
        provider.open(assignment(plan_id=4, token=2), Recorder()) as other,
    ):
        script = "id -u; echo x > f && cat f; echo y > $HOME/f && echo z > $TMPDIR/f && echo all"
        assert await said(script, one, tmp_path / "records") == "60903\nx\nall\n"
        strange = f"cat {one.path}/f; ls {one.env['HOME']} {one.env['TMPDIR']}; kill -0 {os.getpid()}; id -G"
        refused = await said(strange, other, tmp_path / "records")
        assert refused.count("Permission denied") == 3
        assert "not permitted" in refused
        assert refused.endswith("60904\n")


@as_root
async def test_in_a_workdir_sessions_of_root_run_as_its_owner(tmp_path):
    _open(tmp_path)
    workdir = tmp_path / "theirs"
    workdir.mkdir()
    os.chown(workdir, 60_950, 60_951)
    provider = SharedWorkspaces(root=tmp_path / "root", search_path="/usr/bin:/bin", uids=UIDS)
    async with provider.open(assignment(workdir=str(workdir)), Recorder()) as workspace:
        assert await said("id -u; id -g; echo x > f", workspace, tmp_path / "records") == "60950\n60951\n"
    assert (workdir / "f").stat().st_uid == 60_950


@as_root
def test_files_are_touched_with_the_rights_of_their_owner(tmp_path):
    _open(tmp_path)
    (tmp_path / "secret").touch(mode=0o600)
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 60_950, 60_950)
    (tmp_path / "theirs" / "link").symlink_to(tmp_path / "secret")
    with acting_as(Owner(uid=60_950, gid=60_950)):
        (tmp_path / "theirs" / "new").write_text("x")
        with pytest.raises(PermissionError):
            (tmp_path / "theirs" / "link").write_text("mine")
    assert (tmp_path / "theirs" / "new").stat().st_uid == 60_950
    (tmp_path / "secret").write_text("ours again")


#: A process with secrets, of an ordinary user, that keeps them as an executor does, or not.
KEEPER = """
import os, sys
from actors.containment import keep_secret
from orchestrator.workspace.launcher_main import prctl
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(60950, 60950, 60950)
    os.setresuid(60950, 60950, 60950)
    prctl(4, 1)  # as if it had been this user's from the start
if sys.argv[1] == "keeps":
    keep_secret(["known-secret"])
print(*sorted(os.environ), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("does", ["keeps", "tells"])
async def test_an_executor_shows_its_user_neither_environment_nor_memory(workspace, tmp_path, does):
    secrets = {"SOME_API_KEY": "by-name", "ELSE": "a known-secret by value"}
    keeper = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KEEPER, does),
        env={"PLAIN": "plain", "PYTHONPATH": str(ROOT), **secrets},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert keeper.stdout is not None
    known = (await keeper.stdout.readline()).decode().split()
    owner = Owner(uid=60_950, gid=60_950) if os.geteuid() == 0 else None
    proc = f"/proc/{keeper.pid}"
    looks = f"cat {proc}/environ; ls {proc}/fd; head -c 1 {proc}/mem"
    seen = await said(looks, replace(workspace, owner=owner), tmp_path / "records")
    wiped = _environment_of(keeper.pid) if os.geteuid() == 0 else b"PLAIN=plain"
    await keeper.communicate(b"")
    if does == "tells":
        assert set(secrets) < set(known)
        assert "by-name" in seen
    else:
        assert "PLAIN" in known
        assert not set(secrets) & set(known)
        assert seen.count("Permission denied") == 3
        assert b"PLAIN=plain" in wiped
        assert not any(value.encode() in wiped for value in secrets.values())


def _environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def _open(folder: Path) -> None:
    """Let others into a folder of pytest's."""
    for parent in (folder, *folder.parents):
        if (
            parent.stat().st_uid == os.geteuid()
            and parent != Path(tempfile.gettempdir())
            and parent.is_relative_to(tempfile.gettempdir())
        ):
            parent.chmod(parent.stat().st_mode | 0o055)
