"""The folders of the shared workspace that root gives to others, however many executors make them at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.ports import Owner
from orchestrator.workspace.shared import _make


def test_a_folder_of_ours_is_private(tmp_path: Path) -> None:
    _make(tmp_path / "local" / "1" / "home", None)
    assert (tmp_path / "local" / "1" / "home").stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
def test_one_that_another_executor_has_made_and_not_given_yet_is_given(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    _make(home, Owner(uid=60_999, gid=60_999))
    assert (home.stat().st_uid, home.stat().st_gid) == (60_999, 60_999)
