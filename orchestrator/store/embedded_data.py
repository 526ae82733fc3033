"""What the embedded PostgreSQL keeps on disk: data folder, lock, log; made whole, removed whole.

Everything here is called by the holder of `postgres.lock` only.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import IO

from orchestrator.errors import EnvironmentFault
from orchestrator.store.address import BOOTSTRAP, ROLES, Record, read_record, record_path, write_record
from orchestrator.store.embedded_layout import Layout, cluster_name, data_dir_candidates, remove_state
from orchestrator.store.embedded_os import die_with_parent, end_server

_UNFINISHED = ".postgres-new-"  # prefix of the folders in which initdb works
_LOG_BYTES_MAX = 10_000_000
_SHUTDOWN_MAX_S = 60.0


def lock_path(home: Path) -> Path:
    """Return the file whose lock the owner of the server holds."""
    return home / "postgres.lock"


def log_path(home: Path) -> Path:
    """Return where the server writes what it has to say."""
    return home / "logs" / "postgres.log"


def open_log(home: Path) -> IO[bytes]:
    """Open the log for appending; one that has grown past 10 MB becomes `postgres.log.1` before."""
    path = log_path(home)
    path.parent.mkdir(exist_ok=True)
    if path.exists() and path.stat().st_size > _LOG_BYTES_MAX:
        path.replace(_old_log_path(home))
    return path.open("ab")


def open_data_dir(home: Path, layout: Layout, *, version: str) -> Record:
    """Return the record of the data folder, ready for a server; makes both if there is no data.

    Raises:
        EnvironmentFault: initdb failed (nothing of it is left), the passwords are lost, or the data is
            of another major version.
    """
    _sweep_unfinished(layout.data_dir.parent)
    record = read_record(home)
    if not layout.data_dir.exists():
        return _make_data_dir(home, layout, version=version)
    if record is None:
        raise EnvironmentFault(
            f"{layout.data_dir} holds a database, but {record_path(home)} with its passwords is gone.",
            remedy="Restore that file from a backup of ORCHESTRATOR_HOME.",
        )
    found = (layout.data_dir / "PG_VERSION").read_text(encoding="utf-8").strip()
    if found != version:
        raise EnvironmentFault(
            f"{layout.data_dir} was made by PostgreSQL {found}, not {version}.",
            remedy=f"Go on with version {found}, or set another ORCHESTRATOR_HOME.",
        )
    _remove_stale_pid_file(layout.data_dir)
    return replace(record, data_dir=str(layout.data_dir))


def pid_in_file(data_dir: Path) -> int:
    """Return the pid in `postmaster.pid`, which a server writes once it holds the data folder; else 0."""
    try:
        return int((data_dir / "postmaster.pid").read_text(encoding="utf-8").split("\n")[0])
    except (FileNotFoundError, ValueError):
        return 0


def forget_unmade(home: Path) -> None:
    """Remove the folder that a first start which failed made under /var/lib, unless something is in it.

    Workspaces lie there too, and may be of a home whose database is elsewhere.
    """
    inside, outside = data_dir_candidates(home)
    if not inside.exists() and outside.parent.exists() and not any(outside.parent.iterdir()):
        remove_state(home)


def remove_everything(home: Path) -> None:
    """Remove data, passwords, log and lock file of `home`; other files of the home stay."""
    for data_dir in data_dir_candidates(home):
        if data_dir.exists():
            end_server(cluster_name(data_dir), fast_timeout_s=_SHUTDOWN_MAX_S)
            _sweep_unfinished(data_dir.parent)
            shutil.rmtree(data_dir)
    remove_state(home)
    for path in (log_path(home), _old_log_path(home), record_path(home), lock_path(home)):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty: other logs stay
        log_path(home).parent.rmdir()


def reason_in(text: str) -> str:
    """Return what a program of PostgreSQL gave as the reason of its failure, on one line."""
    lines = [line for line in text.splitlines() if line.strip()]
    words = ("FATAL", "PANIC", "HINT", "error", "could not")
    telling = [line for line in lines if any(word in line for word in words)]
    return " / ".join((telling or lines)[:4]) or "it said nothing."


def _make_data_dir(home: Path, layout: Layout, *, version: str) -> Record:
    """Run initdb in a temporary sibling and rename its result: a data folder is whole or absent."""
    passwords = {role: secrets.token_urlsafe(24) for role in ROLES}
    with tempfile.TemporaryDirectory(dir=layout.data_dir.parent, prefix=_UNFINISHED) as name:
        folder = Path(name)
        password_file = folder / "password"
        password_file.write_text(passwords[BOOTSTRAP], encoding="utf-8")
        if layout.account is not None:
            for path in (folder, password_file):
                os.chown(path, layout.account.uid, layout.account.gid)
        _run_initdb(layout, password_file=password_file, made=folder / "data")
        record = Record(version=version, data_dir=str(layout.data_dir), passwords=passwords)
        write_record(home, record)
        (folder / "data").rename(layout.data_dir)
    return record


def _run_initdb(layout: Layout, *, password_file: Path, made: Path) -> None:
    arguments = ["--auth=scram-sha-256", f"--pwfile={password_file}", "--locale=C.UTF-8", "--encoding=UTF8"]
    result = subprocess.run(
        [layout.binaries / "initdb", "-U", BOOTSTRAP, *arguments, "-D", made],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        preexec_fn=die_with_parent(),
        **layout.popen_options(),
    )
    if result.returncode != 0:
        raise EnvironmentFault(
            f"PostgreSQL could not make its data folder {layout.data_dir}: "
            f"{reason_in(result.stderr.decode(errors='replace'))}",
            remedy="It needs about 100 MB of free disk and a folder that its user may write.",
        )


def _sweep_unfinished(folder: Path) -> None:
    """Remove what an initdb left whose process was killed."""
    for path in folder.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(path)


def _remove_stale_pid_file(data_dir: Path) -> None:
    """Remove the pid file of a dead server if its pid is still taken.

    By another program that has got the pid since, or by the dead server itself until somebody buries it:
    PostgreSQL takes either for a running server. It handles every other stale file. No server of this folder
    lives any more: we hold the lock and have ended what was left.
    """
    pid = pid_in_file(data_dir)
    if pid and Path(f"/proc/{pid}").exists():
        (data_dir / "postmaster.pid").unlink()


def _old_log_path(home: Path) -> Path:
    return home / "logs" / "postgres.log.1"
