"""Where the embedded PostgreSQL listens and with which passwords: the shapes and their one file.

`postgres.json` in ORCHESTRATOR_HOME is readable by its owner only. It outlives the server, because it
holds the passwords of the roles and the port used last; `owner_pid` says whether somebody serves now.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import quote

from orchestrator.errors import EnvironmentFault
from orchestrator.store.urls import API, OWNER, SERVICE, DatabaseUrls

HOST = "127.0.0.1"
DATABASE = "orchestrator"
BOOTSTRAP = "postgres"  #: superuser made by initdb; makes roles and database, then is not used again
ROLES = (BOOTSTRAP, OWNER, SERVICE, API)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """How to reach the embedded PostgreSQL.

    Attributes:
        database: the database of `url`; tests replace it with one of their own.
        passwords: by role name; never shown in a repr.
        is_owner: True if this process started the server, False if it shares another's.
    """

    host: str = HOST
    port: int
    database: str = DATABASE
    passwords: Mapping[str, str] = field(repr=False)
    is_owner: bool = False

    def url(self, role: str, *, database: str = "") -> str:
        """Return the libpq URL of `role` for `database`, or for the address's own."""
        password = quote(self.passwords[role], safe="")
        return f"postgresql://{role}:{password}@{self.host}:{self.port}/{database or self.database}"

    def urls(self) -> DatabaseUrls:
        """Return the URLs of every role; the administrator's leads to a database that always exists."""
        return DatabaseUrls(
            admin=self.url(BOOTSTRAP, database=BOOTSTRAP),
            owner=self.url(OWNER),
            service=self.url(SERVICE),
            api=self.url(API),
            direct=self.url(SERVICE),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The content of `postgres.json`.

    Attributes:
        version: major version of the server, such as `18`.
        data_dir: absolute path of the data folder, in the home or, for root, under /var/lib.
        port: port used last; 0 before the first start.
        owner_pid: process that holds the server; 0 when it was stopped.
        owner_started: start time of that process in clock ticks since boot, which tells a reused pid.
    """

    version: str
    data_dir: str
    passwords: Mapping[str, str] = field(repr=False)
    port: int = 0
    owner_pid: int = 0
    owner_started: int = 0


def record_path(home: Path) -> Path:
    """Return where the record of `home` lies."""
    return home / "postgres.json"


def read_record(home: Path) -> Record | None:
    """Return the record of `home`, or None if there is none.

    Raises:
        EnvironmentFault: the file belongs to another user or is damaged.
    """
    path = record_path(home)
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EnvironmentFault(
            f"{path} cannot be read: {error.strerror}.",
            remedy="Run as the user who made this ORCHESTRATOR_HOME, or set another ORCHESTRATOR_HOME.",
        ) from error
    except (ValueError, TypeError) as error:
        raise EnvironmentFault(
            f"{path} is damaged: {error}. It holds the passwords of the database.",
            remedy="Restore the file from a backup of ORCHESTRATOR_HOME.",
        ) from error


def write_record(home: Path, record: Record) -> None:
    """Replace the record of `home` atomically, readable by its owner only."""
    handle, name = tempfile.mkstemp(dir=home, prefix=".postgres.json-")  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(record), file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(record_path(home))
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
