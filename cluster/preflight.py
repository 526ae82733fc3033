"""Checks before it hurts: whatever would keep the stack from starting or expose it, each with a remedy.

A check looks and changes nothing. One that cannot look says so as a failure and does not stop the others.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from ipaddress import ip_address
from pathlib import Path

from packaging.requirements import Requirement

from actors.containment import sandbox_of
from actors.joining import RAY_TOKEN_FILE
from cluster.sockets import ListeningSocket, listening_sockets, process_tree
from orchestrator import __version__
from orchestrator.errors import OrchestratorError
from orchestrator.installed import claude_code_program
from orchestrator.settings import ANTHROPIC, Settings
from orchestrator.stack import TOKEN_FILE, read_stack
from orchestrator.store import migrate, roles
from orchestrator.store.address import record_path
from orchestrator.store.crypto import KEYS_FILE, known_keys
from orchestrator.store.embedded import attach
from orchestrator.store.embedded_layout import wheel_binaries
from orchestrator.store.rotation import key_ids_in_use
from orchestrator.store.urls import DatabaseUrls, settings_urls

DISTRIBUTION = "coditect-orchestrator"
PYTHON_MIN, PYTHON_BELOW = (3, 11), (3, 14)
DISK_BYTES_MIN, DISK_BYTES_WANTED = 500_000_000, 2_000_000_000
_OTHERS = 0o077  # permission bits of group and others


class CheckState(StrEnum):
    """How a check ended. Only `fail` keeps the stack from starting."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was found. `why` says what it means, `remedy` what to do; both empty where all is well."""

    name: str
    state: CheckState
    what: str
    why: str = ""
    remedy: str = ""


def run_checks(settings: Settings) -> tuple[Check, ...]:
    """Run every check on this machine with these settings, in the order in which a start needs them."""
    return tuple(check for name, find in CHECKS.items() for check in _guarded(name, find, settings))


def _guarded(name: str, find: Callable[[Settings], Iterator[Check]], settings: Settings) -> Iterator[Check]:
    try:
        yield from find(settings)
    except OrchestratorError as error:
        yield fault(name, error)
    except OSError as error:
        yield Check(name=name, state=CheckState.FAIL, what=f"The check could not look: {error}.")


def fault(name: str, error: OrchestratorError) -> Check:
    """Return an error as a failed check."""
    return Check(name=name, state=CheckState.FAIL, what=error.message, remedy=error.remedy)


def _ok(name: str, what: str) -> Check:
    return Check(name=name, state=CheckState.OK, what=what)


def check_python(_: Settings) -> Iterator[Check]:
    """Is this Python one that every dependency supports?"""
    version = ".".join(str(part) for part in sys.version_info[:3])
    if PYTHON_MIN <= sys.version_info[:2] < PYTHON_BELOW:
        yield _ok("python", f"Python {version}")
        return
    yield Check(
        name="python",
        state=CheckState.FAIL,
        what=f"Python {version}",
        why="Ray has no build for it.",
        remedy="Use Python 3.11, 3.12 or 3.13.",
    )


def check_packages(_: Settings) -> Iterator[Check]:
    """Are the packages there, in versions that fit?"""
    try:
        wanted = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        wanted = [DISTRIBUTION]
    wrong = [problem for text in wanted if (problem := _misfit(text))]
    if not wrong:
        yield _ok("packages", f"{DISTRIBUTION} {__version__}, Ray {metadata.version('ray')}")
        return
    yield Check(
        name="packages",
        state=CheckState.FAIL,
        what=", ".join(wrong),
        why="Other versions differ in behaviour that is relied on.",
        remedy="Install again, from requirements.lock or with `pip install --upgrade coditect-orchestrator`.",
    )


def _misfit(text: str) -> str:
    """Return how an installed package differs from a requirement; empty if it does not."""
    wanted = Requirement(text)
    if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
        return ""
    try:
        found = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return f"{wanted.name} is not installed"
    is_fit = wanted.specifier.contains(found, prereleases=True)
    return "" if is_fit else f"{wanted.name} {found} is not {wanted.specifier}"


def check_home(settings: Settings) -> Iterator[Check]:
    """Can the home be written, and does the disk have room?"""
    place = next(folder for folder in (settings.home, *settings.home.parents) if folder.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        yield Check(
            name="home",
            state=CheckState.FAIL,
            what=f"{settings.home} cannot be written.",
            why=f"{place} is not a folder that this user may write into.",
            remedy="Set ORCHESTRATOR_HOME to a folder of your own.",
        )
        return
    free = shutil.disk_usage(place).free
    room = f"{settings.home}, {free / 1e9:.1f} GB free"
    if free >= DISK_BYTES_WANTED:
        yield _ok("home", room)
        return
    yield Check(
        name="home",
        state=CheckState.WARN if free >= DISK_BYTES_MIN else CheckState.FAIL,
        what=room,
        why="The database and Ray stop when the disk is full.",
        remedy=f"Free {DISK_BYTES_WANTED / 1e9:.0f} GB, or set ORCHESTRATOR_HOME to another disk.",
    )


def check_secrets(settings: Settings) -> Iterator[Check]:
    """Are the files that hold secrets readable by their owner alone?"""
    files = [settings.home / name for name in (TOKEN_FILE, RAY_TOKEN_FILE, KEYS_FILE)]
    files.append(record_path(settings.home))
    if settings.file is not None:
        files.append(settings.file)
    for path in (path for path in files if path.exists()):
        if path.stat().st_mode & _OTHERS:
            yield Check(
                name="secrets",
                state=CheckState.WARN,
                what=f"Other users may read {path}.",
                why="It can hold keys and passwords.",
                remedy=f"Run `chmod 600 {path}`.",
            )


def check_stack(settings: Settings) -> Iterator[Check]:
    """What runs in this home?"""
    stack = read_stack(settings.home)
    if stack is None:
        yield _ok("stack", "nothing runs in this home")
    elif stack.version == __version__:
        yield _ok("stack", f"{stack.mode}, {stack.state}, Host {stack.pid} {stack.url}".rstrip())
    else:
        yield Check(
            name="stack",
            state=CheckState.WARN,
            what=f"Version {stack.version} runs, {__version__} is installed.",
            why="The running one goes on as it was.",
            remedy="Run `orchestrator down` and `orchestrator up`.",
        )


def check_ports(settings: Settings) -> Iterator[Check]:
    """Are the ports free, or held by our own stack?"""
    stack = read_stack(settings.home)
    ours = (stack.url, stack.dashboard_url) if stack else ("", "")
    yield _port("http", settings.http.host, settings.http.port, ours_at=ours[0])
    if not settings.ray.address:
        yield _port("dashboard", "127.0.0.1", settings.ray.dashboard_port, ours_at=ours[1])
    if not _is_loopback(settings.http.host):
        yield Check(
            name="http",
            state=CheckState.WARN,
            what=f"The HTTP endpoint listens on {settings.http.host}.",
            why="Other machines reach it; only the bearer token protects it, and nothing encrypts it.",
            remedy="Set `http.host` to 127.0.0.1, or put a proxy with TLS in front of it.",
        )


def _port(name: str, host: str, port: int, *, ours_at: str) -> Check:
    if ours_at.rstrip("/").endswith(f":{port}"):
        return _ok(name, f"port {port} is held by our own stack")
    reason = "" if port == 0 else _bind_fault(host, port)
    if not reason:
        return _ok(name, f"port {port} of {host} is free")
    return Check(
        name=name,
        state=CheckState.FAIL,
        what=f"Port {port} of {host} cannot be used: {reason}.",
        why="`orchestrator up` would not start; `orchestrator run` needs no port of its own.",
        remedy=f"End what listens there, or set `{'http.port' if name == 'http' else 'ray.dashboard_port'}`.",
    )


def _bind_fault(host: str, port: int) -> str:
    """Return why nothing can listen there; empty if something can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return (error.strerror or str(error)).lower()
    return ""


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_database(settings: Settings) -> Iterator[Check]:
    """Is the database there and fit?"""
    found = (
        _embedded(settings) if settings.database.is_embedded else _external(settings_urls(settings.database))
    )
    yield from found


def _embedded(settings: Settings) -> Iterator[Check]:
    version = settings.database.embedded_version
    if sys.platform != "linux":
        yield Check(
            name="database",
            state=CheckState.FAIL,
            what="The embedded PostgreSQL runs on Linux only.",
            remedy="Set DATABASE_URL to a PostgreSQL 15 or newer with pgvector 0.8 or newer.",
        )
        return
    wheel_binaries(version)
    address = attach(settings.home)
    if address is None:
        yield _ok("database", f"embedded PostgreSQL {version}, not running; it starts with the stack")
    else:
        yield from _faults(address.urls(), what=f"embedded PostgreSQL {version} on port {address.port}")
    if settings.ray.address:
        yield Check(
            name="database",
            state=CheckState.WARN,
            what="A Ray cluster is joined, and the database is the embedded one.",
            why="It serves this machine only; a cluster of more than one node is refused.",
            remedy="Set DATABASE_URL to a PostgreSQL that every node reaches.",
        )


def _external(urls: DatabaseUrls) -> Iterator[Check]:
    place = f"PostgreSQL at {roles.place_of(urls.owner)}"
    if urls.admin and not _has_roles(urls):
        yield Check(
            name="database",
            state=CheckState.WARN,
            what=f"{place} is not prepared yet.",
            why="The roles of the orchestrator do not exist.",
            remedy="Run `orchestrator up`, which makes them; the user of DATABASE_URL needs CREATEROLE.",
        )
        return
    yield from _faults(urls, what=place)


def _has_roles(urls: DatabaseUrls) -> bool:
    with roles.connect(urls.admin) as admin:
        roles.require_server_version(admin)
        known = admin.execute("SELECT FROM pg_roles WHERE rolname = %s", (roles.user_of(urls.owner),))
        return known.fetchone() is not None


def check_encryption(settings: Settings) -> Iterator[Check]:
    """Are the keys there under which the transcripts are encrypted?"""
    keys = known_keys(settings)
    if keys.newest_id is None:
        yield _ok("encryption", "no key yet; the first start makes one")
    else:
        yield _ok("encryption", f"transcripts are encrypted under the key {keys.newest_id}")
    lost = sorted(_key_ids_in_use(settings) - {*keys.ids})
    if lost:
        yield Check(
            name="encryption",
            state=CheckState.WARN,
            what=f"Transcripts are encrypted under keys that are lost: {', '.join(lost)}.",
            why="Nobody can read them.",
            remedy=f"Bring back a copy of {settings.home / KEYS_FILE}, or add the keys to `encryption.keys`.",
        )


def _key_ids_in_use(settings: Settings) -> set[str]:
    """Return the ids of the keys in the database; none if it does not run or is not prepared."""
    if settings.database.is_embedded:
        address = attach(settings.home)
        urls = address.urls() if address else None
    else:
        urls = settings_urls(settings.database)
    if urls is None or migrate.check(urls):
        return set()
    with roles.connect(urls.service) as connection:
        return {*key_ids_in_use(connection)}


def _faults(urls: DatabaseUrls, *, what: str) -> Iterator[Check]:
    found = migrate.check(urls)
    yield from (fault("database", error) for error in found)
    if not found:
        yield _ok("database", what)


def check_credentials(settings: Settings) -> Iterator[Check]:
    """Can sessions with a model run?"""
    for provider in settings.credentials:
        asked = settings.anthropic if provider == ANTHROPIC else settings.openai
        where = asked.base_url or "the vendor's own address"
        yield _ok(
            "credentials",
            f"sessions by `{provider}` with {asked.model} at {where}, by prices of {asked.prices_as_of}",
        )
    if not settings.credentials:
        yield Check(
            name="credentials",
            state=CheckState.WARN,
            what="There is no key for a model.",
            why="Tasks without `run:` lines are held with the reason `no credentials`.",
            remedy="Set ANTHROPIC_API_KEY or OPENAI_API_KEY, or `api_key` of [anthropic] or [openai].",
        )


def check_claude_code(settings: Settings) -> Iterator[Check]:
    """Is the program there that the backend `claude-code` runs?"""
    program = claude_code_program()
    if program is not None:
        yield _ok("claude code", f"{program}")
    elif settings.sessions.backend != "claude-code":
        yield _ok("claude code", "not installed, and the settings do not ask for it")
    else:
        yield Check(
            name="claude code",
            state=CheckState.WARN,
            what="The backend is claude-code, and Claude Code is not installed.",
            why="Tasks are held with the reason `not installed`.",
            remedy="Install it with the orchestrator: pip install 'coditect-orchestrator[claude-code]'.",
        )


def check_sandbox(settings: Settings) -> Iterator[Check]:
    """What keeps the programs of sessions from reaching more than their workspace?"""
    choice = settings.sessions.sandbox
    lack = "the settings turn it off" if choice == "off" else sandbox_of(settings).lack()
    if not lack:
        yield _ok("sandbox", "programs of sessions see their workspace and the system, by bubblewrap")
        return
    if choice == "required":
        yield Check(
            name="sandbox",
            state=CheckState.FAIL,
            what=f"No program of a session would start: {lack}.",
            why="The settings require a sandbox for each.",
            remedy="Install the package `bubblewrap`, or set `sessions.sandbox` to auto.",
        )
        return
    yield Check(
        name="sandbox",
        state=CheckState.WARN,
        what=f"Programs of sessions run without a sandbox: {lack}.",
        why="They may read what the user may read as whom they run, tokens and keys of the home included.",
        remedy="Install the package `bubblewrap` and set `sessions.sandbox` to auto or required.",
    )


def check_shared_memory(settings: Settings) -> Iterator[Check]:
    """Does Ray's object store fit into shared memory?"""
    place = Path("/dev/shm")  # noqa: S108  where Ray puts its object store
    wanted = settings.ray.object_store_mb
    if settings.ray.address or not place.is_dir():
        return
    free = shutil.disk_usage(place).free // 2**20
    if free >= wanted:
        yield _ok("shared memory", f"{free} MB free, {wanted} wanted")
        return
    yield Check(
        name="shared memory",
        state=CheckState.WARN,
        what=f"{free} MB of {place} are free, {wanted} wanted.",
        why="Ray falls back to the disk, which is slow.",
        remedy="Lower `ray.object_store_mb`, or give the container more (`--shm-size`).",
    )


def check_sockets(settings: Settings) -> Iterator[Check]:
    """What of ours do other machines reach, and what protects it?"""
    stack = read_stack(settings.home)
    if stack is None or sys.platform != "linux":
        return
    exposed = [found for found in listening_sockets(process_tree(stack.pid)) if not found.is_loopback]
    if not exposed:
        yield _ok("sockets", "every socket of ours listens on this machine only")
        return
    for port, process, protection in sorted({_exposed(found, settings) for found in exposed}):
        yield Check(
            name="sockets",
            state=CheckState.WARN,
            what=f"{process} listens on port {port} of every interface.",
            why=f"Protected by {protection}.",
            remedy="Close it to other machines with a firewall, unless they are nodes of this cluster.",
        )


def _exposed(found: ListeningSocket, settings: Settings) -> tuple[int, str, str]:
    if found.port == settings.http.port:
        return found.port, found.process, "the bearer token of the API"
    if found.process == "postgres":
        return found.port, found.process, "the passwords of its roles (SCRAM)"
    return found.port, found.process, "the token authentication of Ray"


CHECKS: dict[str, Callable[[Settings], Iterator[Check]]] = {
    "python": check_python,
    "packages": check_packages,
    "home": check_home,
    "secrets": check_secrets,
    "stack": check_stack,
    "ports": check_ports,
    "database": check_database,
    "encryption": check_encryption,
    "credentials": check_credentials,
    "claude code": check_claude_code,
    "sandbox": check_sandbox,
    "shared memory": check_shared_memory,
    "sockets": check_sockets,
}
