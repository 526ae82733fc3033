"""Scripts of git commands, under the launcher, with no settings that a stranger could have left.

Rule: what a session could have written, its clone and the settings in it, is only touched as the session:
same user, same sandbox. What we do ourselves we do in folders that no session can write. Hooks never run.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from orchestrator.errors import EnvironmentFault
from orchestrator.ports import Launcher, Workspace

#: Longest time of one script; a repository that does not answer holds up whoever waits for its mirror.
GIT_MAX_S = 600.0

_ERROR_CHARS = 600

#: They win over every file of settings, wherever it lies.
_SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.quotePath": "false",
    "commit.gpgSign": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "safe.directory": "*",
    "advice.detachedHead": "false",
    "fetch.fsckObjects": "true",
}

#: Faults of objects that old repositories are full of, and that harm nobody.
_TOLERATED = ("zeroPaddedFilemode", "missingSpaceBeforeDate", "badTimezone", "missingSpaceBeforeEmail")

_NAME, _MAIL = "Task Orchestrator", "orchestrator@localhost"

#: Git asks nobody, and commits in our name.
_ENV = {
    "LC_ALL": "C.UTF-8",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_EDITOR": "true",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_AUTHOR_NAME": _NAME,
    "GIT_AUTHOR_EMAIL": _MAIL,
    "GIT_COMMITTER_NAME": _NAME,
    "GIT_COMMITTER_EMAIL": _MAIL,
}


async def run(
    launcher: Launcher,
    argv: Sequence[str],
    *,
    workspace: Workspace,
    token: int,
    needs_network: bool = False,
    timeout_s: float = GIT_MAX_S,
    tell: Callable[[str, str], None] | None = None,
) -> tuple[int, str, str]:
    """Run a program to its end and return its exit code and the whole of its stdout and stderr.

    Args:
        token: of the attempt that it is run for; it ends with the other programs of that attempt.
        tell: gets each piece of output with its stream, instead of the answer.

    Raises:
        EnvironmentFault: it could not be started, or took longer than `timeout_s`.
    """
    process = await launcher.start(argv, workspace=workspace, token=token, needs_network=needs_network)
    said: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    try:
        async with asyncio.timeout(timeout_s):
            async for stream, chunk in process.output():
                if tell is None:
                    said[stream].append(chunk)
                else:
                    tell(stream, chunk.decode(errors="replace"))
            code = await process.wait()
    except TimeoutError as late:
        raise EnvironmentFault(
            f"{argv[0]} in {workspace.path} took longer than {timeout_s:g} s.",
            remedy="Look whether the repository answers, and whether the disk does.",
        ) from late
    finally:
        await asyncio.shield(process.kill(grace_s=0.0))
    stdout, stderr = (b"".join(said[stream]).decode(errors="replace") for stream in ("stdout", "stderr"))
    return code, stdout, stderr


async def git(
    launcher: Launcher,
    script: str,
    *values: str,
    workspace: Workspace,
    token: int,
    needs_network: bool = False,
) -> str:
    """Run a shell script that stops at its first failure; `values` are its `$1`, `$2`. Return its stdout.

    Raises:
        EnvironmentFault: a command of it failed; the message ends with what it said.
    """
    code, stdout, stderr = await run(
        launcher,
        ["/bin/sh", "-euc", script, "git", *values],
        workspace=workspace,
        token=token,
        needs_network=needs_network,
    )
    if code:
        reason = " ".join((stderr or stdout).split())[-_ERROR_CHARS:] or f"exit code {code}"
        raise EnvironmentFault(f"git failed in {workspace.path}: {reason}.")
    return stdout


def own_place(folder: Path, *, is_remote: bool = False) -> Workspace:
    """Return where, and with which environment, we ourselves run git.

    Args:
        is_remote: a repository is asked over a network, so the settings and keys of our user count.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    if not is_remote:
        kept = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
        kept["GIT_CONFIG_GLOBAL"] = os.devnull
    return Workspace(path=folder, env={**kept, **settled()})


def settled(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment in which git asks nobody, runs no hooks, and commits in our name."""
    settings = _SETTINGS | {f"fetch.fsck.{name}": "ignore" for name in _TOLERATED}
    numbered: dict[str, str] = {}
    for number, (name, value) in enumerate(settings.items()):
        numbered |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return {**(env or {}), **_ENV, "GIT_CONFIG_COUNT": str(len(settings)), **numbered}
