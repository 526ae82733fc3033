"""Keeps the stored agent types of everybody in step with the files of the package and of ORCHESTRATOR_HOME.

Executors and front ends read what is stored, on whatever machine they are; the files are only here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import structlog

from orchestrator.errors import DatabaseUnavailable
from orchestrator.plan.files import AGENTS_FOLDER
from orchestrator.routing.agent_catalogue import load_catalogue
from orchestrator.settings import Settings
from orchestrator.store.agent_types import keep_agent_types

log = structlog.get_logger(__name__)

#: Time between two looks at the files.
_LOOK_S = 1.0

#: Name, time of the last change and size of each file.
_Look: TypeAlias = Sequence[tuple[str, int, int]]


class AgentFiles:
    """The agent type files of one home.

    Args:
        url: libpq URL of the service role.
    """

    def __init__(self, settings: Settings, *, url: str) -> None:
        self._settings = settings
        self._url = url
        self._stored: _Look | None = None

    def store(self) -> None:
        """Store what the files say now, if they have changed; what is wrong with them is logged.

        Raises:
            DatabaseUnavailable: nothing was stored.
        """
        seen = _look(self._settings.home / AGENTS_FOLDER)
        if seen == self._stored:
            return
        catalogue = load_catalogue(self._settings)
        keep_agent_types(self._url, catalogue.all)
        self._stored = seen
        for found in catalogue.findings:
            reason = f"{found.message} {found.remedy}"
            log.warning("agent type file", file=found.source, line=found.line, reason=reason)

    async def keep(self) -> None:
        """Store what the files say whenever they change; never returns."""
        while True:
            await asyncio.sleep(_LOOK_S)
            with contextlib.suppress(DatabaseUnavailable):  # the next look stores it
                await asyncio.to_thread(self.store)


def _look(folder: Path) -> _Look:
    seen = []
    with contextlib.suppress(OSError):  # no folder, or a file that went away between two calls
        for file in sorted(folder.iterdir()):
            status = file.stat()
            seen.append((file.name, status.st_mtime_ns, status.st_size))
    return seen
