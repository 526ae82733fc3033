"""The embedded PostgreSQL with real servers, real kills, a real full disk, as root and as another user."""

import contextlib
import json
import os
import pwd
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest

from orchestrator.errors import EnvironmentFault, InvariantViolation
from orchestrator.store.address import BOOTSTRAP, ROLES, Address, read_record, record_path
from orchestrator.store.embedded import EmbeddedPostgres, attach, purge
from orchestrator.store.embedded_data import log_path
from orchestrator.store.embedded_layout import (
    STATE_DIR,
    cluster_name,
    data_dir_candidates,
    wheel_binaries,
)
from orchestrator.store.embedded_os import server_processes
from tests.support.postgres import VERSIONS, private_home
from tests.support.small_disk import small_disk

pytestmark = pytest.mark.postgres
ROOT = Path(__file__).parents[2]
IS_ROOT = os.geteuid() == 0


@pytest.fixture
def home():
    """A private folder, in which nothing runs any more at the end."""
    folder = private_home()
    yield folder
    names = [cluster_name(path) for path in data_dir_candidates(folder)]
    purge(folder)
    shutil.rmtree(folder, ignore_errors=True)
    assert [server_processes(name) for name in names] == [{}, {}]


class Owner:
    """A process of its own that starts the server of `home`."""

    def __init__(self, home, *, version="18", uid=0, wheel=None):
        path = [str(part) for part in (wheel, ROOT) if part]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.postgres_owner", home, version, str(uid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=ROOT,
        )

    def answer(self):
        """The address, or the error, once it is there."""
        said = json.loads(self.process.stdout.readline())
        return said if "error" in said else Address(**said)

    def end(self):
        self.process.communicate()

    def kill(self):
        """kill -9, and leave the corpse unburied."""
        self.process.kill()
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)


@contextlib.contextmanager
def running(home, **options):
    owner = Owner(home, **options)
    try:
        yield owner
    finally:
        owner.end()


@contextlib.contextmanager
def started(home, **options):
    server = EmbeddedPostgres(home=home, **options)
    try:
        yield server, server.start()
    finally:
        server.stop()


def query(address, sql, *, role=BOOTSTRAP):
    with psycopg.connect(address.url(role, database="postgres"), autocommit=True) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchone()[0] if cursor.description else None


def data_dir(home):
    return Path(read_record(home).data_dir)


def server_pids(home):
    return server_processes(cluster_name(data_dir(home)))


def postmaster(home):
    return next(pid for pid, is_postmaster in server_pids(home).items() if is_postmaster)


def await_end(pids, *, timeout_s=120):
    """Wait until the processes are gone, without asking again and again."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            assert select.select([descriptor], [], [], timeout_s)[0], f"process {pid} lives"
            os.close(descriptor)


def needs_root():
    if not IS_ROOT:
        pytest.skip("NOT RUN: only root can become another user, mount, or need /var/lib")


def copy_wheel(folder):
    """Copy the package with the binaries and the libraries beside it."""
    package = wheel_binaries("18").parents[1]
    for path in package.parent.glob(f"{package.name}*"):
        shutil.copytree(path, folder / path.name)


# -- start, stop, what it listens on, whom it lets in ------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_data_and_port_survive_a_restart(home, version):
    with started(home, version=version) as (_, first):
        assert query(first, "show server_version").startswith(version)
        query(first, "create table t as select 42 as n")
    assert attach(home) is None
    with started(home, version=version) as (_, second):
        assert query(second, "select n from t") == 42
        assert second.port == first.port


@pytest.mark.parametrize("version", VERSIONS)
def test_vector_extension_is_there(home, version):
    with started(home, version=version) as (_, address):
        query(address, "create extension vector")
        assert query(address, "select '[3,4]'::vector <-> '[0,0]'::vector") == 5


def test_only_the_password_opens_and_only_on_the_loopback(home):
    with started(home) as (_, address):
        wrong = Address(port=address.port, passwords=dict.fromkeys(ROLES, "guess"))
        none = f"postgresql://{BOOTSTRAP}@127.0.0.1:{address.port}/postgres"
        for url in (wrong.url(BOOTSTRAP, database="postgres"), none):
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(url)
        assert query(address, "show listen_addresses") == "127.0.0.1"
        assert query(address, "show unix_socket_directories") == ""
        assert query(address, "select rolpassword like 'SCRAM%' from pg_authid where rolname = 'postgres'")


def test_writes_are_durable(home):
    with started(home) as (_, address):
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            assert query(address, f"show {name}") == "on"


def test_files_are_private(home):
    with started(home):
        for path in (record_path(home), home / "postgres.lock"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(data_dir(home).stat().st_mode) == 0o700


def test_second_start_of_the_owner_is_harmless(home):
    with started(home) as (server, address):
        before = postmaster(home)
        assert server.start() == address
        assert postmaster(home) == before


def test_stop_twice_and_stop_before_start_are_harmless(home):
    server = EmbeddedPostgres(home=home)
    server.stop()
    server.start()
    server.stop()
    server.stop()
    assert not server.is_alive()


def test_only_the_main_thread_may_start_it(home):
    caught = []

    def start():
        with pytest.raises(InvariantViolation, match="main thread") as info:
            EmbeddedPostgres(home=home).start()
        caught.append(info.value)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert caught
    assert list(home.iterdir()) == []


# -- several processes ------------------------------------------------------------------------------------


def test_another_process_shares_the_server_and_leaves_it_running(home):
    with started(home) as (server, address):
        with running(home) as other:
            shared = other.answer()
            assert (shared.port, shared.is_owner, address.is_owner) == (address.port, False, True)
            assert query(shared, "select 1") == 1
        assert server.is_alive()
        assert query(address, "select 1") == 1


def test_of_many_starting_at_once_one_owns(home):
    owners = [Owner(home) for _ in range(4)]
    answers = [owner.answer() for owner in owners]
    for owner in sorted(owners, key=lambda one: answers[owners.index(one)].is_owner):
        owner.end()
    assert sorted(answer.is_owner for answer in answers) == [False, False, False, True]
    assert len({answer.port for answer in answers}) == 1


def test_taken_port_is_left_for_another(home):
    with started(home) as (_, first):
        pass
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", first.port))
        thief.listen()
        with started(home) as (_, second):
            assert second.port != first.port
            assert query(second, "select 1") == 1


# -- kills ------------------------------------------------------------------------------------------------


def test_killed_owner_leaves_no_process_and_loses_nothing(home):
    owner = Owner(home)
    address = owner.answer()
    query(address, "create table t as select 7 as n")
    pids = server_pids(home)
    owner.kill()
    assert attach(home) is None  # the owner is a zombie now, which is dead
    await_end(pids)
    assert server_pids(home) == {}
    assert "database system is shut down" in log_path(home).read_text()
    with started(home) as (_, again):
        assert again.is_owner
        assert query(again, "select n from t") == 7
    owner.end()


def test_start_right_after_the_kill_of_the_owner_waits_for_its_server(home):
    owner = Owner(home)
    query(owner.answer(), "create table t as select 7 as n")
    owner.kill()
    with started(home) as (_, again):
        assert query(again, "select n from t") == 7
    owner.end()


def test_killed_postmaster_with_a_hanging_backend_is_replaced(home):
    with started(home) as (server, address):
        query(address, "create table t as select 7 as n")
        hanging = psycopg.connect(address.url(BOOTSTRAP, database="postgres"))
        os.kill(hanging.info.backend_pid, signal.SIGSTOP)  # holds on to the shared memory, hears nothing
        killed = postmaster(home)
        os.kill(killed, signal.SIGKILL)
        await_end([killed])
        assert not server.is_alive()
        assert hanging.info.backend_pid in server_pids(home)
        again = server.start()
        assert hanging.info.backend_pid not in server_pids(home)
        assert server.is_alive()
        assert query(again, "select n from t") == 7
        hanging.close()


def test_shared_server_counts_as_dead_when_its_postmaster_is(home):
    with running(home) as owner:
        owner.answer()
        sharer = EmbeddedPostgres(home=home)
        assert not sharer.start().is_owner
        assert sharer.is_alive()
        killed = postmaster(home)
        os.kill(killed, signal.SIGKILL)  # stays a zombie: its parent does not ask for it
        await_end([killed])
        assert not sharer.is_alive()


@pytest.mark.parametrize("is_corpse", [False, True], ids=["alive", "unburied"])
def test_pid_file_that_names_a_stranger_stops_nothing(home, is_corpse):
    with started(home):
        pass
    owner = data_dir(home).stat()
    stranger = subprocess.Popen(["sleep", "60"], user=owner.st_uid if IS_ROOT else None)
    try:
        pid_file = data_dir(home) / "postmaster.pid"
        pid_file.write_text(f"{stranger.pid}\n{data_dir(home)}\n1700000000\n5432\n\n127.0.0.1\n\n\n")
        if IS_ROOT:
            os.chown(pid_file, owner.st_uid, owner.st_gid)
        if is_corpse:  # as a postmaster is after a power cut, until somebody buries it
            stranger.kill()
            os.waitid(os.P_PID, stranger.pid, os.WEXITED | os.WNOWAIT)
        with started(home) as (_, address):
            assert query(address, "select 1") == 1
        assert is_corpse or stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_leftover_of_a_killed_initdb_is_removed(home):
    leftover = home / ".postgres-new-abc"
    (leftover / "data").mkdir(parents=True)
    with started(home):
        assert not leftover.exists()


# -- other users and unreachable folders ------------------------------------------------------------------


@pytest.fixture
def nobody():
    needs_root()
    return pwd.getpwnam("nobody").pw_uid


@pytest.fixture
def open_wheel():
    """A copy of the wheel that every user can reach, whatever the virtual environment allows."""
    folder = private_home()
    copy_wheel(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("version", VERSIONS)
def test_ordinary_user_runs_it_as_itself(home, nobody, open_wheel, version):
    os.chown(home, nobody, nobody)
    with running(home, version=version, uid=nobody, wheel=open_wheel) as owner:
        address = owner.answer()
        assert query(address, "select 1") == 1
        assert Path(f"/proc/{postmaster(home)}").stat().st_uid == nobody
        assert data_dir(home) == home / "postgres"


def test_root_runs_on_the_data_of_an_ordinary_user_as_that_user(home, nobody, open_wheel):
    os.chown(home, nobody, nobody)
    with running(home, uid=nobody, wheel=open_wheel) as owner:
        query(owner.answer(), "create table t as select 7 as n")
    with started(home) as (_, address):
        assert query(address, "select n from t") == 7
        assert Path(f"/proc/{postmaster(home)}").stat().st_uid == nobody


def test_record_of_another_user_is_refused_with_the_remedy(home, nobody, open_wheel):
    with started(home), running(home, uid=nobody, wheel=open_wheel) as other:
        home.chmod(0o777)
        said = other.answer()
    assert said["error"] == "EnvironmentFault"
    assert "ORCHESTRATOR_HOME" in said["message"]


def test_ordinary_user_without_permission_is_told_so(home, nobody, open_wheel):
    with running(home, uid=nobody, wheel=open_wheel) as owner:  # the home is root's
        said = owner.answer()
    assert said["error"] == "EnvironmentFault"
    assert "Permission denied" in said["message"]
    assert "set another ORCHESTRATOR_HOME" in said["message"]
    assert list(home.iterdir()) == []


def test_root_keeps_the_data_of_a_closed_home_in_var_lib(home):
    needs_root()
    home.chmod(0o700)
    with started(home) as (_, address):
        assert data_dir(home) == data_dir_candidates(home)[1]
        assert query(address, "select 1") == 1
    assert stat.S_IMODE(home.stat().st_mode) == 0o700  # no folder was opened for it
    purge(home)
    assert not data_dir_candidates(home)[1].parent.exists()
    assert list(home.iterdir()) == []


def test_root_copies_unreachable_binaries_once(home, tmp_path):
    needs_root()
    copy_wheel(tmp_path)
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(path.stat().st_mode & 0o700)  # as under umask 077
    copies = []
    for _ in range(2):
        with running(home, wheel=tmp_path) as owner:
            assert query(owner.answer(), "select 1") == 1
            program = Path(f"/proc/{postmaster(home)}/exe").readlink()
            assert program.is_relative_to(STATE_DIR)
            copies.append(program.stat().st_ino)
    assert copies[0] == copies[1]
    assert data_dir(home) == home / "postgres"


def test_moved_home_does_not_silently_start_empty(home):
    needs_root()
    home.chmod(0o700)
    with started(home):
        pass
    other = private_home()
    shutil.copy(record_path(home), record_path(other))
    try:
        with pytest.raises(EnvironmentFault, match=r"was moved or copied.*Move the folder back"):
            EmbeddedPostgres(home=other).start()
    finally:
        purge(other)
        other.rmdir()


# -- faults -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["1m", "20m"])
def test_full_disk_is_named_and_leaves_nothing_half_made(home, size):
    needs_root()
    with small_disk(home, size=size):
        with pytest.raises(EnvironmentFault, match=r"No space left on device|Check free disk space"):
            EmbeddedPostgres(home=home).start()
        assert {path.name for path in home.iterdir()} <= {"postgres.lock", "logs"}
        assert attach(home) is None
        subprocess.run(["mount", "-o", "remount,size=200m", home], check=True)
        with started(home) as (_, address):
            assert query(address, "select 1") == 1


def test_full_disk_for_the_copy_of_the_binaries_leaves_nothing(home, tmp_path):
    needs_root()
    if STATE_DIR.exists():
        pytest.skip(f"NOT RUN: {STATE_DIR} is in use on this machine")
    copy_wheel(tmp_path)
    tmp_path.chmod(0o700)
    STATE_DIR.mkdir()
    try:
        with small_disk(STATE_DIR, size="4m"), running(home, wheel=tmp_path) as owner:
            (STATE_DIR / "another-home").mkdir()
            assert "No space left on device" in owner.answer()["message"]
            assert [path.name for path in STATE_DIR.iterdir()] == ["another-home"]
    finally:
        STATE_DIR.rmdir()


def test_data_of_another_version_is_refused(home):
    with started(home, version="16"):
        pass
    with pytest.raises(EnvironmentFault, match=r"made by PostgreSQL 16, not 18\..*version 16"):
        EmbeddedPostgres(home=home, version="18").start()
    with started(home, version="16") as (_, address):
        assert query(address, "select 1") == 1


def test_lost_passwords_are_named(home):
    with started(home):
        pass
    record_path(home).unlink()
    with pytest.raises(EnvironmentFault, match=r"postgres\.json with its passwords is gone.*backup"):
        EmbeddedPostgres(home=home).start()


def test_server_that_cannot_start_says_why(home):
    with started(home):
        pass
    (data_dir(home) / "global" / "pg_control").unlink()
    with pytest.raises(EnvironmentFault, match=r"ended with exit code.*pg_control.*Read .*postgres\.log"):
        EmbeddedPostgres(home=home).start()
    assert server_pids(home) == {}


def test_purge_refuses_a_living_server(home):
    with started(home) as (server, _):
        with pytest.raises(EnvironmentFault, match="in use"):
            purge(home)
        assert server.is_alive()


def test_purge_removes_the_database_and_nothing_else(home):
    (home / "logs").mkdir()
    (home / "logs" / "host.log").write_text("kept")
    with started(home):
        pass
    purge(home)
    assert [path.relative_to(home).as_posix() for path in home.rglob("*")] == ["logs", "logs/host.log"]


def test_purge_of_nothing_is_harmless(tmp_path):
    purge(tmp_path / "never-made")
    (tmp_path / "file").touch()
    purge(tmp_path / "file")
