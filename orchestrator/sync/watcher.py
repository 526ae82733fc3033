"""Keeps plans in step until it is told to stop: wakes up for edits of files and for events of the server.

An edit or an event begins a pause, so that a burst of them is one round; nothing waits longer than MOST_S.
What neither tells of is found by a look now and then.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog
import watchfiles

from orchestrator.client import Client
from orchestrator.errors import OrchestratorError
from orchestrator.plan.files import agents_folder
from orchestrator.sync.files import PlanFiles
from orchestrator.sync.keeper import Keeper

log = structlog.get_logger(__name__)

#: A plan is left in peace until nothing has happened to it for so long, but not longer than MOST_S.
DEBOUNCE_S = 2.0
MOST_S = 3.0
#: A plan is looked at at least so often.
LOOK_S = 30.0
#: A server that cannot be followed is asked again after so long.
RETRY_S = 5.0
_TICK_S = 0.2
#: Files that did not change are known to be watched after so long.
_BEGUN_MS = 1_000

#: Events of the server that say that a task stands elsewhere.
_TASK = "task."


@dataclass(slots=True)
class _Due:
    """When a plan was first and last heard of since its last round; 0 = not."""

    first_s: float = 0.0
    last_s: float = 0.0
    looked_s: float = 0.0

    def note(self, now_s: float) -> None:
        self.first_s = self.first_s or now_s
        self.last_s = now_s

    def is_due(self, now_s: float) -> bool:
        if now_s - self.looked_s >= LOOK_S:
            return True
        return bool(self.first_s) and (now_s - self.last_s >= DEBOUNCE_S or now_s - self.first_s >= MOST_S)


class Watcher:
    """Keeps plans in step with their files.

    Args:
        connect: gives a client; each thread has its own.
        plans: the path of each plan, by its id.
        tell: called at the start and after each round with how each plan stands.
    """

    def __init__(
        self,
        *,
        connect: Callable[[], Client],
        plans: Mapping[str, Path],
        tell: Callable[[Mapping[str, Mapping[str, Any]]], None],
    ) -> None:
        self._connect = connect
        self._paths = {ref: path.absolute() for ref, path in plans.items()}
        self._tell = tell
        self._due = {ref: _Due() for ref in plans}
        self._keepers: dict[str, Keeper] = {}
        self._standing = {ref: self._unknown(ref) for ref in plans}
        self._stop = threading.Event()

    def stop(self) -> None:
        """Have `run` end after the round that it is at."""
        self._stop.set()

    def run(self) -> None:
        """Keep the plans in step until stopped."""
        self._tell(self._standing)
        for target in (self._follow_files, self._follow_events):
            threading.Thread(target=target, daemon=True).start()
        with self._connect() as client:
            self._keepers = {ref: Keeper(client, PlanFiles(path), ref) for ref, path in self._paths.items()}
            while not self._stop.is_set():
                for ref, keeper in self._keepers.items():
                    if self._due[ref].is_due(time.monotonic()):
                        self._due[ref] = _Due(looked_s=time.monotonic())
                        self._round(ref, keeper)
                self._stop.wait(_TICK_S)

    def _unknown(self, ref: str) -> dict[str, Any]:
        return {"path": str(self._paths[ref]), "error": ""}

    def _round(self, ref: str, keeper: Keeper) -> None:
        standing = self._unknown(ref)
        try:
            done = keeper.keep()
        except OrchestratorError as error:  # a plan that cannot be kept holds up no other, and may be mended
            standing["error"] = str(error)
            log.warning("sync waits", plan=ref, reason=str(error))
        except Exception as error:
            standing["error"] = f"a defect of sync: {error!r}"
            log.exception("sync failed", plan=ref)
        else:
            standing |= asdict(done)
            if done.written or done.sent or done.revised:
                log.info("in step", plan=ref, **asdict(done))
                self._due[ref].note(time.monotonic())  # what was sent shows a moment later
        self._standing[ref] = standing
        self._tell(self._standing)

    def _follow_files(self) -> None:
        """Note edits; where the system tells of none, they are looked for."""
        is_polling = False
        while not self._stop.is_set():
            try:
                folders = {path if path.is_dir() else path.parent for path in self._paths.values()}
                changes = watchfiles.watch(
                    *folders,
                    stop_event=self._stop,
                    force_polling=is_polling,
                    raise_interrupt=False,
                    rust_timeout=_BEGUN_MS,
                    yield_on_timeout=True,
                )
                next(changes, None)
                self._note_all()
                for found in changes:
                    self._note_files({Path(name) for _, name in found})
            except (OSError, RuntimeError) as error:
                log.warning("files are polled", reason=str(error))
                is_polling = True
                self._stop.wait(DEBOUNCE_S)

    def _note_all(self) -> None:
        """Have every plan looked at: nothing told of what happened before it was followed."""
        for due in self._due.values():
            due.note(time.monotonic())

    def _note_files(self, changed: set[Path]) -> None:
        for ref, path in self._paths.items():
            folders = {path, agents_folder(path)}
            is_ours = path in changed or any(not folders.isdisjoint(file.parents) for file in changed)
            if is_ours and not (ref in self._keepers and self._keepers[ref].is_as_left()):
                self._due[ref].note(time.monotonic())

    def _follow_events(self) -> None:
        """Note what the server does to tasks of our plans, however long it is away."""
        with self._connect() as client:
            while not self._stop.is_set():
                try:
                    self._note_events(client)
                except OrchestratorError as error:
                    log.warning("events are not followed", reason=str(error))
                    self._stop.wait(RETRY_S)

    def _note_events(self, client: Client) -> None:
        plans = {(plan := client.plan(ref)).id: (ref, plan.last_seq) for ref in self._paths}
        self._note_all()
        for event in client.watch(after=min(seq for _, seq in plans.values())):
            if self._stop.is_set():
                return
            ref, _ = plans.get(event.plan_id or 0, ("", 0))
            if ref and event.type.startswith(_TASK):
                self._due[ref].note(time.monotonic())


def run_until_signal(watcher: Watcher) -> None:
    """Keep plans in step until SIGTERM or SIGINT; only for the main thread of a process."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: watcher.stop())
    watcher.run()
