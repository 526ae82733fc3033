"""The sandbox of sessions: what of this machine bubblewrap, bwrap(1), lets their programs see.

The workspace is there to be written, the system and what the workspace borrows to be read. All else is not
there: neither homes nor the orchestrator's own folder, no process but the session's own. Rule: a mount covers
what stands above it, so a folder that is hidden inside of one that is shown stays hidden.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

from orchestrator.errors import EnvironmentFault
from orchestrator.ports import Owner, Workspace

SandboxChoice = Literal["auto", "off", "required"]

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/opt", "/nix")

#: Root owns them, so it would need no capability to read them.
_PASSWORDS = ("/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-")

#: For everybody to write, empty at the start and gone with the program.
_SCRATCH = ("/tmp", "/var/tmp")  # noqa: S108 - inside of the sandbox

#: What lies beside the folder of programs in an installation, such as that of a version of Python in a home.
_INSTALLED = ("bin", "sbin", "shims", "lib", "lib64", "libexec", "versions", "version", "plugins")

#: Where the programs lie that put others in; PATH may hold folders that a session can write.
TRUSTED_PATH = "/usr/local/bin:/usr/bin:/bin"

#: What root needs to enter the folder of another user and to become that user, which ends all of them.
_TO_BECOME_ANOTHER = ("CAP_DAC_READ_SEARCH", "CAP_SETUID", "CAP_SETGID")

_SOMEBODY = Owner(uid=65_534, gid=65_534)
_OUR_PYTHON = (sys.prefix, sys.base_prefix)
_PROBE_MAX_S = 20.0
_REMEDY = "Install the package `bubblewrap`, or set `sessions.sandbox` to auto or off."


class Sandbox:
    """Puts programs into a sandbox, where this machine can make one.

    Args:
        choice: `required` starts nothing without one, `auto` does.
        hidden: folders whose content no program of a session may see.
        readable, writable: folders of this machine to show besides those of the workspace.
        has_network: False leaves programs without any network, the loopback address included.
    """

    def __init__(
        self,
        choice: SandboxChoice = "auto",
        *,
        hidden: Iterable[Path] = (),
        readable: Iterable[Path] = (),
        writable: Iterable[Path] = (),
        has_network: bool = True,
    ) -> None:
        self._choice = choice
        self._hidden = tuple(hidden)
        self._readable = tuple(readable)
        self._writable = tuple(writable)
        self._has_network = has_network
        self._lack: str | None = None
        self._looking = threading.Lock()

    def is_to_be_used(self) -> bool:
        """Tell whether programs are to be put into it. Blocks; the first call tries it out.

        Raises:
            EnvironmentFault: it is required, and cannot be made; or as `lack`.
        """
        if self._choice == "off":
            return False
        if (lack := self.lack()) and self._choice == "required":
            raise EnvironmentFault(
                f"There is no sandbox, and the settings require one: {lack}.", remedy=_REMEDY
            )
        return not lack

    def lack(self) -> str:
        """Say why this machine cannot make one, found out once by making one; empty if it can.

        Raises:
            EnvironmentFault: the machine is too busy to find out.
        """
        with self._looking:
            if self._lack is None:
                self._lack = self._find_lack()
            return self._lack

    def _find_lack(self) -> str:
        if shutil.which("bwrap", path=TRUSTED_PATH) is None:
            return f"the program bwrap is not in {TRUSTED_PATH}"
        with tempfile.TemporaryDirectory(prefix="sandbox-") as folder:
            probe = Workspace(path=Path(folder), env={}, owner=_SOMEBODY if os.geteuid() == 0 else None)
            try:
                tried = subprocess.run(
                    self.command(["/bin/sh", "-c", "test -e /proc/self"], probe),
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=_PROBE_MAX_S,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:  # of a machine so busy nobody knows what it can
                raise EnvironmentFault(
                    f"The sandbox does not start within {_PROBE_MAX_S:g} s.", remedy="Try again."
                ) from error
            except OSError as error:
                return str(error)
        said = tried.stderr.strip().splitlines()
        return (said[-1] if said else f"exit code {tried.returncode}") if tried.returncode else ""

    def command(self, argv: Sequence[str], workspace: Workspace, needs_network: bool = False) -> list[str]:
        """Return what runs `argv` inside. As root, its programs keep none of root's capabilities."""
        options = ["--die-with-parent", "--unshare-pid", "--unshare-ipc"]
        if not (self._has_network or needs_network):
            options.append("--unshare-net")
        user: list[str] = []
        if os.geteuid() == 0:
            options += ["--cap-drop", "ALL"]
            if owner := workspace.owner:
                options += [word for name in _TO_BECOME_ANOTHER for word in ("--cap-add", name)]
                ids = [f"--reuid={owner.uid}", f"--regid={owner.gid}", "--clear-groups", "--inh-caps=-all"]
                user = [_trusted("setpriv"), *ids]
        mounts = [word for mount in self._mounts(workspace, argv[0]) for word in mount]
        return [_trusted("bwrap"), *options, *mounts, "--chdir", str(workspace.path), "--", *user, *argv]

    def _mounts(self, workspace: Workspace, program: str) -> Iterable[list[str]]:
        """Say what stands where, what is inside of another after it."""
        shown: dict[str, list[str]] = {}

        def show(how: str, folders: Iterable[Path | str]) -> None:
            shown.update({str(folder): [how, str(folder), str(folder)] for folder in folders})

        writable = [*self._writable, workspace.path, *workspace.writable]
        installed = _installed(program, workspace.env.get("PATH", ""))
        show("--ro-bind-try", _SYSTEM)
        show("--ro-bind-try", [path for path in installed if not any(map(path.is_relative_to, writable))])
        show("--ro-bind-try", _OUR_PYTHON)  # in a workdir too: no session changes what executors run
        show("--ro-bind-try", [os.path.realpath("/etc/resolv.conf"), *self._readable, *workspace.readable])
        shown |= {folder: ["--perms", "1777", "--tmpfs", folder] for folder in _SCRATCH}
        shown |= {"/proc": ["--proc", "/proc"], "/dev": ["--dev", "/dev"]}
        show("--bind", writable)
        if os.geteuid() == 0:  # over what is not there nothing can be mounted
            files = filter(os.path.exists, _PASSWORDS)
            shown |= {file: ["--ro-bind-try", "/dev/null", file] for file in files}
        shown |= {str(folder): ["--perms", "0755", "--tmpfs", str(folder)] for folder in self._hidden}
        made: set[str] = set()
        for place in sorted(shown):
            for parent in reversed(Path(place).parents[:-1]):
                if str(parent) not in made:
                    made.add(str(parent))
                    if str(parent) not in shown:
                        yield ["--perms", "0755", "--dir", str(parent)]  # else others could not enter
            made.add(place)
            yield shown[place]


def _trusted(program: str) -> str:
    return shutil.which(program, path=TRUSTED_PATH) or program


@lru_cache
def _installed(program: str, search_path: str) -> tuple[Path, ...]:
    """Return where a program and those of PATH lie, outside of the system."""
    folders = [Path(entry) for entry in search_path.split(":") if entry.startswith("/")]
    beside = [folder.parent / name for folder in folders for name in _INSTALLED]
    own = [Path(program).parent, Path(program).resolve().parent] if program.startswith("/") else []
    return tuple(
        path
        for path in (*folders, *beside, *own)
        if path.exists() and not any(path.is_relative_to(system) for system in _SYSTEM)
    )
