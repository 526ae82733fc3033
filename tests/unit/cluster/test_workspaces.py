"""Clones that are left on a machine: listed, and brought to their repositories before they go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.home import HostHome
from cluster.workspaces import collect, listed
from orchestrator.errors import EnvironmentFault
from orchestrator.settings import Settings
from orchestrator.store.embedded_layout import remove_state
from tests.support.clones import Clones
from tests.support.repositories import git


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    home = tmp_path / "home"
    home.mkdir()
    yield Settings(home=home)
    remove_state(home)


@pytest.fixture
def clones(tmp_path: Path, settings: Settings) -> Clones:
    return Clones(tmp_path, root=HostHome(settings.home).workspaces())


async def _leave(clones: Clones) -> None:
    """Have an attempt work whose commits cannot be brought, as the repository is away."""
    async with clones.open(clones.task()) as workspace:
        (workspace.path / "mine").write_text("x\n")
        clones.origin.rename(clones.origin.with_name("away"))


async def test_work_in_use_is_listed_and_not_touched(clones, settings):
    async with clones.open(clones.task()) as workspace:
        assert [(clone.state, clone.folder) for clone in listed(settings)] == [
            ("in use", str(workspace.path))
        ]
        assert await collect(settings) == []
        assert workspace.path.exists()
    assert listed(settings) == []


async def test_work_that_is_left_stays_until_its_repository_takes_it(clones, settings):
    with pytest.raises(EnvironmentFault):
        await _leave(clones)
    assert [(clone.state, clone.task, clone.token) for clone in listed(settings)] == [("left", "A.1", 1)]
    (refused,) = await collect(settings)
    assert refused.state == "left"
    assert "cannot be brought" in refused.reason
    clones.origin.with_name("away").rename(clones.origin)
    (brought,) = await collect(settings)
    assert (brought.state, brought.reason) == ("brought", "")
    assert git(clones.origin, "show", "orchestrator/plan.md/A.1/1:mine") == "x"
    assert listed(settings) == []
