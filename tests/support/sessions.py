"""Builders for sessions: an assignment with sensible values, a transcript that remembers."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.core.words import AttemptKind
from orchestrator.ports import Assignment, SessionLimits, Workspace
from orchestrator.sessions.pricing import Price

BASE = Assignment(
    token=41,
    number=1,
    kind=AttemptKind.WORK,
    tenant_id="local",
    plan_id=1,
    plan_name="plan.md",
    task_id=1,
    key="A.1",
    title="Greet",
    body="",
    acceptance=(),
    agent_type="backend-development",
    backend="command",
    model="",
    run=(),
    verify=(),
    workdir="",
    feedback="",
    limits=SessionLimits(total_timeout_s=30, idle_timeout_s=30, grace_s=0.5),
)

MODEL = "claude-sonnet-5-5"
PRICES = {
    MODEL: Price(input=2_000_000, output=10_000_000, cache_read=100_000, cache_write=2_500_000),
    "claude-fable-5": Price(
        input=10_000_000, output=50_000_000, cache_read=1_000_000, cache_write=12_500_000
    ),
    "claude-fable-5-1": Price(
        input=10_000_000, output=50_000_000, cache_read=250_000, cache_write=12_500_000
    ),
}


def assignment(*, limits: dict[str, Any] | None = None, **values: Any) -> Assignment:
    """Return an assignment with these values; `limits` changes single limits."""
    return replace(BASE, limits=replace(BASE.limits, **(limits or {})), **values)


def workspace(path: Path) -> Workspace:
    """Return a workspace in this folder."""
    return Workspace(path=path, env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"})


class Recorder:
    """A transcript in memory."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str]] = []
        self._written = asyncio.Event()

    def write(self, stream: str, text: str) -> None:
        """Remember."""
        self.entries.append((stream, text))
        self._written.set()

    def text(self, *streams: str) -> str:
        """Return what was written to these streams, or to all."""
        return "".join(text for stream, text in self.entries if not streams or stream in streams)

    async def saw(self, words: str) -> None:
        """Wait until an entry holds these words."""
        async with asyncio.timeout(60):
            while not any(words in text for stream, text in self.entries if stream != "tool"):
                self._written.clear()
                await self._written.wait()
