"""What a Host tells while it starts, works and fails: one JSON object a line.

Everything is appended to `logs/host.progress` of the home, where `orchestrator up` reads the start; in mode
`run` the same lines also go to the command line that waits for them.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import structlog

from orchestrator.errors import OrchestratorError, PlanError
from orchestrator.stack import HOST_PROGRESS

log = structlog.get_logger(__name__)

#: The file starts anew above this size.
_BYTES_MAX = 1_000_000


class Progress:
    """Writes the lines.

    Args:
        listener: the command line that waits for us; None in mode `up`.
    """

    def __init__(self, listener: IO[str] | None) -> None:
        self._listener = listener
        self._file: IO[str] | None = None
        self._started_s = time.monotonic()

    def open(self, home: Path) -> None:
        """Write to the file of this home from now on."""
        path = home / HOST_PROGRESS
        mode = "w" if path.exists() and path.stat().st_size > _BYTES_MAX else "a"
        self._file = path.open(mode, encoding="utf-8")

    def step(self, step: str, text: str) -> None:
        """Tell that a step of the start is over.

        Args:
            step: stable name, such as `postgres`.
        """
        at_s = round(time.monotonic() - self._started_s, 2)
        log.info(text, step=step, at_s=at_s)
        self._write({"kind": "progress", "text": text, "step": step, "at_s": at_s}, is_kept=True)

    def error(self, error: OrchestratorError) -> None:
        """Tell why we end."""
        log.error(str(error), code=type(error).__name__)
        findings = [asdict(finding) for finding in error.findings] if isinstance(error, PlanError) else []
        line = {
            "kind": "error",
            "code": type(error).__name__,
            "message": error.message,
            "remedy": error.remedy,
            "exit_code": error.exit_code,
            "findings": findings,
        }
        self._write(line, is_kept=True)

    def tell(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Tell the listener alone."""
        self._write({"kind": kind, **fields}, is_kept=False)

    def _write(self, line: Mapping[str, Any], *, is_kept: bool) -> None:
        text = json.dumps(line) + "\n"
        for file in (self._file if is_kept else None, self._listener):
            if file is not None:
                with contextlib.suppress(OSError, ValueError):  # a full disk or a listener that is gone
                    file.write(text)
                    file.flush()
