"""The shared workspace: folders, environment, and what happens when they cannot be made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.errors import EnvironmentFault
from orchestrator.workspace.shared import SharedWorkspaces
from tests.support.sessions import Recorder, assignment


@pytest.fixture
def provider(tmp_path: Path) -> SharedWorkspaces:
    return SharedWorkspaces(root=tmp_path / "root", search_path="/usr/bin:/bin")


async def test_environment_is_complete_and_closed(provider, tmp_path, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    async with provider.open(
        assignment(workdir=str(tmp_path / "new" / "work"), number=3), Recorder()
    ) as workspace:
        assert workspace.path == tmp_path / "new" / "work"
        assert workspace.path.is_dir()
        folder = tmp_path / "root" / "local" / "1"
        assert workspace.env == {
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp-41"),
            "ORCHESTRATOR_PLAN": "plan.md",
            "ORCHESTRATOR_TASK": "A.1",
            "ORCHESTRATOR_ATTEMPT": "3",
        }
        assert (folder / "home").is_dir()
        (folder / "tmp-41" / "left").write_text("behind")
    assert [path.name for path in folder.iterdir()] == ["home"]


async def test_attempts_of_one_plan_share_the_workdir_and_not_tmpdir(provider):
    async with (
        provider.open(assignment(token=1), Recorder()) as one,
        provider.open(assignment(token=2), Recorder()) as other,
    ):
        assert one.path == other.path
        assert one.env["TMPDIR"] != other.env["TMPDIR"]
    async with provider.open(assignment(plan_id=2), Recorder()) as stranger:
        assert stranger.path != one.path
        assert stranger.env["HOME"] != one.env["HOME"]


async def test_a_workdir_in_the_way_of_a_file_is_refused_with_a_remedy(provider, tmp_path):
    (tmp_path / "file").write_text("")
    for workdir in ("file", "file/below"):
        with pytest.raises(EnvironmentFault, match="Cannot make the folder") as caught:
            async with provider.open(assignment(workdir=str(tmp_path / workdir)), Recorder()):
                pass
        assert caught.value.remedy


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_a_workdir_without_the_right_to_write_is_refused(provider, tmp_path):
    (tmp_path / "sealed").mkdir(mode=0o500)
    with pytest.raises(EnvironmentFault, match="Permission denied"):
        async with provider.open(assignment(workdir=str(tmp_path / "sealed")), Recorder()):
            pass
