"""Where the server lies and as whom it runs."""

import importlib.util
import shutil
from pathlib import Path

import pytest

from orchestrator.errors import EnvironmentFault
from orchestrator.store import embedded_layout
from orchestrator.store.embedded_data import forget_unmade
from orchestrator.store.embedded_layout import (
    Account,
    Layout,
    can_enter,
    cluster_name,
    data_dir_candidates,
    wheel_binaries,
)
from tests.support.postgres import private_home

STRANGER = Account(uid=54321, gid=54321)


@pytest.fixture
def folder():
    """A folder of our own that everybody can reach."""
    home = private_home()
    yield home
    shutil.rmtree(home)


def test_account_enters_what_every_parent_lets_it_enter(folder):
    inner = folder / "inner"
    inner.mkdir()
    inner.chmod(0o755)
    assert can_enter(inner, STRANGER)
    folder.chmod(0o700)
    assert not can_enter(inner, STRANGER)


def test_account_enters_as_owner_as_group_or_not_at_all(folder):
    folder.chmod(0o710)
    status = folder.stat()
    assert can_enter(folder, Account(uid=status.st_uid, gid=54321))
    assert can_enter(folder, Account(uid=54321, gid=status.st_gid))
    assert not can_enter(folder, STRANGER)


def test_every_data_folder_has_its_own_cluster_name(tmp_path):
    inside, outside = data_dir_candidates(tmp_path)
    names = {cluster_name(inside), cluster_name(outside), cluster_name(tmp_path / "other" / "postgres")}
    assert len(names) == 3
    assert all(len(name) < 64 for name in names)  # PostgreSQL cuts identifiers there


def test_server_gets_none_of_our_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "secret")
    monkeypatch.setenv("PGDATA", "/elsewhere")
    options = Layout(binaries=tmp_path, data_dir=tmp_path, account=STRANGER).popen_options()
    assert not {"SOME_API_KEY", "PGDATA"} & options["env"].keys()
    assert (options["user"], options["group"], options["extra_groups"]) == (54321, 54321, [])


def test_wheel_has_both_versions():
    for version in ("16", "18"):
        assert (wheel_binaries(version) / "initdb").exists()


def test_unknown_version_is_named():
    with pytest.raises(EnvironmentFault, match=r"no PostgreSQL 9\..*16, 18.*DATABASE_URL"):
        wheel_binaries("9")


def test_missing_wheel_is_named_with_both_remedies(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match=r"not installed.*pip install.*DATABASE_URL"):
        wheel_binaries("18")


def test_a_first_start_that_failed_forgets_no_work_of_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_layout, "STATE_DIR", tmp_path / "state")
    home = tmp_path / "home"
    work = embedded_layout.public_folder(home, "workspaces") / "work"
    work.write_text("of a plan on another database")
    forget_unmade(home)
    assert work.exists()
    work.unlink()
    work.parent.rmdir()
    forget_unmade(home)
    assert not (tmp_path / "state").exists()
