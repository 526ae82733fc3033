"""What the Host keeps in ORCHESTRATOR_HOME besides the database: its lock, secrets, identity, Ray's folders.

One Host a home: whoever holds `host.lock` may write and remove everything named here, nobody else may.
Secrets are readable by their owner alone and never changed once made; but see `cluster.encryption`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import uuid
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from actors.joining import RAY_TOKEN_FILE
from orchestrator.errors import EnvironmentFault
from orchestrator.settings import Settings
from orchestrator.stack import TOKEN_FILE, read_stack
from orchestrator.store.crypto import KEYS_FILE, FieldKeys, known_keys, new_key
from orchestrator.store.embedded_layout import public_folder
from orchestrator.store.embedded_os import acquire_lock

LOCK_FILE = "host.lock"
CLUSTER_ID_FILE = "cluster_id"

#: Ray puts Unix sockets below it, whose paths may have 107 bytes (unix(7)); so not TMPDIR.
_SHORT_FOLDER = Path("/tmp")  # noqa: S108 - the folder below it is made 0700 and checked to be ours


class HostHome:
    """The home of one Host; everything is made when asked for.

    Args:
        path: ORCHESTRATOR_HOME.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Make the home and hold its lock.

        Raises:
            EnvironmentFault: the home cannot be written, or another Host is at work in it.
        """
        with self._faults():
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.path / "logs").mkdir(mode=0o700, exist_ok=True)
            lock = acquire_lock(self.path / LOCK_FILE)
        if lock is None:
            raise self._busy()
        try:
            yield
        finally:
            os.close(lock)

    def token(self) -> str:
        """Return the bearer token of the HTTP API."""
        return self._once(TOKEN_FILE, secrets.token_urlsafe(32))

    def ray_token_file(self) -> Path:
        """Return the file with the token that every process of our Ray shows to every other."""
        self._once(RAY_TOKEN_FILE, secrets.token_hex(32))
        return self.path / RAY_TOKEN_FILE

    def access(self) -> tuple[str, ...]:
        """Return the tokens that let into the HTTP API and, where it is ours, into Ray."""
        of_ray = self.path / RAY_TOKEN_FILE
        with self._faults():
            return (self.token(), *((of_ray.read_text(encoding="utf-8").strip(),) if of_ray.exists() else ()))

    def cluster_id(self) -> str:
        """Return the identity of our own Ray over all its starts."""
        return self._once(CLUSTER_ID_FILE, uuid.uuid4().hex)

    def keys(self, settings: Settings) -> FieldKeys:
        """Return the keys of the encryption: those of the settings, else of the home.

        Raises:
            SettingsError: a key is malformed.
        """
        if not settings.encryption.keys.get_secret_value():
            self._once(KEYS_FILE, new_key())
        return known_keys(settings)

    def folder(self, name: str) -> Path:
        """Return a folder of the home."""
        with self._faults():
            (self.path / name).mkdir(mode=0o700, exist_ok=True)
        return self.path / name

    def workspaces(self) -> Path:
        """Return the folder of homes, temporary files and scratch folders; others may enter that of root."""
        with self._faults():
            return public_folder(self.path, "workspaces") if os.geteuid() == 0 else self.folder("workspaces")

    def new_gcs_folder(self) -> Path:
        """Return a fresh folder for the tables of Ray's GCS; those of earlier starts are removed.

        Only a restart of the GCS alone may find its old tables: they speak of processes that must live.
        """
        with self._faults():
            self.remove_gcs_folders()
            folder = self.folder("ray") / f"gcs-{secrets.token_hex(4)}"
            folder.mkdir(mode=0o700)
        return folder

    def remove_gcs_folders(self) -> None:
        """Remove the tables of Ray's GCS."""
        for old in (self.path / "ray").glob("gcs-*"):
            shutil.rmtree(old, ignore_errors=True)

    def new_ray_folder(self) -> Path:
        """Return Ray's empty temporary folder, with a short path that belongs to this home.

        Raises:
            EnvironmentFault: somebody else made a folder of that name.
        """
        folder = self.ray_folder
        with self._faults():
            self.remove_ray_folder()
            folder.mkdir(mode=0o700)
        return folder

    def remove_ray_folder(self) -> None:
        """Remove Ray's temporary folder with the logs in it."""
        folder = self.ray_folder
        if folder.is_symlink() or (folder.exists() and folder.stat().st_uid != os.getuid()):
            raise EnvironmentFault(
                f"{folder} is not ours, though Ray must keep its sockets there.",
                remedy="Have its owner remove it, or set another ORCHESTRATOR_HOME.",
            )
        shutil.rmtree(folder, ignore_errors=True)

    @property
    def ray_folder(self) -> Path:
        """Ray's temporary folder."""
        digest = sha256(f"{os.getuid()} {self.path}".encode()).hexdigest()
        return _SHORT_FOLDER / f"orchestrator-{digest[:8]}"

    def _once(self, name: str, value: str) -> str:
        """Return the content of a file; the first time, that is `value`."""
        path = self.path / name
        with self._faults():
            if not path.exists():
                half = self.path / f".{name}.new"
                half.unlink(missing_ok=True)
                try:
                    half.touch(mode=0o600)
                    half.write_text(value, encoding="utf-8")
                    half.replace(path)
                finally:
                    half.unlink(missing_ok=True)
            return path.read_text(encoding="utf-8").strip()

    def _busy(self) -> EnvironmentFault:
        stack = read_stack(self.path)
        who = f"process {stack.pid}, mode {stack.mode}" if stack else "it is about to start or to end"
        return EnvironmentFault(
            f"Another Host is at work in {self.path} ({who}).",
            remedy="Wait for its end, stop it with `orchestrator down`, or set another ORCHESTRATOR_HOME.",
        )

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EnvironmentFault(
                f"The home {self.path} cannot be used: {error.filename or ''}: {error.strerror or error}.",
                remedy="Free some space, mend the permissions, or set another ORCHESTRATOR_HOME.",
            ) from error
