"""A clone for each attempt: what it begins with, what is kept of it, and what must not happen to it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.core.words import AttemptKind
from orchestrator.errors import EnvironmentFault
from orchestrator.ports import Repository
from orchestrator.workspace.places import places
from tests.support.clones import Clones
from tests.support.repositories import commit, git


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def clones(tmp_path: Path) -> Clones:
    return Clones(tmp_path, root=tmp_path / "root")


async def test_a_clone_begins_with_the_tip_on_a_branch_of_its_own(clones):
    commit(clones.origin, more="two\n")
    async with clones.open(clones.task()) as workspace:
        assert (workspace.path / "more").read_text() == "two\n"
        assert git(workspace.path, "branch", "--show-current") == "orchestrator/plan.md/A.1/1"
        assert git(workspace.path, "remote") == ""
        assert workspace.env["ORCHESTRATOR_PORT_BASE"] == "20000"
        assert workspace.env["COMPOSE_PROJECT_NAME"]
    assert places(clones.folder) == []


async def test_commits_and_what_is_uncommitted_are_in_the_repository_before_the_clone_goes(clones):
    async with clones.open(clones.task()) as workspace:
        commit(workspace.path, mine="a\nb\n")
        (workspace.path / "readme").write_text("changed\n")
        (workspace.path / "x.secret").write_text("never\n")
    saved = clones.book.saved[1]
    branch = "orchestrator/plan.md/A.1/1"
    assert saved.base_sha == git(clones.origin, "rev-parse", "main")
    assert saved.head_sha == git(clones.origin, "rev-parse", branch)
    assert (
        git(clones.origin, "rev-parse", f"refs/orchestrator/attempts/1-{saved.head_sha[:12]}")
        == saved.head_sha
    )
    assert saved.files == (("mine", 2, 0), ("readme", 1, 1))
    assert "Task: A.1" in git(clones.origin, "log", "-1", "--format=%B", branch)
    assert git(clones.origin, "ls-tree", "--name-only", branch).split() == [".gitignore", "mine", "readme"]
    assert git(clones.origin, "status", "--porcelain") == ""


async def test_the_files_of_a_repository_made_inside_are_kept(clones):
    async with clones.open(clones.task()) as workspace:
        for name, is_empty in (("with-commit", False), ("without", True)):
            inner = workspace.path / name
            inner.mkdir()
            git(inner, "init", "--quiet")
            (inner / "file").write_text("x\n")
            if not is_empty:
                commit(inner, other="y\n")
    assert [path for path, _, _ in clones.book.saved[1].files] == [
        "with-commit/file",
        "with-commit/other",
        "without/file",
    ]


async def test_the_next_task_begins_with_what_it_depends_on(clones):
    for token, name in ((1, "one"), (2, "two")):
        async with clones.open(clones.task(token, key=name)) as workspace:
            (workspace.path / name).write_text("x\n")
    clones.book.begins_with[3] = [clones.book.work(1), clones.book.work(2)]
    async with clones.open(clones.task(3, key="three")) as workspace:
        assert {"one", "two"} <= _names(workspace.path)
        git(workspace.path, "reset", "--quiet", "--hard", "HEAD~1")  # a session may rewrite history
        (workspace.path / "three").write_text("x\n")
    assert ("three", 1, 0) in clones.book.saved[3].files


async def test_what_does_not_fit_is_told_unless_it_is_the_task_s_own_earlier_work(clones):
    for token in (1, 2):
        async with clones.open(clones.task(token)) as workspace:
            (workspace.path / "readme").write_text(f"{token}\n")
    clones.book.begins_with[3] = [clones.book.work(1), clones.book.work(2, key="A.2")]
    with pytest.raises(EnvironmentFault, match=r"A\.1, A\.2.*readme"):
        async with clones.open(clones.task(3)):
            pass
    clones.book.begins_with[4] = [clones.book.work(1), clones.book.work(2, is_own=True)]
    async with clones.open(clones.task(4)) as workspace:
        assert (workspace.path / "readme").read_text() == "1\n"
    assert "begins anew" in clones.transcript.text("note")


async def test_work_is_kept_when_the_session_is_cancelled(clones):
    async def session() -> None:
        async with clones.open(clones.task()) as workspace:
            (workspace.path / "half").write_text("x\n")
            is_open.set()
            await asyncio.Event().wait()

    is_open = asyncio.Event()
    running = asyncio.create_task(session())
    await is_open.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert clones.book.saved[1].files == (("half", 1, 0),)


async def test_work_that_cannot_be_brought_stays_and_is_brought_by_the_next_attempt(clones, tmp_path):
    async def work() -> None:
        async with clones.open(clones.task()) as workspace:
            (workspace.path / "mine").write_text("x\n")
            clones.origin.rename(moved)

    moved = tmp_path / "away"
    with pytest.raises(EnvironmentFault, match="cannot be brought"):
        await work()
    assert len(places(clones.folder)) == 1
    moved.rename(clones.origin)
    async with clones.open(clones.task(2, number=2)):
        pass
    assert clones.book.saved[1].files == (("mine", 1, 0),)
    assert places(clones.folder) == []


async def test_a_gate_sees_the_work_and_leaves_nothing(clones):
    async with clones.open(clones.task()) as workspace:
        (workspace.path / "mine").write_text("x\n")
    clones.book.begins_with[2] = [clones.book.work(1, is_own=True)]
    async with clones.open(clones.task(2, kind=AttemptKind.GATE)) as workspace:
        assert (workspace.path / "mine").exists()
        (workspace.path / "built").write_text("x\n")
    assert set(clones.book.saved) == {1}
    assert places(clones.folder) == []


async def test_no_hook_of_the_repository_or_of_the_session_runs_as_us(clones, tmp_path):
    ran = tmp_path / "ran"
    for name in ("post-checkout", "pre-receive", "update", "post-receive", "reference-transaction"):
        hook = clones.origin / ".git" / "hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch {ran}\n")
        hook.chmod(0o755)
    async with clones.open(clones.task()) as workspace:
        hooks = workspace.path / ".git" / "hooks"
        hooks.mkdir(exist_ok=True)
        for name in ("pre-commit", "post-commit", "pre-push", "post-index-change"):
            (hooks / name).write_text(f"#!/bin/sh\ntouch {ran}\n")
            (hooks / name).chmod(0o755)
        (workspace.path / "mine").write_text("x\n")
    assert clones.book.saved[1].files
    assert not ran.exists()


async def test_setup_lines_run_in_the_clone_and_their_failure_is_told(clones):
    task = clones.task()
    good = replace(task, repository=replace(task.repository, setup=("echo ready; touch made.secret",)))
    async with clones.open(good) as workspace:
        assert (workspace.path / "made.secret").exists()
    assert "ready" in clones.transcript.text("stdout")
    bad = replace(task, token=2, repository=replace(task.repository, setup=("echo why; exit 3",)))
    with pytest.raises(EnvironmentFault, match=r"`echo why; exit 3` ended with exit code 3"):
        async with clones.open(bad):
            pass
    assert places(clones.folder) == []


async def test_ignored_files_that_the_plan_names_are_copied_and_no_others(clones, tmp_path):
    (clones.origin / "key.secret").write_text("k")
    (clones.origin / "other.secret").write_text("o")
    (tmp_path / "outside").write_text("s")
    (clones.origin / "link.secret").symlink_to(tmp_path / "outside")
    (clones.origin / "notes").write_text("not ignored")
    task = clones.task()
    repository = replace(task.repository, include=("key.secret", "link.secret", "notes"))
    async with clones.open(replace(task, repository=repository)) as workspace:
        assert _names(workspace.path) == {".git", ".gitignore", "key.secret", "readme"}


async def test_a_repository_that_is_not_there_is_named_with_a_remedy(clones, tmp_path):
    for repository in (Repository(url=str(tmp_path)), Repository(url=str(clones.origin), branch="gone")):
        with pytest.raises(EnvironmentFault, match="Cannot read") as caught:
            async with clones.open(replace(clones.task(), repository=repository)):
                pass
        assert caught.value.remedy


async def test_twenty_at_once_have_places_and_ports_of_their_own(clones):
    async def work(token: int) -> str:
        async with clones.open(clones.task(token, key=f"A.{token}")) as workspace:
            (workspace.path / f"file-{token}").write_text("x\n")
            is_in.append(token)
            if len(is_in) == 20:
                all_in.set()
            await all_in.wait()
            return workspace.env["ORCHESTRATOR_PORT_BASE"]

    is_in: list[int] = []
    all_in = asyncio.Event()
    ports = await asyncio.gather(*(work(token) for token in range(1, 21)))
    assert len(set(ports)) == 20
    assert {token: saved.files for token, saved in clones.book.saved.items()} == {
        token: ((f"file-{token}", 1, 0),) for token in range(1, 21)
    }
