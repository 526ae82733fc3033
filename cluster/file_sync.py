"""Keeps alive the process that keeps plan files in step, as long as there are any to keep.

It speaks HTTP like any other client, so it is a process of its own: whatever it does to files, or files to
it, touches nobody else.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import structlog

from orchestrator.errors import EnvironmentFault
from orchestrator.sync.registry import SYNC_LOG, read_plans

log = structlog.get_logger(__name__)

_LOOK_PERIOD_S = 1.0

#: What it gets to finish the file that it is writing.
_STOP_TIMEOUT_S = 5.0


class FileSync:
    """Looks after the sync of one home."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._plans: Mapping[str, Path] = {}
        self._process: subprocess.Popen[bytes] | None = None

    async def run(self) -> None:
        """Look every second whether it lives and keeps what it should; end it when cancelled."""
        try:
            while True:
                await self._look()
                await asyncio.sleep(_LOOK_PERIOD_S)
        finally:
            await self._end()

    async def _look(self) -> None:
        try:
            plans = read_plans(self._home)
        except EnvironmentFault as error:  # it goes on with what it has
            log.error("what is to be kept in step cannot be read", reason=str(error))
            return
        if self._process is not None and self._process.poll() is not None:
            log.warning("sync had ended; it is started again", exit_code=self._process.returncode)
            self._process = None
        if plans != self._plans:
            await self._end()
            self._plans = plans
        if plans and self._process is None:
            self._start()

    def _start(self) -> None:
        with (self._home / SYNC_LOG).open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "orchestrator.sync", str(self._home)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, _STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:  # a call of its own takes longer; files are replaced in one step
            process.kill()
            process.wait()
